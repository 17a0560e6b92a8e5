"""The journal: no removal without a record, no record lost, whatever cuts it short."""

import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from structlog.testing import capture_logs

from contract.messages import Acknowledgement
from contract.verdicts import Stage, Urgency
from tests import reports
from tests.builders import identity
from worker import journal as module
from worker.journal import Journal, JournalError, Record
from worker.kernel.model import Identity

RUN = UUID(int=1)
ENOUGH = 10_000


def a_record(
    stage: Stage = Stage.PLANNED,
    of: Identity | None = None,
    *,
    run_id: UUID = RUN,
    entry_id: UUID | None = None,
) -> Record:
    return Record(
        run_id, stage, of or identity(), Urgency.UNKNOWN, None, "a reason", "evidence", entry_id
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.jsonl"


def sequences(journal: Journal) -> list[int]:
    return [entry.sequence for entry in journal.pending(ENOUGH)]


def acknowledgement(journal: Journal, through: int) -> Acknowledgement:
    return Acknowledgement(journal_id=journal.id, through=through)


def fail_fsync(monkeypatch: pytest.MonkeyPatch, *, after: int = 0) -> None:
    """Let fsync fail as on a full disk, after so many that succeed."""
    left = after

    def fsync(_: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)


# What it keeps.


def test_entries_survive_reopening_in_order_and_are_on_disk_before_append_returns(
    path: Path,
) -> None:
    journal = Journal.open(path)
    journal.append([a_record(), a_record(Stage.APPLIED)])
    journal.append([a_record(Stage.VERIFIED)])
    again = Journal.open(path)  # The first is not closed: as after a crash.
    assert again.id == journal.id
    assert list(again.pending(ENOUGH)) == list(journal.pending(ENOUGH))
    assert sequences(again) == [1, 2, 3]
    assert [entry.stage for entry in again.pending(2)] == [Stage.PLANNED, Stage.APPLIED]


def test_an_append_is_synced_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.open(path)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    journal.append([a_record(), a_record()])
    journal.append([])
    assert len(synced) == 1


def test_entry_ids_are_kept_if_given_and_new_otherwise(path: Path) -> None:
    journal = Journal.open(path)
    given = uuid4()
    journal.append([a_record(entry_id=given), a_record(), a_record()])
    ids = [entry.id for entry in journal.pending(ENOUGH)]
    assert ids[0] == given
    assert len(set(ids)) == 3


def test_only_its_owner_may_read_it(path: Path) -> None:
    Journal.open(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_is_acknowledged_is_forgotten_and_its_numbers_are_not_given_again(path: Path) -> None:
    journal = Journal.open(path)
    journal.append([a_record() for _ in range(5)])
    journal.acknowledge(acknowledgement(journal, 3))
    assert sequences(journal) == [4, 5]
    journal.acknowledge(acknowledgement(journal, 5))
    assert sequences(journal) == []
    again = Journal.open(path)
    again.append([a_record()])
    assert sequences(again) == [6]


def test_an_acknowledgement_of_another_journal_is_ignored(path: Path) -> None:
    journal = Journal.open(path)
    journal.append([a_record()])
    journal.acknowledge(Acknowledgement(journal_id=uuid4(), through=1))
    assert sequences(journal) == [1]


@pytest.mark.parametrize("through", [3, 4, 2**63 - 1])
def test_a_journal_that_lacks_what_was_acknowledged_goes_on_under_another_id(
    path: Path, through: int
) -> None:
    """Its disk was restored from a backup: its next entries take numbers that are acknowledged already."""
    journal = Journal.open(path)
    journal.append([a_record(), a_record()])
    old = acknowledgement(journal, through)
    with capture_logs() as said:
        journal.acknowledge(old)
    assert [(line["log_level"], line["through"], line["newest"]) for line in said] == [
        ("warning", through, 2)
    ]
    journal.append([a_record()])
    journal.acknowledge(old)
    again = Journal.open(path)
    assert sequences(journal) == sequences(again) == [1, 2, 3], "none is forgotten"
    assert journal.id == again.id != old.journal_id
    journal.acknowledge(acknowledgement(journal, 3))
    assert sequences(journal) == []


def test_the_file_stays_small_while_acknowledgements_never_quite_catch_up(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TRIM_AFTER", 10)
    journal = Journal.open(path)
    for _ in range(10):
        journal.append([a_record() for _ in range(5)])
        journal.acknowledge(acknowledgement(journal, journal.pending(ENOUGH)[-2].sequence))
    assert len(path.read_bytes().splitlines()) < 20
    assert sequences(Journal.open(path))[-1] == 50


def test_it_is_full_while_too_much_is_unacknowledged(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 3)
    journal = Journal.open(path)
    fullness = []
    for _ in range(3):
        journal.append([a_record()])
        fullness.append(journal.full)
    journal.acknowledge(acknowledgement(journal, 1))
    assert [*fullness, journal.full] == [False, False, True, False]


@pytest.mark.parametrize(
    ("stages", "left"),
    [
        ([Stage.DETECTED], Stage.PLANNED),
        ([Stage.APPLIED], Stage.APPLIED),
        ([Stage.UNCERTAIN], Stage.UNCERTAIN),
        ([Stage.VANISHED], None),
        ([Stage.REFUSED], None),
        ([Stage.FAILED], None),
        ([Stage.APPLIED, Stage.VERIFIED], None),
        ([Stage.UNCERTAIN, Stage.LINGERING], None),
    ],
)
def test_a_plan_is_unconcluded_until_its_outcome_is_verified(
    path: Path, stages: list[Stage], left: Stage | None
) -> None:
    journal = Journal.open(path)
    other = identity(ifindex=8)
    journal.append([a_record(), a_record(of=other), *map(a_record, stages)])
    found = {each.identity: each.stage for each in Journal.open(path).unconcluded()}
    assert found == {other: Stage.PLANNED} | ({} if left is None else {identity(): left})


def test_the_outcome_of_another_run_concludes_no_plan(path: Path) -> None:
    journal = Journal.open(path)
    other_run = UUID(int=2)
    journal.append(
        [
            a_record(),
            a_record(Stage.APPLIED, run_id=other_run),
            a_record(Stage.VERIFIED, run_id=other_run),
        ]
    )
    assert [each.stage for each in journal.unconcluded()] == [Stage.PLANNED]


def test_an_unconcluded_record_is_the_one_that_was_written(path: Path) -> None:
    journal = Journal.open(path)
    written = a_record(Stage.APPLIED)
    journal.append([written])
    assert journal.unconcluded() == [written._replace(id=None)]


# What goes wrong on disk.


def test_a_line_cut_short_anywhere_is_dropped_and_the_next_entry_takes_its_number(
    path: Path,
) -> None:
    journal = Journal.open(path)
    journal.append([a_record()])
    keep = path.stat().st_size
    journal.append([a_record()])
    whole = path.read_bytes()
    for size in range(keep, len(whole)):
        path.write_bytes(whole[:size])
        cut = Journal.open(path)
        assert sequences(cut) == [1]
        cut.append([a_record()])
        assert sequences(Journal.open(path)) == [1, 2]


def test_a_header_cut_short_anywhere_is_begun_anew_and_said(path: Path) -> None:
    Journal.open(path).close()
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with capture_logs() as said:
            journal = Journal.open(path)
        assert [line["log_level"] for line in said] == ["warning"]
        assert "are lost" in said[0]["event"]
        journal.append([a_record()])
        journal.close()
        assert Journal.open(path).id == journal.id


def test_a_header_of_many_entries_may_be_cut_short_too(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(f'{{"journal":"{uuid4()}","last":12345678')
    assert Journal.open(path).pending(ENOUGH) == []


def test_a_first_journal_is_nothing_to_speak_of(path: Path) -> None:
    with capture_logs() as said:
        Journal.open(path).close()
        Journal.open(path).close()
    assert said == []


def test_a_journal_that_is_gone_is_begun_anew_and_said(path: Path) -> None:
    Journal.open(path).close()
    path.unlink()
    with capture_logs() as said:
        Journal.open(path)
    assert [line["log_level"] for line in said] == ["warning"]
    assert "are lost" in said[0]["event"]


HEADER = json.dumps({"journal": str(uuid4()), "last": 0})


@pytest.mark.parametrize(
    "content",
    [
        "hello",
        "x" * 1_000_000,
        '{"journey',
        '{"journal": "5f0f2f',
        '{"journal":"5f0f2x',
        f'{{"journal":"{uuid4()}","last":-',
        f'{{"journal":"{uuid4()}","last":0}}}}',
        "\0",
        "hello\n",
        "\n",
        "[]\n",
        "5\n",
        "{}\n",
        '{"journal": 5, "last": 0}\n',
        '{"journal": "no uuid", "last": 0}\n',
        f'{{"journal": "{uuid4()}"}}\n',
        f'{{"journal": "{uuid4()}", "last": -1}}\n',
        f'{{"journal": "{uuid4()}", "last": 1e999}}\n',
        f'{{"journal": "{uuid4()}", "last": {2**62}}}\n',
        "[" * 100_000 + "\n",
        "\udcff\n",
        f"{HEADER}\n\n",
        f"{HEADER}\n{{}}\n",
        f"{HEADER}\nhello\n",
        f"{HEADER}\n{reports.entry(2**63 - 1).model_dump_json()}\n",
    ],
    ids=[
        "text without a newline",
        "a megabyte without a newline",
        "other JSON cut short",
        "other spacing cut short",
        "no hexadecimal id cut short",
        "negative last cut short",
        "more than a header cut short",
        "zero byte",
        "text",
        "empty line",
        "list",
        "number",
        "empty object",
        "id is a number",
        "id is no uuid",
        "no last",
        "negative last",
        "endless last",
        "hardly a number left",
        "deep nesting",
        "binary",
        "empty entry",
        "entry without fields",
        "text for an entry",
        "entry with the last number",
    ],
)
def test_a_file_that_is_no_journal_is_refused_and_left_as_it_was(path: Path, content: str) -> None:
    path.parent.mkdir()
    before = content.encode("utf-8", "surrogateescape")
    path.write_bytes(before)
    with pytest.raises(JournalError, match="not a journal of ours"):
        Journal.open(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path], "nothing is put beside what is not ours"


def _a_device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))  # As /dev/null.


def _a_pipe(path: Path) -> None:
    os.mkfifo(path)


def _a_link_to_a_file(path: Path) -> None:
    target = path.with_name("target")
    target.write_text("precious")
    path.symlink_to(target)


def _a_link_to_nothing(path: Path) -> None:
    path.symlink_to(path.with_name("target"))


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Kind and mode of everything in a folder, and what the files hold."""
    return {
        each.name: (each.lstat().st_mode, each.read_bytes() if each.is_file() else b"")
        for each in folder.iterdir()
    }


@pytest.mark.privileged
@pytest.mark.parametrize("make", [_a_device, _a_pipe, _a_link_to_a_file, _a_link_to_nothing])
@pytest.mark.parametrize("suffix", ["", ".lock", ".new"])
def test_what_is_no_regular_file_is_refused_and_left_as_it_was(
    path: Path, make: Callable[[Path], None], suffix: str
) -> None:
    path.parent.mkdir()
    odd = path.with_name(path.name + suffix)
    make(odd)
    before = state_of(path.parent)
    with pytest.raises(JournalError, match=f"{odd.name} is (not a regular file|a symbolic link)"):
        Journal.open(path)
    assert {name: told for name, told in state_of(path.parent).items() if name in before} == before


def test_what_a_crash_left_of_trimming_is_no_trouble(path: Path) -> None:
    Journal.open(path).close()
    path.unlink()
    path.with_name(path.name + ".new").write_text("half")
    journal = Journal.open(path)
    journal.append([a_record()])
    assert sequences(Journal.open(path)) == [1]


def test_trimming_does_not_write_through_a_link(path: Path) -> None:
    journal = Journal.open(path)
    journal.append([a_record()])
    target = path.with_name("target")
    target.write_text("precious")
    path.with_name(path.name + ".new").symlink_to(target)
    with pytest.raises(JournalError, match="symbolic link"):
        journal.acknowledge(acknowledgement(journal, 1))
    assert target.read_text() == "precious"
    journal.append([a_record()])
    assert sequences(journal) == [2]


def _a_folder_in_its_place(path: Path) -> None:
    path.mkdir(parents=True)


def _a_file_for_a_folder(path: Path) -> None:
    path.parent.write_text("")


@pytest.mark.parametrize("make", [_a_folder_in_its_place, _a_file_for_a_folder])
def test_a_place_where_no_file_can_be_is_a_journal_error(
    path: Path, make: Callable[[Path], None]
) -> None:
    make(path)
    with pytest.raises(JournalError, match="cannot be written"):
        Journal.open(path)


def test_a_journal_that_cannot_be_begun_is_told_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_fsync(monkeypatch)
    with pytest.raises(JournalError, match="No space left"):
        Journal.open(path)


def test_an_append_that_fails_counts_for_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.open(path)
    journal.append([a_record()])
    before = path.read_bytes()
    with monkeypatch.context() as full_disk:
        fail_fsync(full_disk)
        with pytest.raises(JournalError, match="No space left"):
            journal.append([a_record(), a_record()])
    assert path.read_bytes() == before
    assert sequences(journal) == [1]
    journal.append([a_record()])
    assert sequences(Journal.open(path)) == [1, 2]


def test_an_append_whose_remains_cannot_be_cut_off_does_not_spoil_the_next(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.open(path)

    class BrokenDisk:
        """A file that takes half a line and then fails at everything."""

        def __init__(self, file: FileIO) -> None:
            self._file = file

        def write(self, data: bytes) -> int:
            return self._file.write(data[: len(data) // 2])

        def truncate(self, size: int) -> int:
            if self._file.tell() > size:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return size

    with monkeypatch.context() as broken:
        broken.setattr(journal, "_file", BrokenDisk(journal._file))
        with pytest.raises(JournalError):
            journal.append([a_record()])
    journal.append([a_record()])
    assert sequences(Journal.open(path)) == [1]


@pytest.mark.parametrize("after", [0, 1], ids=["the file", "its folder"])
def test_trimming_that_cannot_be_synced_is_told_and_loses_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    journal = Journal.open(path)
    journal.append([a_record()])
    with monkeypatch.context() as full_disk:
        fail_fsync(full_disk, after=after)
        with pytest.raises(JournalError, match="cannot be trimmed"):
            journal.acknowledge(acknowledgement(journal, 1))
    journal.append([a_record()])
    assert sequences(journal) == [2]
    assert sequences(Journal.open(path))[-1] == 2, "written to the file that has the name now"


@pytest.mark.privileged
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from tests.unit.test_journal import a_record
from worker.journal import Journal, JournalError
path = Path({str(tmp_path)!r}) / "journal"
journal = Journal.open(path)
written = 0
try:
    while True:
        journal.append([a_record()])
        written += 1
except JournalError as error:
    print(error)
assert written > 10
left = len(Journal.open(path).pending(10_000))
assert left == written, (left, written)
"""
    said = subprocess.run(
        ["unshare", "--mount", "sh", "-ec",
         f'mount -t tmpfs -o size=16k tmpfs {tmp_path}; exec "$@"', "sh",
         sys.executable, "-c", script],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    assert "No space left on device" in said


# Any story.


class JournalStory(RuleBasedStateMachine):
    """Appends, acknowledgements, failing disks and crashes, against a list that forgets nothing."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "journal"
        self.journal = Journal.open(self.path)
        self.id = self.journal.id
        self.written: list[tuple[int, Stage, Identity]] = []
        self.acknowledged = 0

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(
        records=st.lists(
            st.tuples(
                st.sampled_from([Stage.PLANNED, Stage.APPLIED, Stage.VERIFIED, Stage.DETECTED]),
                st.integers(1, 3).map(lambda index: identity(ifindex=index)),
            ),
            max_size=4,
        )
    )
    def append(self, records: list[tuple[Stage, Identity]]) -> None:
        self.journal.append(a_record(stage, of) for stage, of in records)
        for stage, of in records:
            self.written.append((len(self.written) + 1, stage, of))

    @rule()
    def append_to_a_full_disk(self) -> None:
        with pytest.MonkeyPatch.context() as full_disk:
            fail_fsync(full_disk)
            with pytest.raises(JournalError):
                self.journal.append([a_record()])

    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        through = data.draw(st.integers(0, len(self.written)))
        self.journal.acknowledge(acknowledgement(self.journal, through))
        self.acknowledged = max(self.acknowledged, through)

    @precondition(lambda self: self.written)
    @rule(torn=st.binary(max_size=30).filter(lambda torn: b"\n" not in torn))
    def crash_in_an_append(self, torn: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(torn)
        self._reopen()

    @rule()
    def crash(self) -> None:
        self._reopen()

    def _reopen(self) -> None:
        self.journal.close()
        self.journal = Journal.open(self.path)
        # A crash may bring back what was acknowledged and not yet trimmed: it is sent again.
        first = self.journal.pending(1)
        self.acknowledged = first[0].sequence - 1 if first else self.acknowledged

    @invariant()
    def nothing_unacknowledged_is_lost_and_no_number_is_missing(self) -> None:
        pending = [
            (entry.sequence, entry.stage, Identity.of(entry.identity))
            for entry in self.journal.pending(ENOUGH)
        ]
        assert pending == self.written[self.acknowledged :]
        assert self.journal.id == self.id

    @invariant()
    def unconcluded_are_the_plans_and_the_outcomes_without_a_second_look(self) -> None:
        found = {
            of: stage
            for _, stage, of in self.written[self.acknowledged :]
            if stage is not Stage.DETECTED
        }
        assert {each.identity: each.stage for each in self.journal.unconcluded()} == {
            of: stage for of, stage in found.items() if stage is not Stage.VERIFIED
        }


JournalStory.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
test_any_story_of_a_journal = JournalStory.TestCase


@pytest.mark.privileged
def test_a_journal_on_a_disk_that_is_read_only_is_told(tmp_path: Path) -> None:
    path = tmp_path / "state" / "journal.jsonl"
    Journal.open(path).close()
    before = path.read_bytes()
    open_it = (
        "from pathlib import Path; from worker.journal import *\n"
        f"try: Journal.open(Path({str(path)!r}))\n"
        "except JournalError as error: print(error)"
    )
    mount = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && exec "$2" -c "$3"'
    command = ["unshare", "--mount", "sh", "-c", mount, "sh", str(path.parent)]
    command += [sys.executable, open_it]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "cannot be written" in said
    assert "Read-only file system" in said
    assert path.read_bytes() == before


@pytest.mark.privileged
def test_a_journal_of_somebody_else_is_told_and_left_as_it_was() -> None:
    """To a worker that is not root."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        path = Path(name) / "state" / "journal.jsonl"
        Journal.open(path).close()
        for mode in (0o700, 0o777):  # Of its folder.
            path.parent.chmod(mode)
            before = state_of(path.parent)
            child = os.fork()
            if child == 0:
                os.setuid(65534)
                try:
                    Journal.open(path)
                except JournalError as error:
                    os._exit(7 if "Permission denied" in str(error) else 8)
                os._exit(9)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            assert state_of(path.parent) == before
