"""Removals of `vxlan-worker scan`, left beside the worker's journal, which takes them over.

A worker that runs holds its journal, so a scan writes a file of its own, `journal.jsonl.scan-ID`: lines as in
the journal, each plan on disk before the removal is made. It is locked until the scan ends, also if it is
killed; the worker takes it over before its next look, and so before it compares a plan with what is there.
Taking it over twice changes nothing: the controller knows entries by their ids.
"""

import fcntl
import os
import pwd
import time
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from typing import Final
from uuid import UUID

import structlog

from contract.messages import JournalEntry
from contract.runtime.files import open_regular
from contract.runtime.text import printable
from worker.journal import Journal, JournalError, Record, as_lines, write_whole

log = structlog.get_logger(__name__)

MAX_REMOVALS: Final = 2_000
"""Maximum number of removals of one scan, where there is a journal: it has room for 10,000 entries."""
_MAX_FILES: Final = 20
"""Maximum number of files that are taken over before a run."""
_MAX_LOOKS: Final = 1_000
"""Maximum number of files that are looked at then: those that cannot be taken keep no others out."""
_MAX_TOLD: Final = 5
"""Maximum number of them that are named."""
_NEW: Final = ".new"
"""Ends the name of a file that is not locked yet, and holds nothing."""
_NEW_SECONDS: Final = 60
"""Age at which such a file was left by a scan that was killed: to lock it takes no time."""
_MAX_BYTES: Final = 2**25
_MAX_NAME: Final = 100


class ScanJournal:
    """The file that one scan leaves; made with its first records.

    Attributes:
        path: the file.
    """

    def __init__(self, journal: Path, run_id: UUID) -> None:
        self.path = journal.with_name(f"{journal.name}.scan-{run_id}")
        self._scanned_by = user_name()
        self._file: FileIO | None = None
        self._written = 0

    def append(self, records: Iterable[Record]) -> None:
        """Write records, and wait until they are on disk.

        Raises:
            OSError: they could not be written.
        """
        entries = [
            record._replace(scanned_by=self._scanned_by).entry(number)
            for number, record in enumerate(records, self._written + 1)
        ]
        if self._file is None:
            self._file = self._create()
        write_whole(self._file, as_lines(entries))
        self._written += len(entries)

    def close(self) -> None:
        """End: from now on a worker may take the file over."""
        if self._file is not None:
            self._file.close()

    def _create(self) -> FileIO:
        new = self.path.with_name(self.path.name + _NEW)
        file = open_regular(new, "xb")
        try:
            # Before it has the name by which a worker knows it.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            new.rename(self.path)
        except OSError:
            file.close()
            new.unlink(missing_ok=True)
            raise
        return file


def user_name() -> str:
    """Return who runs this, as this machine says: behind sudo, who asked for it."""
    name = os.environ.get("SUDO_USER") if os.geteuid() == 0 else None
    if not name:
        try:
            name = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            name = f"uid {os.getuid()}"
    return printable(name)[:_MAX_NAME]


def take_over(journal: Journal) -> list[str]:
    """Append what scans have left to the journal; return what kept some of it from that.

    To be called before a look at the kernel.
    """
    messages: list[str] = []
    try:
        left = sorted(
            path
            for path in journal.path.parent.iterdir()
            if path.name.startswith(f"{journal.path.name}.scan-")
        )
    except OSError as error:
        return [f"removals of `vxlan-worker scan` may be unrecorded: {error}"]
    taken = 0
    for path in left[:_MAX_LOOKS]:
        if taken == _MAX_FILES:
            break
        try:
            if path.suffix == _NEW:
                _clear(path)
            else:
                taken += _take(path, journal)
        except (OSError, ValueError, JournalError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            messages.append(
                f"removals of `vxlan-worker scan` in {path} wait: {printable(str(reason))}"
            )
    if len(messages) > _MAX_TOLD:
        more = f"removals of `vxlan-worker scan` in {len(messages) - _MAX_TOLD} more files wait"
        return [*messages[:_MAX_TOLD], more]
    return messages


def _clear(path: Path) -> None:
    """Remove a file that a scan left which was killed before it could lock and name it."""
    if time.time() - path.lstat().st_mtime < _NEW_SECONDS:
        return
    with open_regular(path, "rb") as file:
        if _lock(file):
            path.unlink()


def _lock(file: FileIO) -> bool:
    """Whether no scan has the file any more."""
    try:
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _take(path: Path, journal: Journal) -> bool:
    """Take a file over; return whether its scan has ended, so that this was possible."""
    with open_regular(path, "rb") as file:
        if not _lock(file):
            return False
        data = file.read(_MAX_BYTES)
        # What follows the last newline was cut short by a crash, and not acted upon.
        lines = data.split(b"\n")[:-1]
        if len(data) == _MAX_BYTES:
            raise ValueError("it is too large for a scan's; move it away")
        entries = [_entry(line) for line in lines]
        if journal.full:
            raise JournalError("the journal is full")
        journal.append(map(Record.read, entries))
        path.unlink()
    log.info("took over the removals of a scan", entries=len(entries), file=str(path))
    return True


def _entry(line: bytes) -> JournalEntry:
    try:
        entry = JournalEntry.model_validate_json(line)
    except ValueError:
        raise ValueError("a line is not of a scan; move the file away") from None
    if entry.scanned_by is None:
        raise ValueError("a line says not who scanned; move the file away")
    return entry
