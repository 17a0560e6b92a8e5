"""`python -m tests.killed_worker POINT run`: a worker that kills itself when it comes to a point.

It is the real worker; only the methods that it passes at that point are wrapped, here and not there.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterable
from io import FileIO
from pathlib import Path
from typing import Any

from contract.verdicts import Stage
from worker import cli, journal
from worker.agent import Agent
from worker.journal import Journal, Record
from worker.kernel.rtnetlink import RouteNetlink


def die() -> None:
    """As if by `kill -9`."""
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def at_record(stage: Stage, *, after: bool) -> None:
    """Before or after the journal is given a record of this stage."""
    append = Journal.append

    def wrapped(self: Journal, records: Iterable[Record]) -> None:
        given = list(records)
        meant = any(record.stage is stage for record in given)
        if meant and not after:
            die()
        append(self, given)
        if meant:
            die()

    Journal.append = wrapped  # type: ignore[method-assign]


def in_record(stage: Stage) -> None:
    """When half of a line of this stage is on disk."""
    write = journal.write_whole

    def wrapped(file: FileIO, data: bytes) -> None:
        if b'"stage":"%s"' % stage.value.encode() in data:
            file.write(data[: len(data) // 2])
            os.fsync(file.fileno())
            die()
        write(file, data)

    journal.write_whole = wrapped


def at_deletion(*, after: bool) -> None:
    """Before or after the kernel deletes a device, or a group of them."""
    for name in ("delete", "delete_group"):
        setattr(RouteNetlink, name, _around(getattr(RouteNetlink, name), after=after))


def _around(method: Callable[..., None], *, after: bool) -> Callable[..., None]:
    def wrapped(*arguments: Any) -> None:
        if not after:
            die()
        method(*arguments)
        die()

    return wrapped


def between_deletions() -> None:
    """Before the second device is deleted."""
    delete = RouteNetlink.delete
    deleted = 0

    def wrapped(*arguments: Any) -> None:
        nonlocal deleted
        if deleted:
            die()
        delete(*arguments)
        deleted += 1

    RouteNetlink.delete = wrapped  # type: ignore[assignment,method-assign]


def at_sending(*, after: bool) -> None:
    """Before or after the report of a removal goes to the broker."""
    publish = Agent._publish

    def wrapped(self: Agent, task: str, payload: str) -> None:
        meant = '"stage":"applied"' in payload
        if meant and not after:
            die()
        publish(self, task, payload)
        if meant:
            die()

    Agent._publish = wrapped  # type: ignore[method-assign]


def in_trimming(*, after: bool) -> None:
    """Before or after the trimmed journal takes the place of the old one."""
    replace = Path.replace

    def wrapped(self: Path, target: Path) -> Path:
        if not after:
            die()
        replaced = replace(self, target)
        die()
        return replaced

    acknowledge = Journal.acknowledge

    def acknowledging(self: Journal, acknowledged: Any) -> None:
        Path.replace = wrapped  # type: ignore[assignment,method-assign]
        acknowledge(self, acknowledged)
        Path.replace = replace  # type: ignore[method-assign]

    Journal.acknowledge = acknowledging  # type: ignore[method-assign]


POINTS: dict[str, Callable[[], None]] = {
    "before the plan": lambda: at_record(Stage.PLANNED, after=False),
    "half the plan": lambda: in_record(Stage.PLANNED),
    "after the plan": lambda: at_record(Stage.PLANNED, after=True),
    "before the deletion": lambda: at_deletion(after=False),
    "between two deletions": between_deletions,
    "after the deletion": lambda: at_deletion(after=True),
    "before the outcome": lambda: at_record(Stage.APPLIED, after=False),
    "half the outcome": lambda: in_record(Stage.APPLIED),
    "after the outcome": lambda: at_record(Stage.APPLIED, after=True),
    "after the second look": lambda: at_record(Stage.VERIFIED, after=True),
    "before sending": lambda: at_sending(after=False),
    "after sending": lambda: at_sending(after=True),
    "before trimming": lambda: in_trimming(after=False),
    "after trimming": lambda: in_trimming(after=True),
}

if __name__ == "__main__":
    POINTS[sys.argv.pop(1)]()
    cli.main()
