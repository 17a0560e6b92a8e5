"""The audit trail's hash chain: every edit shows, and what adds to it at once leaves it whole."""

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from contract.verdicts import Stage
from controller.audit.append import Entry, append
from controller.audit.chain import CHAINED, START, ChainPosition, Fault, Finding, link
from controller.audit.retention import AuditRetention
from controller.db.audit_models import AuditRow
from controller.db.engine import Database, open_database
from tests.fake_clock import START as NOW
from tests.fake_swarm import node, snapshot
from tests.servers import PostgresServer
from tests.stored import audit as rows_of
from tests.stored import contents, put
from tests.trail import behind_our_back, check, head, ids, positions, record

ROWS = 12
AGAIN = "INSERT INTO audit SELECT * FROM audit WHERE position = 7"

CHANGES = {
    "entry_id": {"sqlite": "lower(hex(randomblob(16)))", "postgresql": "gen_random_uuid()"},
    "at": {"sqlite": "'2030-01-01 12:00:00.000001'", "postgresql": "at + interval '1 microsecond'"},
    "stored_at": {"sqlite": "'nonsense'", "postgresql": "'infinity'"},
    "run_id": {"sqlite": "'nonsense'", "postgresql": "NULL"},
    "stage": "'bogus'",
    "hash": {"sqlite": "zeroblob(32)", "postgresql": "decode(repeat('00', 32), 'hex')"},
    "position": "position + 100",
}


def what(finding: Finding | None) -> tuple[Fault, int] | None:
    """A finding, without its words."""
    return None if finding is None else (finding.fault, finding.position)


def test_what_a_hash_covers_is_a_promise() -> None:
    says = [str(UUID(int=1)), "2030-01-01T12:00:00.000000+00:00", *[None] * 20, 1]
    assert len(says) == len(CHAINED)
    json = (
        '["00000000-0000-0000-0000-000000000001","2030-01-01T12:00:00.000000+00:00",'
        + "null," * 18
        + "1]"
    )
    assert link(START.hash, says) == hashlib.sha256(bytes(32) + json.encode()).digest(), (
        "as in 0.1.0"
    )
    says[-3] = "alice"
    claimed = json.replace(",1]", ',"alice",1]')
    assert link(START.hash, says) == hashlib.sha256(bytes(32) + claimed.encode()).digest()
    says[-3:-1] = None, "0123456789abcdef"
    vouched = json.replace(",1]", ',{"key_id":"0123456789abcdef"},1]')
    assert link(START.hash, says) == hashlib.sha256(bytes(32) + vouched.encode()).digest()


def test_a_hash_covers_all_columns_but_the_rows_number() -> None:
    assert sorted([*CHAINED, "id", "hash"]) == sorted(AuditRow.__table__.columns.keys())


@pytest.mark.parametrize("rows", [1, 5, 10_000])
def test_a_chain_that_nobody_touched_is_intact(database: Database, rows: int) -> None:
    assert check(database) is None
    record(database, ROWS)
    record(database, ROWS, now=NOW + timedelta(days=1))
    assert positions(database) == list(range(1, 2 * ROWS + 1))
    assert check(database, head(database), rows=rows) is None


@pytest.mark.parametrize("column", [*CHAINED, "hash"])
@pytest.mark.parametrize("position", [1, 7, ROWS])
def test_an_edit_of_anything_in_any_row_is_named(
    database: Database, column: str, position: int
) -> None:
    record(database, ROWS)
    change = CHANGES.get(column)
    if isinstance(change, dict):
        change = change[database.engine.dialect.name]
    if change is None:
        change = "NULL" if column in ("node_id", "node_name") else None
    if column in ("node_id", "node_name", "network_name"):
        change = "'other'"
    elif column in ("ifindex", "vni", "port"):
        change = f"{column} + 1"
    elif change is None:
        change = "'other'"
    row = list(ids(database))[position - 1]
    behind_our_back(database, f"UPDATE audit SET {column} = {change} WHERE id = {row}")
    finding = check(database)
    assert finding is not None
    assert finding.position == position
    if column == "position":
        assert finding.fault in (Fault.MISSING, Fault.HEAD)
    else:
        assert (finding.fault, finding.id) == (Fault.EDITED, row)


def test_rows_that_were_deleted_are_missing(database: Database) -> None:
    record(database, ROWS)
    behind_our_back(database, "DELETE FROM audit WHERE position IN (4, 5)")
    finding = check(database)
    assert what(finding) == (Fault.MISSING, 4)
    assert finding is not None
    assert "rows 4 to 5" in finding.detail


def test_a_deletion_whose_gap_was_closed_shows_too(database: Database) -> None:
    record(database, ROWS)
    behind_our_back(
        database,
        "DELETE FROM audit WHERE position = 4",
        *(f"UPDATE audit SET position = {n - 1} WHERE position = {n}" for n in range(5, ROWS + 1)),
    )
    assert what(check(database)) == (Fault.EDITED, 4)


def test_a_row_that_was_put_in_is_named(database: Database) -> None:
    record(database, ROWS)
    columns = ", ".join(name for name in CHAINED if name not in ("position", "entry_id"))
    uuid = CHANGES["entry_id"][database.engine.dialect.name]  # type: ignore[index]
    behind_our_back(
        database,
        *(f"UPDATE audit SET position = {n + 1} WHERE position = {n}" for n in range(ROWS, 3, -1)),
        f"INSERT INTO audit ({columns}, entry_id, position, hash) "
        f"SELECT {columns}, {uuid}, 4, hash FROM audit WHERE position = 2",
    )
    finding = check(database)
    assert what(finding) == (Fault.INSERTED, 4)
    assert finding is not None
    assert finding.id == max(ids(database))


def test_rows_that_changed_places_are_named(database: Database) -> None:
    record(database, ROWS)
    behind_our_back(
        database,
        "UPDATE audit SET position = 100 WHERE position = 4",
        "UPDATE audit SET position = 4 WHERE position = 5",
        "UPDATE audit SET position = 5 WHERE position = 100",
    )
    assert what(check(database)) == (Fault.REORDERED, 4)


@pytest.mark.parametrize(
    "statement",
    [
        f"DELETE FROM audit WHERE position = {ROWS}",
        "UPDATE audit_head SET position = position + 1",
        "UPDATE audit_head SET hash = (SELECT hash FROM audit WHERE position = 3)",
        "DELETE FROM audit_head",
        "DELETE FROM audit",
    ],
)
def test_a_head_that_does_not_fit_is_told(database: Database, statement: str) -> None:
    record(database, ROWS)
    behind_our_back(database, statement)
    finding = check(database)
    assert finding is not None
    assert finding.fault is Fault.HEAD


def test_a_chain_that_was_made_anew_shows_by_a_head_that_was_kept(database: Database) -> None:
    record(database, ROWS)
    kept = head(database)
    rewritten = rows_of(database)
    behind_our_back(database, "DELETE FROM audit", "DELETE FROM audit_head")
    with database.write() as session:
        append(
            session,
            [
                Entry(
                    id=row.entry_id,
                    stage=row.stage,
                    at=row.at,
                    reason="nothing",
                    actor="controller",
                )
                for row in rewritten
            ],
            NOW,
        )
    record(database, 3, now=NOW)
    assert check(database) is None, "consistent in itself"
    assert what(check(database, kept)) == (Fault.REWRITTEN, ROWS)


def test_a_chain_that_was_cut_off_with_its_head_shows_by_a_head_that_was_kept(
    database: Database,
) -> None:
    record(database, 5)
    early = head(database)
    record(database, 5)
    late = head(database)
    behind_our_back(
        database,
        "DELETE FROM audit WHERE position > 5",
        "UPDATE audit_head SET position = 5, hash = (SELECT hash FROM audit WHERE position = 5)",
    )
    assert check(database, early) is None
    assert what(check(database, early, late)) == (Fault.MISSING, 6)


def test_a_clock_that_is_set_back_puts_no_row_before_another(database: Database) -> None:
    record(database, 1, now=NOW)
    record(database, 1, now=NOW - timedelta(days=1))
    record(database, 1, now=NOW + timedelta(days=1))
    assert [row.stored_at - NOW for row in rows_of(database)] == [
        timedelta(0),
        timedelta(0),
        timedelta(days=1),
    ]
    assert check(database) is None


# Append-only.


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET reason = 'nothing' WHERE position = 7",
        "UPDATE audit SET reason = reason",
        "UPDATE audit SET hash = NULL",
        "UPDATE audit SET position = 100 WHERE position = 7",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE position = 7",
        "UPDATE audit_anchors SET rows = 0",
        "DELETE FROM audit_anchors",
        "INSERT INTO audit_anchors SELECT 12, hash, 1, 'x', stored_at FROM audit WHERE position = 7",
        "INSERT INTO audit_anchors SELECT 99, hash, 1, 'x', stored_at FROM audit WHERE position = 7",
    ],
)
def test_the_program_itself_can_change_nothing(database: Database, statement: str) -> None:
    prepare(database)
    refused(database, statement)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE audit",
        "TRUNCATE audit_anchors",
        "TRUNCATE audit, audit_anchors, audit_head",
        f"{AGAIN} ON CONFLICT (id) DO UPDATE SET reason = 'nothing'",
    ],
)
def test_nor_in_postgresqls_other_ways(database: Database, statement: str) -> None:
    prepare(database)
    refused(database, statement)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "statement",
    [
        "REPLACE INTO audit SELECT * FROM audit WHERE position = 7",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE position = 7",
        "UPDATE OR REPLACE audit SET position = 8 WHERE position = 7",
        "UPDATE OR IGNORE audit SET reason = 'nothing' WHERE position = 7",
        "REPLACE INTO audit_anchors SELECT * FROM audit_anchors",
        f"{AGAIN} ON CONFLICT (id) DO UPDATE SET reason = 'nothing'",
    ],
)
def test_nor_in_sqlites_other_ways(database: Database, statement: str) -> None:
    prepare(database)
    refused(database, statement)


def prepare(database: Database) -> None:
    """Rows, and an anchor behind which they may go."""
    record(database, ROWS)
    with database.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO audit_anchors (position, hash, rows, archive, at) "
                "SELECT position, hash, 1, 'x', stored_at FROM audit WHERE position = 1"
            )
        )
        connection.execute(text("DELETE FROM audit WHERE position <= 1"))


def refused(database: Database, statement: str) -> None:
    """The database refuses, and nothing has changed."""
    before = contents(database)
    with pytest.raises(DBAPIError, match="append-only"), database.engine.begin() as connection:
        connection.execute(text(statement))
    assert contents(database) == before


# Several at once.

WRITER = """
import sys
from datetime import UTC, datetime
from uuid import uuid4
from controller.db.engine import open_database
from controller.runs.reports import ReportIntake
from tests.reports import believed, entry, report
from tests.stored import RESYNC
import structlog, logging
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
url, seed = sys.argv[1], int(sys.argv[2])
database = open_database(url)
intake = ReportIntake(database, resync=RESYNC, notify=lambda *_: None)
journals = [uuid4() for _ in range(4)]
for number in range(40):
    which = (seed + number) % 4
    told = report(
        node=f"n{which}",
        entries=[entry(number * 5 + each + 1) for each in range(5)],
        journal_id=journals[which],
    )
    intake.reports([believed(told)])
    intake.reports([believed(told)])
print("done")
"""


def test_processes_that_take_in_reports_at_once_make_one_unbroken_chain(
    postgres_server: PostgresServer,
) -> None:
    """Each of every node, in another order: nobody waits for somebody who waits for them."""
    url = postgres_server.new_database()
    database = open_database(url)
    put(database, snapshot(*(node(f"n{number}") for number in range(4))))
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, str(seed)], stdout=subprocess.PIPE, text=True
        )
        for seed in range(4)
    ]
    assert [each.communicate(timeout=120)[0] for each in writers] == ["done\n"] * 4
    assert positions(database) == list(range(1, 4 * 40 * 5 + 1))
    assert check(database) is None
    times = [row.stored_at for row in sorted(rows_of(database), key=lambda row: row.position)]
    assert times == sorted(times)
    database.close()


def test_a_check_while_rows_are_added_and_pruned_finds_nothing(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.audit.retention.ROWS", 20)
    keeping = AuditRetention(database, days=1, folder=tmp_path)
    record(database, 200)

    def go_on() -> None:
        for _ in range(10):
            record(database, 5, now=NOW + timedelta(days=9))
            keeping.step(NOW + timedelta(days=9))

    with ThreadPoolExecutor(1) as other:
        busy = other.submit(go_on)
        while not busy.done():
            assert check(database, rows=30) is None
        busy.result()
    assert check(database) is None
    assert len(positions(database)) == 60


def test_what_is_told_under_one_id_is_recorded_once(database: Database) -> None:
    told = Entry(id=uuid4(), stage=Stage.PAUSED, at=NOW, reason="reason", actor="ann")
    for _ in range(2):
        with database.write() as session:
            append(session, [told, told], NOW)
    assert len(rows_of(database)) == 1


@pytest.mark.parametrize(
    "given", ["", "1", "1:", "x:" + "0" * 64, "1:" + "0" * 63, "-1:" + "0" * 64]
)
def test_a_place_that_is_none(given: str) -> None:
    with pytest.raises(ValueError, match="POSITION:HASH"):
        ChainPosition.parse(given)
