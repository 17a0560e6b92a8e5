"""Pruning and exporting: nothing leaves the database that is not in a file, and both are one chain."""

import gzip
import json
import os
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from contract.runtime.errors import OperatorError
from contract.verdicts import Stage
from controller.audit import archive, retention
from controller.audit.append import links
from controller.audit.chain import START, ChainPosition, Fault, Finding
from controller.audit.export import PrunedError, export
from controller.audit.maintenance import Maintenance
from controller.audit.retention import AuditRetention
from controller.db.audit_models import AuditAnchor
from controller.db.engine import Database
from tests.fake_clock import START as NOW
from tests.fake_clock import Clock
from tests.stored import audit as rows_of
from tests.stored import contents
from tests.trail import behind_our_back, check, head, positions, record

DAYS = 30
LATER = NOW + timedelta(days=DAYS + 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the archives go."""
    return tmp_path / "audit"


@pytest.fixture
def keeping(database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AuditRetention:
    """A retention of a month, in batches of ten rows, over 25 old rows and 5 new ones."""
    monkeypatch.setattr(retention, "ROWS", 10)
    record(database, 25)
    record(database, 5, now=LATER)
    return AuditRetention(database, days=DAYS, folder=folder)


def whole(database: Database, folder: Path) -> tuple[int, Finding | None]:
    """Check archives and database as one chain, as `vxctl audit verify` does."""
    end, rows, finding = archive.check(folder.glob("*.jsonl.gz"))
    finding = finding or check(database, end)
    return rows + len(positions(database)), finding


def test_a_prefix_is_pruned_in_batches_and_the_whole_can_still_be_checked(
    database: Database, keeping: AuditRetention, folder: Path
) -> None:
    before = {row.entry_id for row in rows_of(database)}
    assert [keeping.step(LATER) for _ in range(4)] == [10, 10, 5, 0]
    assert positions(database) == list(range(26, 34))
    assert sorted(path.name for path in folder.iterdir()) == [
        "audit-000000000001-000000000010.jsonl.gz",
        "audit-000000000011-000000000020.jsonl.gz",
        "audit-000000000021-000000000025.jsonl.gz",
    ]
    assert whole(database, folder) == (33, None)
    left = {str(row.entry_id) for row in rows_of(database)}
    archived = {
        json.loads(line).get("entry_id")
        for path in folder.iterdir()
        for line in gzip.decompress(path.read_bytes()).splitlines()
    }
    assert {str(each) for each in before} <= left | archived
    assert (folder / "audit-000000000001-000000000010.jsonl.gz").stat().st_mode & 0o077 == 0


def test_an_archive_and_its_folder_are_for_nobody_else_whatever_the_umask(
    keeping: AuditRetention, folder: Path
) -> None:
    assert not folder.exists()
    before = os.umask(0)
    try:
        keeping.step(LATER)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (archived,) = folder.iterdir()
    assert stat.S_IMODE(archived.stat().st_mode) == 0o600


def test_each_pruning_is_recorded(
    database: Database, keeping: AuditRetention, folder: Path
) -> None:
    keeping.step(LATER)
    row = next(row for row in rows_of(database) if row.stage is Stage.PRUNED)
    assert (row.actor, row.at) == ("controller", LATER)
    assert "10 rows up to position 10" in row.reason
    with database.read() as session:
        anchor = session.get_one(AuditAnchor, 10)
    assert row.evidence == f"10:{anchor.hash.hex()}"
    assert (anchor.rows, Path(anchor.archive).parent) == (10, folder)


@pytest.mark.parametrize(
    ("after", "pruned"),
    [(timedelta(days=DAYS), 0), (timedelta(days=DAYS, hours=11), 0), (timedelta(days=31), 10)],
)
def test_only_what_is_older_than_so_many_whole_days_goes(
    keeping: AuditRetention, after: timedelta, pruned: int
) -> None:
    assert keeping.step(NOW + after) == pruned


def test_it_comes_to_an_end(database: Database, keeping: AuditRetention) -> None:
    """A pruning makes a row, which is pruned when its time comes: once a day, and not for ever at once."""
    for day in range(1, 4):
        now = LATER + timedelta(days=day * (DAYS + 1))
        steps = 0
        while keeping.step(now):
            steps += 1
            assert steps < 10
        assert check(database) is None


@pytest.mark.parametrize(
    "function", ["fsync", "replace", "commit"], ids=["while writing", "before the name", "after it"]
)
def test_a_crash_at_any_point_loses_nothing_and_is_repeated_harmlessly(
    database: Database,
    keeping: AuditRetention,
    folder: Path,
    function: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class CrashError(BaseException):
        """The process is gone."""

    def crash(*_: object) -> None:
        raise CrashError

    before = contents(database)
    with monkeypatch.context() as crashing:
        if function == "fsync":
            crashing.setattr(os, "fsync", crash)
        elif function == "replace":
            crashing.setattr(Path, "replace", crash)
        else:
            crashing.setattr(retention, "append", crash)
        with pytest.raises(CrashError):
            keeping.step(LATER)
    assert contents(database) == before
    assert keeping.step(LATER) == 10
    assert whole(database, folder) == (31, None)


def test_a_batch_that_grew_after_a_crash_overlaps_and_is_still_one_chain(
    database: Database, keeping: AuditRetention, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as crashing:
        crashing.setattr(retention, "ROWS", 7)
        crashing.setattr(keeping, "_delete", lambda *_: None)
        keeping.step(LATER)
    while keeping.step(LATER):
        pass
    assert len(list(folder.iterdir())) == 4
    assert whole(database, folder) == (33, None)


def test_nothing_is_deleted_while_the_archive_cannot_be_written(
    database: Database, keeping: AuditRetention, folder: Path
) -> None:
    folder.write_text("in the way")
    before = contents(database)
    with capture_logs() as logs:
        assert keeping.step(LATER) == 0
    assert contents(database) == before
    assert "nothing is pruned" in logs[0]["event"]
    assert "AUDIT_ARCHIVE_DIRECTORY" in logs[0]["event"]
    folder.unlink()
    assert keeping.step(LATER) == 10


def test_nothing_is_deleted_of_a_chain_that_was_edited(
    database: Database, keeping: AuditRetention, folder: Path
) -> None:
    behind_our_back(database, "UPDATE audit SET reason = 'nothing' WHERE position = 4")
    before = contents(database)
    with capture_logs() as logs:
        assert keeping.step(LATER) == 0
    assert contents(database) == before
    assert not folder.exists()
    assert "not intact" in logs[0]["event"]


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("DELETE FROM audit_anchors", Fault.MISSING),
        (
            "UPDATE audit_anchors SET hash = (SELECT hash FROM audit WHERE position = 27)",
            Fault.ANCHOR,
        ),
        ("UPDATE audit_anchors SET position = 26 WHERE position = 25", Fault.INSERTED),
        ("DELETE FROM audit WHERE stage = 'pruned' AND position = 33", Fault.ANCHOR),
        ("UPDATE audit SET position = 3 WHERE position = 33", Fault.INSERTED),
    ],
)
def test_an_anchor_that_does_not_fit_is_told(
    database: Database, keeping: AuditRetention, statement: str, fault: Fault
) -> None:
    while keeping.step(LATER):
        pass
    assert check(database) is None
    behind_our_back(database, statement)
    finding = check(database)
    assert finding is not None
    assert finding.fault is fault


def test_heads_that_were_kept_are_found_in_archives_and_behind(
    database: Database, keeping: AuditRetention, folder: Path
) -> None:
    with database.read() as session:
        kept = [ChainPosition(row.position, row.hash or b"") for row in links(session, 0, 30)]
    while keeping.step(LATER):
        pass
    files = list(folder.iterdir())
    assert archive.check(files, [kept[4]])[2] is None
    forged = ChainPosition(5, bytes(32))
    finding = archive.check(files, [forged])[2]
    assert finding is not None
    assert (finding.fault, finding.position) == (Fault.REWRITTEN, 5)
    assert check(database, kept[24], kept[27]) is None
    finding = check(database, kept[4])
    assert finding is not None
    assert "were pruned" in finding.detail


def spoil(path: Path, old: bytes, new: bytes) -> None:
    """Edit an archive."""
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(old, new)))


def test_an_archive_that_was_edited_or_taken_away_is_told(
    database: Database, keeping: AuditRetention, folder: Path
) -> None:
    while keeping.step(LATER):
        pass
    first, second, third = sorted(folder.iterdir())
    good = second.read_bytes()
    spoil(second, b"reason 14,", b"reason 15,")
    finding = archive.check([first, second, third])[2]
    assert finding is not None
    assert (finding.fault, finding.position) == (Fault.EDITED, 14)
    second.write_bytes(good)
    finding = archive.check([first, third])[2]
    assert finding is not None
    assert (finding.fault, finding.position) == (Fault.MISSING, 11)
    finding = whole(database, folder)[1]
    assert finding is None
    third.unlink()
    finding = whole(database, folder)[1]
    assert finding is not None
    assert finding.fault is Fault.MISSING


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no archive"),
        (b"hello\n", "no archive"),
        (b"[]\n", "no archive"),
        (b'{"after":5}\n', "no archive"),
        (b'{"after":"0:%s"}\n' % (b"00" * 32), "cut short"),
        (b'{"after":"0:%s"}\n{"rows":1}\n' % (b"00" * 32), "cut short"),
        (b'{"after":"0:%s"}\n{"rows":"x"}\n' % (b"00" * 32), "no archive"),
        (b'{"after":"0:%s"}\n{"rows":0}\n{}\n' % (b"00" * 32), "no archive"),
        (b'{"after":"0:%s"}\n{"id":1}\n' % (b"00" * 32), "no archive"),
        (b'{"after":"0:%s"}\n7\n' % (b"00" * 32), "no archive"),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_a_file_that_is_no_archive_is_told(
    tmp_path: Path, content: bytes, words: str, packed: bool
) -> None:
    path = tmp_path / ("a.jsonl.gz" if packed else "a.jsonl")
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(OperatorError, match=words):
        archive.check([path])


@pytest.mark.parametrize("size", [0, 10, 100, -1])
def test_a_compressed_file_that_was_cut_is_told(
    database: Database, keeping: AuditRetention, folder: Path, size: int
) -> None:
    keeping.step(LATER)
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(OperatorError):
        archive.check([path])


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="cannot be read"):
        archive.check([tmp_path / "nosuch"])


# Exporting.


def parsed(pieces: Iterator[bytes]) -> list[dict[str, object]]:
    """The lines of an export."""
    return [json.loads(line) for line in b"".join(pieces).splitlines()]


def test_an_export_is_an_archive(database: Database, tmp_path: Path) -> None:
    record(database, 2_500)
    path = tmp_path / "all.jsonl"
    path.write_bytes(b"".join(export(database)))
    assert archive.check([path], [head(database)]) == (head(database), 2_500, None)


def test_an_export_goes_on_where_another_ended(database: Database, tmp_path: Path) -> None:
    record(database, 10)
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    first.write_bytes(b"".join(export(database)))
    record(database, 10)
    end = ChainPosition.parse(json.loads(first.read_bytes().splitlines()[-1])["head"])
    second.write_bytes(b"".join(export(database, after=end)))
    assert archive.check([second, first]) == (head(database), 20, None)
    assert archive.check([second], [end])[2] is None, "its beginning was kept"
    finding = archive.check([second])[2]
    assert finding is not None
    assert finding.fault is Fault.MISSING


def test_an_export_of_a_span_of_time(database: Database) -> None:
    for day in range(4):
        record(database, 3, now=NOW + timedelta(days=day))
    since, until = NOW + timedelta(days=1), NOW + timedelta(days=3)
    begin, *rows, end = parsed(export(database, since=since, until=until))
    assert [row["position"] for row in rows] == [4, 5, 6, 7, 8, 9]
    assert str(begin["after"]).startswith("3:")
    assert (str(end["head"]).split(":")[0], end["rows"]) == ("9", 6)
    assert parsed(export(database, since=LATER)) == [
        {"after": str(head(database))},
        {"head": str(head(database)), "rows": 0},
    ]


def test_an_export_of_nothing(database: Database) -> None:
    assert parsed(export(database)) == [
        {"after": str(START)},
        {"head": str(START), "rows": 0},
    ]


def test_an_export_while_rows_are_pruned_breaks_off(
    database: Database, keeping: AuditRetention, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.audit.export._ROWS", 5)
    pieces = export(database)
    next(pieces)
    keeping.step(LATER)
    with pytest.raises(PrunedError):
        list(pieces)
    with pytest.raises(PrunedError):
        export(database, after=START)


# Maintenance.


def test_the_head_is_logged_at_start_and_once_a_day(database: Database, clock: Clock) -> None:
    record(database, 3)
    maintenance = Maintenance(database, None, utcnow=clock)
    with capture_logs() as logs:
        for _ in range(48):
            assert maintenance.step() == 60.0
            clock.advance(3600)
    assert [each["head"] for each in logs] == [str(head(database))] * 3


def test_maintenance_prunes_without_a_pause_until_all_is_done(
    database: Database, keeping: AuditRetention, clock: Clock
) -> None:
    clock.now = LATER
    maintenance = Maintenance(database, keeping, utcnow=clock)
    assert [maintenance.step() for _ in range(4)] == [0.0, 0.0, 0.0, 60.0]
