"""How fast the audit trail answers: pages by random filters from 10 million rows of two years, and counts.

python -m tests.benchmarks.trail_pages [--rows 10000000] [--database sqlite|postgresql]
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, text

from contract.verdicts import Stage, Urgency, Verdict
from controller.audit.queries import pages as trail
from controller.audit.queries.counts import counts
from controller.db.audit_models import AuditRow
from controller.db.engine import Database, open_database
from tests.servers import PostgresServer

NODES, NETWORKS = 200, 500
END = datetime(2026, 1, 1, tzinfo=UTC)
YEARS = timedelta(days=730)
_BATCH = 500_000

# Of 1,000 rows; what is left is the four stages of a removal that went well.
RARE = (
    (Stage.VERDICT_CHANGED, 40), (Stage.REQUESTED, 40), (Stage.FAILED, 5), (Stage.REFUSED, 3),
    (Stage.VANISHED, 3), (Stage.LINGERING, 1), (Stage.REQUEUED, 2), (Stage.UNCERTAIN, 1),
)  # fmt: skip
NOTHING = {
    "no such pair, of a node and a network with many rows": trail.Filters(
        node_id=f"node{0:021d}", network_id=f"network{1:018d}"
    ),
    "no such number, of a name that a fourth of all rows has": trail.Filters(
        name="vxlan0", ifindex=70_000
    ),
}
"""What has many rows by each filter, and none by both."""
USUAL = (Stage.DETECTED, Stage.PLANNED, Stage.APPLIED, Stage.VERIFIED)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), action="append")
    parser.add_argument("--questions", type=int, default=600)
    arguments = parser.parse_args()
    for kind in arguments.database or ("sqlite", "postgresql"):
        with _database(kind) as database:
            begin = time.perf_counter()
            fill(database, arguments.rows)
            print(f"{kind}: {arguments.rows} rows made in {time.perf_counter() - begin:.0f} s")
            measure(database, arguments.questions)


@contextmanager
def _database(kind: str) -> Iterator[Database]:
    if kind == "postgresql":
        with PostgresServer() as server:
            database = open_database(server.new_database())
            yield database
            database.close()
    else:
        with tempfile.TemporaryDirectory(prefix="vxlan-operator-trail-") as folder:
            database = open_database(f"sqlite:///{Path(folder) / 'controller.db'}")
            yield database
            database.close()


def fill(database: Database, rows: int) -> None:
    """Make the rows, in SQL."""
    indexes = sorted(AuditRow.__table__.indexes, key=lambda index: str(index.name))  # type: ignore[attr-defined]
    with database.engine.begin() as connection:
        for index in indexes:
            index.drop(connection)
    for first in range(1, rows + 1, _BATCH):
        with database.engine.begin() as connection:
            _insert(connection, first, min(first + _BATCH - 1, rows), rows)
    for index in indexes:
        with database.engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SET LOCAL statement_timeout = 0"))
                connection.execute(text("SET LOCAL maintenance_work_mem = '256MB'"))
            index.create(connection)
    # As it is after years, not after one big write.
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET statement_timeout = 0"))
            connection.execute(text("VACUUM ANALYZE audit"))
        else:
            connection.execute(text("COMMIT"))
            connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))


def _insert(connection: Connection, first: int, last: int, rows: int) -> None:
    """Rows `first` to `last` of `rows`: an event (a device on a node) is four rows, a run three events."""
    sqlite = connection.dialect.name == "sqlite"
    begin = (END - YEARS).timestamp()
    # Storms: 40 rows have the same time.
    seconds = f"{begin} + {YEARS.total_seconds()} * (n / 40 * 40) / {rows}"
    if sqlite:
        series = (
            "WITH RECURSIVE s(n) AS "
            f"(SELECT {first} UNION ALL SELECT n + 1 FROM s WHERE n < {last})"
        )
        moment = f"strftime('%Y-%m-%d %H:%M:%f', {seconds}, 'unixepoch') || '000'"
        unique, run = (
            "printf('%032x', n)",
            "printf('%08x%024x', n / 12 * 2654435761 % 4294967296, n / 12)",
        )
        name = "CASE WHEN place THEN 'vxlan0' ELSE printf('vx-%06x-abcde', 4096 + network) END"
        hash_ = "zeroblob(32)"
        node_id, network_id = "printf('node%021d', node)", "printf('network%018d', network)"
        node_name, network_name = "printf('node-%d', node)", "printf('network-%d', network)"
    else:
        series = f"WITH s AS (SELECT n::bigint FROM generate_series({first}, {last}) n)"
        moment = f"to_timestamp({seconds})"
        unique = "lpad(to_hex(n), 32, '0')::uuid"
        run = (
            "(lpad(to_hex(n / 12 * 2654435761 % 4294967296), 8, '0') || "
            "lpad(to_hex(n / 12), 24, '0'))::uuid"
        )
        name = (
            "CASE WHEN place THEN 'vxlan0' "
            "ELSE 'vx-' || lpad(to_hex(4096 + network), 6, '0') || '-abcde' END"
        )
        hash_ = "decode(repeat('00', 32), 'hex')"
        node_id = "'node' || lpad(node::text, 21, '0')"
        network_id = "'network' || lpad(network::text, 18, '0')"
        node_name, network_name = "'node-' || node", "'network-' || network"
    below, stages = 0, ""
    for stage, share in RARE:
        below += share
        stages += f" WHEN r4 < {below} THEN '{stage}'"
    for number, stage in enumerate(USUAL):
        stages += f" WHEN n % 4 = {number} THEN '{stage}'"
    floor = "CAST({} AS INTEGER)" if sqlite else "floor({})::int"
    # Networks lie on every fifth node only: many a pair of filters has no row at all.
    connection.execute(
        text(
            f"""
            INSERT INTO audit (id, entry_id, at, stored_at, stage, actor, node_id, node_name, network_id,
                network_name, netns, ifindex, name, vni, port, verdict, urgency, reason, evidence, run_id,
                worker_version, position, hash)
            {series},
            random AS (
                SELECT n, n / 4 * 2654435761 % 4294967296 / 4294967296.0 AS r1,
                    n / 4 * 1103515245 % 2147483647 / 2147483647.0 AS r2,
                    n / 4 * 69069 % 1000003 % 1000 AS r3, n * 16807 % 2147483647 % 1000 AS r4 FROM s
            ),
            chosen AS (
                SELECT n, {floor.format(f"{NODES} * r1 * r1 * r1")} AS node,
                    {floor.format(f"{NETWORKS // 5} * r2 * r2")} AS base, r3, r4, r3 % 4 = 0 AS place
                FROM random
            ),
            whole AS (SELECT n, node, base * 5 + node % 5 AS network, r3, r4, place FROM chosen)
            SELECT n, {unique}, {moment}, {moment},
                CASE {stages} END,
                CASE WHEN r4 % 500 = 44 THEN 'alice' ELSE 'controller' END, {node_id}, {node_name},
                CASE WHEN r3 % 10 = 3 THEN NULL ELSE {network_id} END,
                CASE WHEN r3 % 10 = 3 THEN NULL ELSE {network_name} END,
                CASE WHEN place THEN 'nsid:4' ELSE 'host' END,
                n / 4 % 60000, {name}, 4096 + network, 4789,
                CASE WHEN r4 >= 40 THEN 'orphan' WHEN r4 < 4 THEN 'foreign' WHEN r4 < 5 THEN 'conflict'
                    ELSE 'in_use' END,
                CASE WHEN r4 < 40 THEN NULL WHEN r3 % 10 = 3 THEN 'unknown' WHEN r3 % 3 = 0 THEN 'blocking'
                    ELSE 'stale' END,
                'Docker''s, and has carried nothing for the grace period of 5 s; network shop is wanted on '
                    || 'this node and every task of it is rejected here',
                'DOWN, no master, no address, VXLAN flags learning proxy l2miss l3miss', {run}, '1.2.3', n,
                {hash_}
            FROM whole
            """
        )
    )


def questions(number: int) -> Iterator[tuple[str, trail.Filters]]:
    """Random filters, always the same ones, each with its names."""
    chance = random.Random(5)  # noqa: S311 -- always the same one
    for _ in range(number):
        node = int(NODES * chance.random() ** 3)
        network = int(NETWORKS / 5 * chance.random() ** 2) * 5 + (
            node % 5 if chance.random() < 0.7 else chance.randrange(5)
        )
        since = END - YEARS * chance.random()
        every = {
            "node": {"node_id": f"node{node:021d}"},
            "network": {"network_id": f"network{network:018d}"},
            "vni": {"vni": 4096 + network},
            "device": {
                "name": "vxlan0" if chance.random() < 0.3 else f"vx-{4096 + network:06x}-abcde"
            },
            "stage": {"stages": tuple(chance.sample(list(Stage), chance.choice((1, 1, 1, 2, 5))))},
            "verdict": {"verdict": chance.choice(list(Verdict))},
            "urgency": {"urgency": chance.choice(list(Urgency))},
            "actor": {"actor": chance.choice(("controller", "alice"))},
            "since": {"since": since},
            "until": {"until": since + timedelta(days=chance.choice((1, 30, 300)))},
        }
        names = sorted(chance.sample(list(every), chance.choice((0, 1, 1, 2, 2, 2, 3, 3, 4))))
        filters = trail.Filters()
        for name in names:
            filters = replace(filters, **every[name])  # type: ignore[arg-type]
        yield "+".join(names) or "none", filters


def measure(database: Database, number: int) -> None:
    """First, middle and last pages of each question; then the counts."""
    times: dict[str, list[float]] = {"first": [], "middle": [], "last": []}
    work: dict[str, list[float]] = {where: [] for where in times}
    short: list[int] = []
    slowest: list[tuple[float, str, str]] = []
    for names, filters in questions(number):
        before = {"first": None, "middle": trail.RowKey(END - YEARS / 2, 0)}
        before["last"] = _last_full(database, filters)
        for where, position in before.items():
            begin, worked = time.perf_counter(), time.process_time()
            with database.read() as session:
                page = trail.page(session, filters, position)
            took = time.perf_counter() - begin
            work[where].append(time.process_time() - worked)
            times[where].append(took)
            slowest.append((took, where, names))
            if where == "first":
                short.append(page.short)
    for where, taken in times.items():
        taken.sort()
        print(
            f"  {where} page of 100: median {statistics.median(taken) * 1000:.1f} ms, "
            f"p95 {taken[int(len(taken) * 0.95)] * 1000:.1f}, slowest {taken[-1] * 1000:.1f}; "
            f"p95 of this process's own work {sorted(work[where])[int(len(taken) * 0.95)] * 1000:.1f}"
        )
    print(f"  first pages that were cut short: {sum(short)} of {len(short)}")
    for took, where, names in sorted(slowest, reverse=True)[:12]:
        print(f"    {took * 1000:7.1f} ms  {where:6} {names}")
    for name, filters in NOTHING.items():
        begin, pages, position = time.perf_counter(), 0, None
        while pages == 0 or position is not None:
            with database.read() as session:
                page = trail.page(session, filters, position)
            assert not page.rows
            position, pages = page.next, pages + 1
        print(
            f"  {name}: {pages} pages, all together {(time.perf_counter() - begin) * 1000:.0f} ms"
        )
    for days in (30, 365, 730):
        begin = time.perf_counter()
        with database.read() as session:
            found = counts(session, END - timedelta(days=days), END)
        print(
            f"  counts of {days} days: {(time.perf_counter() - begin) * 1000:.0f} ms, "
            f"{found.removals} removals since {found.since:%Y-%m-%d}"
        )


def _last_full(database: Database, filters: trail.Filters) -> trail.RowKey | None:
    """Near the end of what matches: all but the oldest days lie before it."""
    oldest = filters.since or END - YEARS
    return trail.RowKey(oldest + (min(filters.until or END, END) - oldest) / 100, 0)


if __name__ == "__main__":
    main()
