"""What a scan leaves beside the worker's journal, and how the worker takes it over."""

import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from contract.verdicts import Stage, Urgency
from tests.builders import identity
from worker import journal as journal_module
from worker import scan_journal
from worker.journal import Journal, Record
from worker.journal_path import journal_path
from worker.scan_journal import ScanJournal, take_over, user_name
from worker.scan_output import Recorder

SCAN = UUID(int=9)
PLAN = Record(SCAN, Stage.PLANNED, identity(), Urgency.UNKNOWN, None, "about to go", "evidence")
STEPS = [PLAN.followed_by(stage, "why") for stage in (Stage.APPLIED, Stage.VERIFIED)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


@pytest.fixture
def journal(path: Path) -> Journal:
    return Journal.open(path)


def left_by_a_scan(path: Path, *records: Record, run_id: UUID = SCAN) -> Path:
    scan = ScanJournal(path, run_id)
    for record in records:
        scan.append([record])
    scan.close()
    return scan.path


def test_a_worker_takes_over_what_a_scan_did(journal: Journal, path: Path) -> None:
    journal.append([PLAN._replace(run_id=UUID(int=1))])
    left = left_by_a_scan(path, PLAN, *STEPS)
    assert stat.S_IMODE(left.stat().st_mode) == 0o600
    assert take_over(journal) == []
    assert not left.exists()
    own, *scanned = journal.pending(10)
    assert own.scanned_by is None
    assert [each.sequence for each in scanned] == [2, 3, 4]
    assert [each.stage for each in scanned] == [Stage.PLANNED, Stage.APPLIED, Stage.VERIFIED]
    assert {(each.run_id, each.scanned_by) for each in scanned} == {(SCAN, user_name())}
    journal.close()
    assert Journal.open(path).pending(10) == [own, *scanned], "as it is on disk"


def test_taking_over_twice_gives_the_same_entries(journal: Journal, path: Path) -> None:
    """The controller stores one row for an id: a worker that dies before the file is gone does no harm."""
    left = left_by_a_scan(path, PLAN, *STEPS)
    content = left.read_bytes()
    take_over(journal)
    left.write_bytes(content)
    take_over(journal)
    first, again = journal.pending(10)[:3], journal.pending(10)[3:]
    assert [(each.id, each.at) for each in first] == [(each.id, each.at) for each in again]


def test_a_plan_without_an_outcome_is_open_and_still_the_scans(
    journal: Journal, path: Path
) -> None:
    left_by_a_scan(path, PLAN)
    take_over(journal)
    (open_,) = journal.unconcluded()
    assert open_.followed_by(Stage.UNCERTAIN, "why").scanned_by == user_name()


def test_half_a_line_is_not_taken_over(journal: Journal, path: Path) -> None:
    left = left_by_a_scan(path, PLAN, STEPS[0])
    left.write_bytes(left.read_bytes()[:-20])
    assert take_over(journal) == []
    assert [each.stage for each in journal.pending(10)] == [Stage.PLANNED]


def test_a_scan_that_has_not_ended_keeps_its_file(journal: Journal, path: Path) -> None:
    scan = (
        "import sys; from pathlib import Path; from tests.unit.test_scan_journal import *\n"
        "scan = ScanJournal(Path(sys.argv[1]), SCAN); scan.append([PLAN])\n"
        "print('written', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", scan, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        assert take_over(journal) == []
        assert journal.pending(10) == []
        process.kill()
    assert take_over(journal) == []
    assert len(journal.pending(10)) == 1, "killed, it has ended"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"what is this\n", "a line is not of a scan; move the file away"),
        (b"{}\n", "a line is not of a scan; move the file away"),
    ],
)
def test_what_no_scan_wrote_stays_and_is_told(
    journal: Journal, path: Path, content: bytes, why: str
) -> None:
    strange = path.with_name(f"{path.name}.scan-{SCAN}")
    strange.write_bytes(content)
    assert take_over(journal) == [f"removals of `vxlan-worker scan` in {strange} wait: {why}"]
    assert strange.read_bytes() == content
    assert journal.pending(10) == []


def test_entries_of_no_scan_stay(journal: Journal, path: Path) -> None:
    strange = path.with_name(f"{path.name}.scan-{SCAN}")
    strange.write_bytes(journal_module.as_lines([PLAN.entry(1)]))
    (told,) = take_over(journal)
    assert "a line says not who scanned" in told
    assert journal.pending(10) == []


def test_a_link_is_not_followed(journal: Journal, path: Path, tmp_path: Path) -> None:
    left = left_by_a_scan(path, PLAN)
    elsewhere = tmp_path / "elsewhere"
    left.rename(elsewhere)
    left.symlink_to(elsewhere)
    (told,) = take_over(journal)
    assert "is a symbolic link" in told
    assert elsewhere.exists()


def test_a_full_journal_leaves_them_for_later(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = left_by_a_scan(path, PLAN)
    monkeypatch.setattr(journal_module, "MAX_PENDING", 0)
    (told,) = take_over(journal)
    assert told.endswith("wait: the journal is full")
    assert left.exists()


def test_other_files_beside_the_journal_are_left_alone(journal: Journal, path: Path) -> None:
    others = [path.with_name(name) for name in ("node.key", "other.jsonl.scan-1", "heard.json")]
    for other in others:
        other.write_text("x")
    assert take_over(journal) == []
    assert all(other.exists() for other in others)


def test_files_beyond_a_bound_wait_for_the_next_run(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_journal, "_MAX_FILES", 2)
    for number in range(3):
        left_by_a_scan(path, PLAN, run_id=UUID(int=number))
    take_over(journal)
    assert len(journal.pending(10)) == 2
    take_over(journal)
    assert len(journal.pending(10)) == 3


def test_files_that_cannot_be_taken_keep_no_later_ones_out(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_journal, "_MAX_FILES", 2)
    monkeypatch.setattr(scan_journal, "_MAX_LOOKS", 4)
    for number in range(3):
        left_by_a_scan(path, PLAN, run_id=UUID(int=number)).write_text("garbage\n")
    for number in range(3, 6):
        left_by_a_scan(path, PLAN, run_id=UUID(int=number))
    taken = []
    for _ in range(3):
        assert len(take_over(journal)) <= 3
        taken.append(len(journal.pending(10)))
    assert taken[-1] == 3, taken
    assert taken[0] <= 2, "bounded"


def test_many_files_that_cannot_be_taken_are_told_in_a_few_lines(
    journal: Journal, path: Path
) -> None:
    for number in range(300):
        path.with_name(f"{path.name}.scan-{number:03}").write_text("garbage\n")
    *some, rest = take_over(journal)
    assert len(some) == 5
    assert rest == "removals of `vxlan-worker scan` in 295 more files wait"


def test_what_a_scan_left_that_was_killed_at_its_first_removal_goes(
    journal: Journal, path: Path
) -> None:
    """It has not got its name yet, so nothing was removed that it records."""
    left = left_by_a_scan(path, PLAN, run_id=UUID(int=1))
    dead = left.rename(f"{left}.new")
    os.utime(dead, (0, 0))
    scan = (
        "import fcntl, sys; file = open(sys.argv[1], 'xb'); fcntl.lockf(file, fcntl.LOCK_EX)\n"
        "print('locked', flush=True); sys.stdin.read()"
    )
    living = path.with_name(f"{path.name}.scan-{SCAN}.new")
    with subprocess.Popen(
        [sys.executable, "-c", scan, living],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        os.utime(living, (0, 0))
        assert take_over(journal) == []
        assert not dead.exists()
        assert living.exists(), "its scan goes on"
        process.kill()
    new = path.with_name(f"{path.name}.scan-{UUID(int=2)}.new")
    new.touch()
    assert take_over(journal) == []
    assert not living.exists()
    assert new.exists(), "not locked yet"
    assert journal.pending(10) == []


def test_without_a_journal_nothing_is_left(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = Recorder(path, SCAN, named=False)
    record([PLAN])
    record.close()
    assert list(path.parent.iterdir()) == []
    assert capsys.readouterr().err == f"planned: {PLAN.identity}: about to go\n"


def test_a_named_journal_that_is_not_there_is_told(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = Recorder(path, SCAN, named=True)
    assert not record.kept
    assert capsys.readouterr().err == (
        f"warning: there is no journal {path}; the audit trail will lack these removals, so keep "
        "what is printed here\n"
    )


def test_a_journal_that_is_a_link_is_told(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.symlink_to("/dev/null")
    assert not Recorder(path, SCAN, named=False).kept
    assert f"the journal {path} is not a regular file" in capsys.readouterr().err


def test_a_disk_that_is_full_is_told_once_and_the_scan_goes_on(
    journal: Journal,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scan_journal, "write_whole", full)
    record = Recorder(path, SCAN, named=False)
    record([PLAN])
    record(STEPS)
    record.close()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["warning", "planned", "applied", "verified"]
    assert "No space left on device" in lines[0]
    assert take_over(journal) == []
    assert journal.pending(10) == []


def test_two_scans_at_once_have_a_file_each(journal: Journal, path: Path) -> None:
    scans = [ScanJournal(path, UUID(int=number)) for number in (1, 2)]
    for scan in scans:
        scan.append([PLAN])
    for scan in scans:
        scan.close()
    take_over(journal)
    assert len(journal.pending(10)) == 2


def test_who_scans_behind_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "ali\x1bce" + "x" * 200)
    assert user_name() == ("ali\\x1bce" + "x" * 200)[:100]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert not user_name().startswith("ali"), "anybody can set a variable"


def test_which_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = tmp_path / "vxlan-worker" / "journal.jsonl"
    monkeypatch.setattr("worker.journal_path._OF_THE_UNIT", unit)
    monkeypatch.delenv("VXLAN_OPERATOR_JOURNAL", raising=False)
    assert journal_path(None) == Path("/var/lib/vxlan-operator/journal.jsonl")
    unit.parent.symlink_to("private/nobody-may-look")  # As systemd makes it for a DynamicUser.
    assert journal_path(None) == unit
    monkeypatch.setenv("VXLAN_OPERATOR_JOURNAL", "/by/variable")
    assert journal_path(None) == Path("/by/variable")
    assert journal_path(Path("/given")) == Path("/given")


@pytest.mark.privileged
def test_what_root_leaves_belongs_to_the_folders_owner(path: Path) -> None:
    os.chown(path.parent, 4711, 4712)
    left = left_by_a_scan(path, PLAN)
    assert (left.stat().st_uid, left.stat().st_gid) == (4711, 4712)


def test_the_lock_is_there_before_the_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[list[str]] = []
    lockf = fcntl.lockf

    def noting(*arguments: int) -> None:
        names.append(sorted(each.name for each in path.parent.iterdir()))
        lockf(*arguments)

    monkeypatch.setattr(fcntl, "lockf", noting)
    left = left_by_a_scan(path, PLAN)
    assert names == [[f"{left.name}.new"]]
