"""How fast reports are taken in, hash chain included; how fast the chain is verified; what an export costs.

`python -m tests.benchmarks.trail_intake [ROWS]`: the latter two on a trail of so many rows (a million).
"""

import logging
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import structlog

from contract.verdicts import Stage, Verdict
from controller.audit import verify
from controller.audit.append import Entry, append
from controller.audit.export import export
from controller.db.engine import Database, open_database
from controller.runs.inbox import MAX_BATCH
from controller.runs.reports import ReportIntake
from tests.fake_clock import START as START_TIME
from tests.fake_swarm import node, snapshot, swarm_id
from tests.reports import believed, device, entry, identity, report
from tests.servers import PostgresServer
from tests.stored import RESYNC, claim, put

NODES = 100
ENTRIES = 20
SECONDS = 20.0
BATCH = 2_000


class DurablePostgres(PostgresServer):
    """One that waits for the disk at each commit, as it does in earnest."""

    def command(self) -> Sequence[str]:
        """See `Server.command`."""
        return [word.replace("fsync=off", "fsync=on") for word in super().command()]


def main() -> None:
    """Measure, and print."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(prefix="vxlan-operator-trail-") as folder:
        with DurablePostgres() as server:
            _measure("PostgreSQL", server.new_database(), rows)
        _measure("SQLite", f"sqlite:///{Path(folder, 'controller.db')}", rows)


def _measure(kind: str, url: str, rows: int) -> None:
    database = open_database(url)
    for together in (1, MAX_BATCH):
        _take_in(kind, database, together)
    _fill(kind, database, rows)
    _verify(kind, database)
    database.close()
    # A process of its own: only so its peak of memory is the export's.
    subprocess.run([sys.executable, "-m", __spec__.name, "--export", kind, url], check=True)


def _take_in(kind: str, database: Database, together: int) -> None:
    """Reports of many nodes, each with entries of the run that it reports on; so many wait at once."""
    intake = ReportIntake(
        database, resync=RESYNC, notify=lambda *_: None, utcnow=lambda: START_TIME
    )
    put(database, snapshot(*(node(f"n{number}") for number in range(NODES))))
    names = {swarm_id(f"n{number}"): f"n{number}" for number in range(NODES)}
    stages = (Stage.DETECTED, Stage.PLANNED, Stage.APPLIED, Stage.VERIFIED)
    told, taken = 0, 0.0
    journals = {name: uuid4() for name in names.values()}
    worst = 0.0
    while taken < SECONDS:
        payloads = [
            believed(
                report(
                    claimed.run_id,
                    node=names[node_id],
                    devices=[device(number, Verdict.IN_USE) for number in range(1, 6)],
                    entries=[
                        entry(told + number + 1, stage=stages[number % 4]).model_copy(
                            update={"run_id": claimed.run_id}
                        )
                        for number in range(ENTRIES)
                    ],
                    journal_id=journals[names[node_id]],
                )
            )
            for node_id, claimed in claim(
                database, now=START_TIME + timedelta(hours=1), limit=NODES
            ).items()
        ]
        assert payloads
        for first in range(0, len(payloads), together):
            waiting = payloads[first : first + together]
            begin = time.perf_counter()
            intake.reports(waiting)
            seconds = time.perf_counter() - begin
            worst = max(worst, seconds)
            taken += seconds
            told += len(waiting) * (ENTRIES + 1)
    print(
        f"{kind}: {told / taken:.0f} rows a second for {taken:.0f} s, {together} report(s) at once, "
        f"{ENTRIES} entries a report, slowest {worst * 1000:.0f} ms"
    )


def _fill(kind: str, database: Database, rows: int) -> None:
    begin = time.perf_counter()
    now = datetime.now(UTC)
    for _ in range(rows // BATCH):
        with database.write() as session:
            append(
                session,
                [
                    Entry(
                        id=uuid4(),
                        stage=Stage.APPLIED,
                        at=now,
                        reason="carries nothing since 5.0 s: DOWN, no master, no address",
                        actor="controller",
                        identity=identity(number + 1),
                        verdict=Verdict.ORPHAN,
                        evidence="vxlan, id 4097, dstport 4789, learning proxy l2miss l3miss",
                        run_id=uuid4(),
                        worker_version="1.2.3",
                    )
                    for number in range(BATCH)
                ],
                now,
            )
    print(f"{kind}: {rows / (time.perf_counter() - begin):.0f} rows a second in batches of {BATCH}")


def _verify(kind: str, database: Database) -> None:
    begin, checked, slowest = time.perf_counter(), 0, 0.0
    after = None
    while True:
        asked = time.perf_counter()
        with database.read() as session:
            progress = verify.step(session, after)
        slowest = max(slowest, time.perf_counter() - asked)
        assert progress.finding is None, progress.finding
        checked += progress.checked
        after = progress.reached
        if progress.done:
            break
    seconds = time.perf_counter() - begin
    print(
        f"{kind}: {checked} rows verified, {checked / seconds:.0f} a second, slowest request "
        f"{slowest * 1000:.0f} ms"
    )


def _export(kind: str, url: str) -> None:
    database = open_database(url)

    def megabytes() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    before, size, begin = megabytes(), 0, time.perf_counter()
    for piece in export(database):
        size += len(piece)
    seconds = time.perf_counter() - begin
    print(
        f"{kind}: export of {size / 2**20:.0f} MB in {seconds:.0f} s, "
        f"resident memory {before:.0f} MB before, at most {megabytes():.0f} MB"
    )
    database.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--export"]:
        _export(sys.argv[2], sys.argv[3])
    else:
        main()
