"""The node of a scenario: a fake kernel, and the real worker on it, by the scenario's clock."""

import contextlib
import errno
import io
import json
import os
from argparse import Namespace
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

from structlog.testing import capture_logs

from contract.messages import JournalEntry, ReconcileReport, ReconcileRequest
from contract.runtime.errors import OperatorError
from contract.runtime.exit_status import ExitStatus
from contract.verdicts import Mode, Stage, Urgency
from tests.builders import identity
from tests.fake_clock import Clock
from tests.fake_kernel import FakeKernel
from worker import access
from worker import scan as scan_module
from worker.idle import IdleClock
from worker.journal import MAX_PENDING, Journal, Record
from worker.judge import SANDBOX_GRACE_SECONDS
from worker.kernel.model import Device
from worker.proof import Waits
from worker.reconcile import Reconciler

_BELIEVED_GAP_SECONDS = 10.0
"""What a look may come late beyond the grace period, as `worker.agent` has it."""

_TICK = timedelta(microseconds=1)


class TickingClock(Clock):
    """Stands still but for a microsecond a reading: so that of two moments one is the later one."""

    def monotonic(self) -> float:
        """Seconds since the start."""
        self.now += _TICK
        return super().monotonic()


class WorkerKilled(BaseException):
    """The worker dies in the middle of a run."""


class NodeKernel(FakeKernel):
    """A fake kernel in which a device can change, and that `vxlan-worker scan` can close."""

    def change(self, device: Device) -> None:
        """Let a device look otherwise; it stays in its link group."""
        ifindex, group = device.identity.ifindex, self.group_of(device.identity.ifindex)
        self.put(device)
        if device.identity.netns.is_host and group:
            self._groups[ifindex] = group

    def close(self) -> None:
        """Do nothing."""


class Node:
    """The worker of one node; restarting it keeps the kernel and the journal's file.

    Attributes:
        kernel: what the worker sees and changes.
        mode, max_removals, grace, unclaimed: the worker's own settings, for its next start.
        disk_full: whether the journal cannot be written.
        padding: run id of journal entries that only fill it.
    """

    def __init__(self, node_id: str, folder: Path, clock: TickingClock) -> None:
        self.kernel = NodeKernel()
        self.mode = Mode.ENFORCE
        self.max_removals = 100
        self.grace = 5.0
        self.unclaimed = 300.0
        self.disk_full = False
        self.padding = uuid4()
        self._node_id = node_id
        self._path = folder / "journal.jsonl"
        self._clock = clock
        self._running = False
        self._at_death: bytes | None = None
        self._journal: Journal | None = None
        self.restart()

    def restart(self) -> None:
        """Start the worker, in place of the one that ran."""
        if self._journal is not None:
            self._journal.close()
        self._journal = Journal.open(self._path)
        self.idle = IdleClock(
            self.grace + _BELIEVED_GAP_SECONDS, self._clock.monotonic, self._clock
        )
        self._reconciler = Reconciler(
            node_id=self._node_id,
            kernel=self.kernel,
            journal=self._journal,
            clock=self.idle,
            waits=Waits(
                grace=self.grace,
                sandbox_grace=max(self.grace, SANDBOX_GRACE_SECONDS),
                unclaimed=self.unclaimed,
            ),
            mode=self.mode,
            max_removals=self.max_removals,
            boot_id="the scenario's boot",
            utcnow=self._clock,
        )

    def kill(self) -> None:
        """Let the worker die and be started again; in a run at this very moment."""
        if self._running:
            self._at_death = self._path.read_bytes()
            raise WorkerKilled
        self.restart()

    def run(self, request: ReconcileRequest) -> ReconcileReport | None:
        """Deliver a request; return the report, or None if the worker died over it."""
        self._running = True
        try:
            with self._disk():
                return self._reconciler.run(request)
        except WorkerKilled:
            # What it wrote while the exception went up, one that was killed would not have written.
            if self._at_death is not None:
                self._path.write_bytes(self._at_death)
            self.restart()
            return None
        finally:
            self._running = False

    @contextlib.contextmanager
    def _disk(self) -> Any:
        """A disk that is full at any moment at which the scenario says so."""
        sync = os.fsync

        def fsync(descriptor: int) -> None:
            if self.disk_full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            sync(descriptor)

        with mock.patch.object(os, "fsync", fsync):
            yield

    def fill_journal(self) -> None:
        """Write entries that no controller has acknowledged, until the journal takes no more plans."""
        assert self._journal is not None
        entry = Record(self.padding, Stage.REFUSED, identity(), Urgency.STALE, None, "-", "-")
        self._journal.append([entry] * MAX_PENDING)

    def journal(self) -> Sequence[JournalEntry]:
        """What the journal holds, less what only fills it."""
        assert self._journal is not None
        pending = self._journal.pending(2 * MAX_PENDING)
        return [each for each in pending if each.run_id != self.padding]

    def close(self) -> None:
        """End the worker."""
        if self._journal is not None:
            self._journal.close()

    def scan(
        self, *, fix: bool, remove: str | None, grace: float | None
    ) -> tuple[int, Sequence[Any]]:
        """Run `vxlan-worker scan` by hand; return its exit status and the devices that it tells.

        It has no Docker socket.
        """
        arguments = ["--output", "json", "--docker-socket", str(self._path.with_name("none"))]
        arguments += ["--fix"] if fix else []
        arguments += ["--remove", remove] if remove else []
        arguments += ["--grace-seconds", f"{grace:g}"] if grace else []
        out, time = (
            io.StringIO(),
            Namespace(monotonic=self._clock.monotonic, sleep=self._clock.advance),
        )
        idle = partial(IdleClock, now=self._clock.monotonic, utcnow=self._clock)
        with (
            mock.patch.object(access, "RouteNetlink", Namespace(open=lambda: self.kernel)),
            mock.patch.multiple(
                scan_module,
                configure_logging=lambda **_: None,
                time=time,
                IdleClock=idle,
            ),
            capture_logs(),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            try:
                status = scan_module.scan(scan_module.parser().parse_args(arguments))
            except OperatorError:
                return ExitStatus.ERROR, []
        told = json.loads(out.getvalue()) if out.getvalue() else {"devices": []}
        return status, told["devices"]
