"""The worker's journal on disk: no removal without a record, no record lost.

A file of JSON lines: a header with the journal's id, then entries, with sequence numbers without gaps. They
are on disk (fsync) before the caller goes on, are sent with every report until the controller has
acknowledged them, and only then trimmed away. A line that a crash cut short was never acted upon, so it is
dropped when the file is opened again.

Its path may name anything: only a regular file is read or written, and only one that is empty or begins as a
journal.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Annotated, Final, NamedTuple, Self
from uuid import UUID, uuid4

import structlog
from pydantic import BaseModel, Field, ValidationError

from contract.messages import Acknowledgement, DeviceIdentity, JournalEntry
from contract.runtime.files import open_regular, replacing
from contract.verdicts import Stage, Urgency
from worker.judge import Judgement
from worker.kernel.model import Identity

log = structlog.get_logger(__name__)

MAX_PENDING: Final = 10_000
"""Maximum number of unacknowledged entries: then nothing more is removed until the audit trail catches up."""

_TRIM_AFTER: Final = 1_000
_UNCONCLUDED: Final = frozenset({Stage.PLANNED, Stage.APPLIED, Stage.UNCERTAIN})
"""The stages of a removal that another one follows."""


class JournalError(Exception):
    """The journal cannot be read or written; nothing may be removed."""


class Record(NamedTuple):
    """An entry before it has a number. `id` is new, and `at` is now, unless they are given."""

    run_id: UUID
    stage: Stage
    identity: Identity
    urgency: Urgency
    network_id: str | None
    reason: str
    evidence: str
    id: UUID | None = None
    at: datetime | None = None
    scanned_by: str | None = None

    @classmethod
    def of(cls, orphan: Judgement, run_id: UUID, stage: Stage, reason: str) -> Self:
        """Make the record of an orphan at a stage."""
        device, urgency, network = orphan.device, orphan.urgency, orphan.network
        if urgency is None:
            raise ValueError(f"not an orphan: {device.identity}")
        network_id = None if network is None else network.id
        return cls(run_id, stage, device.identity, urgency, network_id, reason, device.evidence)

    @classmethod
    def read(cls, entry: JournalEntry) -> Self:
        """Make the record that an entry was written from."""
        fields = {name: getattr(entry, name) for name in cls._fields}
        return cls(**fields | {"identity": Identity.of(entry.identity)})

    def followed_by(self, stage: Stage, reason: str) -> Self:
        """Make the record of the same removal at a later stage."""
        return self._replace(stage=stage, reason=reason, id=None, at=None)

    def entry(self, sequence: int) -> JournalEntry:
        """Make the entry with this number."""
        given = {"identity": self.identity.message(), "id": self.id or uuid4()}
        return JournalEntry(
            **self._asdict() | given | {"at": self.at or datetime.now(UTC)}, sequence=sequence
        )


class _Header(BaseModel):
    """The first line. `last`: the sequence number after which the entries go on.

    Messages have numbers below 2**63: a bound that leaves half of them.
    """

    journal: UUID
    last: Annotated[int, Field(ge=0, lt=2**62)]


class _Stored(NamedTuple):
    """The content of a journal's file. `whole`: no line was cut short."""

    journal_id: UUID
    entries: list[JournalEntry]
    last: int
    whole: bool


class Journal:
    """An open journal. Not for use by two threads at once; no two processes can open one."""

    def __init__(self, path: Path, lock: FileIO, stored: _Stored) -> None:
        self.id, self._entries, self._last, _ = stored
        self.path = path
        self._lock = lock
        self._trimmable = 0
        self._file, self._size = _for_appending(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the journal at `path`, or begin a new one; also proves that it can be written.

        Raises:
            JournalError: it cannot be read or written, is not a journal, or is another process's.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Before anything is put beside it: is it ours at all?
            _read(path)
            lock_path = path.with_name(path.name + ".lock")
            used = lock_path.exists()
            lock = _locked(path, lock_path)
            stored = _read(path)
            if stored is None:
                if used or path.exists():
                    log.warning(
                        "began a new journal: entries of the old one that were not reported yet are lost",
                        journal=str(path),
                        old="empty or cut short" if path.exists() else "gone",
                    )
                stored = _Stored(uuid4(), [], 0, whole=False)
            if not stored.whole:
                _replace_file(path, stored.journal_id, stored.entries, stored.last)
            return cls(path, lock, stored)
        except OSError as error:
            raise _failure(path, "written", error) from error
        except ValidationError as error:
            left = f"{path} is not a journal of ours and was left as it is: move it away"
            raise JournalError(left) from error

    def close(self) -> None:
        self._file.close()
        self._lock.close()

    @property
    def backlog(self) -> int:
        """Number of entries that are not acknowledged. From any thread."""
        return len(self._entries)

    @property
    def full(self) -> bool:
        """Whether nothing more may be removed: too many entries are unacknowledged."""
        return self.backlog >= MAX_PENDING

    def pending(self, limit: int) -> Sequence[JournalEntry]:
        """The oldest entries that are not acknowledged, in order."""
        return self._entries[:limit]

    def unconcluded(self) -> list[Record]:
        """Plans without an outcome, and outcomes that no later look was compared with, in order."""
        found: dict[tuple[UUID, DeviceIdentity], JournalEntry] = {}
        for entry in self._entries:
            key = (entry.run_id, entry.identity)
            if entry.stage in _UNCONCLUDED:
                found[key] = entry
            elif entry.stage is not Stage.DETECTED:
                found.pop(key, None)
        return [Record.read(entry)._replace(id=None, at=None) for entry in found.values()]

    def append(self, records: Iterable[Record]) -> None:
        """Write records and make sure they are on disk, all in one fsync.

        Raises:
            JournalError: they could not be written; then none of them counts.
        """
        entries = [
            record.entry(sequence) for sequence, record in enumerate(records, self._last + 1)
        ]
        if not entries:
            return
        data = as_lines(entries)
        try:
            # Half a line, left by a write that failed, must not meet the next one.
            self._file.truncate(self._size)
            write_whole(self._file, data)
        except OSError as error:
            with contextlib.suppress(OSError):  # Else the next append does it.
                self._file.truncate(self._size)
            raise _failure(self.path, "written", error) from error
        self._size += len(data)
        self._entries.extend(entries)
        self._last = entries[-1].sequence

    def acknowledge(self, acknowledged: Acknowledgement) -> None:
        """Forget entries that the controller has stored; none, and take another id, if it has stored more.

        Raises:
            JournalError: the trimmed journal could not be written; the old one still holds.
        """
        if acknowledged.journal_id != self.id:
            return  # Of a journal that was lost.
        if acknowledged.through > self._last:
            log.warning(
                "the controller has stored journal entries that this journal does not have: this disk was "
                "restored from a backup; began a journal with another id",
                through=acknowledged.through,
                newest=self._last,
            )
            # Else its next entries would take numbers that are acknowledged already, and be forgotten.
            self.id = uuid4()
            self._rewrite(self._entries)
            return
        kept = [entry for entry in self._entries if entry.sequence > acknowledged.through]
        self._trimmable += len(self._entries) - len(kept)
        self._entries = kept
        # Rewriting costs an fsync and a rename: not for every entry, but before the file grows.
        if self._trimmable >= _TRIM_AFTER or (self._trimmable and not kept):
            self._rewrite(kept)
            self._trimmable = 0

    def _rewrite(self, entries: Sequence[JournalEntry]) -> None:
        """Replace the file by one with these entries, and go on with that; raise JournalError."""
        try:
            try:
                _replace_file(self.path, self.id, entries, self._last)
            finally:
                # Even if that failed: the name may be the new file's already.
                old = self._file
                self._file, self._size = _for_appending(self.path)
                old.close()
        except OSError as error:
            raise _failure(self.path, "trimmed", error) from error


def _failure(path: Path, action: str, error: OSError) -> JournalError:
    return JournalError(f"the journal {path} cannot be {action}: {error.strerror}")


def _read(path: Path) -> _Stored | None:
    """Read the file; None: it is not there, or has less than a header."""
    try:
        with open_regular(path, "rb") as file:
            lines = file.readall().split(b"\n")
    except FileNotFoundError:
        return None
    # What follows the last newline was cut short by a crash.
    whole, torn = lines[:-1], lines[-1]
    if not whole:
        # Empty, or the beginning of a header; else another program wrote it.
        rest = _Header(journal=UUID(int=0), last=0).model_dump_json().encode()[len(torn) :] or b"}"
        _Header.model_validate_json(torn if torn.endswith(b"}") else torn + rest)
        return None
    header = _Header.model_validate_json(whole[0])
    entries = [JournalEntry.model_validate_json(line) for line in whole[1:]]
    if entries:
        header = _Header(journal=header.journal, last=entries[-1].sequence)
    return _Stored(header.journal, entries, header.last, not torn)


def _locked(path: Path, lock_path: Path) -> FileIO:
    """Lock the journal for this process, by another file: trimming replaces the journal's."""
    lock = open_regular(lock_path, "ab")
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        used = f"the journal {path} is in use by another worker; every worker needs its own"
        raise JournalError(used) from error
    return lock


def _for_appending(path: Path) -> tuple[FileIO, int]:
    file = open_regular(path, "ab")
    return file, file.seek(0, os.SEEK_END)


def as_lines(entries: Iterable[JournalEntry]) -> bytes:
    """Return entries as lines of JSON."""
    return b"".join(entry.model_dump_json().encode() + b"\n" for entry in entries)


def write_whole(file: FileIO, data: bytes) -> None:
    """Append to a file, all of it, and wait until it is on disk; raises OSError."""
    if file.write(data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(file.fileno())


def _replace_file(path: Path, journal_id: UUID, entries: Iterable[JournalEntry], last: int) -> None:
    header = _Header(journal=journal_id, last=last).model_dump_json()
    with replacing(path) as file:
        file.write(header.encode() + b"\n" + as_lines(entries))
