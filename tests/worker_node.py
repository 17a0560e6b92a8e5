"""A worker's parts around a fake kernel, with clocks that go on when told to."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from contract.messages import (
    Acknowledgement,
    DesiredNetwork,
    JournalEntry,
    NetworkRef,
    ReconcileReport,
    Rejection,
    SwarmReading,
)
from contract.verdicts import Mode, Stage
from tests.builders import EPOCH, NODE, PORT, request
from tests.fake_kernel import FakeKernel
from worker.idle import IdleClock
from worker.journal import Journal
from worker.kernel.model import Device, Identity
from worker.memory import Memory
from worker.proof import Waits
from worker.reconcile import Reconciler

GRACE = 5.0
UNCLAIMED = 300.0
ALL_PRIORITIES = 100_000


class WorkerNode:
    """One node: its kernel, and the worker that looks at it."""

    def __init__(
        self,
        folder: Path,
        devices: Sequence[Device] = (),
        *,
        mode: Mode = Mode.ENFORCE,
        max_removals: int = 100,
    ) -> None:
        self.path = folder / "journal.jsonl"
        self.kernel = FakeKernel(devices)
        self.seconds = 0.0
        self.ahead = 0.0
        """Seconds by which the time of day is wrong."""
        self.port = PORT
        """The data path port of requests."""
        self._mode = mode
        self._max_removals = max_removals
        self.restart()

    def restart(self) -> None:
        """Let the worker die, and a new one start on the same journal."""
        self.journal = Journal.open(self.path)
        memory = Memory.open(self.path.with_name("heard.json"))
        self.clock = IdleClock(GRACE + 10, lambda: self.seconds, lambda: self.now, memory.ran_at)
        self.reconciler = Reconciler(
            node_id=NODE,
            kernel=self.kernel,
            journal=self.journal,
            clock=self.clock,
            waits=Waits(grace=GRACE, sandbox_grace=GRACE, unclaimed=UNCLAIMED),
            mode=self._mode,
            max_removals=self._max_removals,
            boot_id="this boot",
            memory=memory,
            utcnow=lambda: self.now,
        )

    @property
    def now(self) -> datetime:
        """The time of day, as this node's clock shows it."""
        return EPOCH + timedelta(seconds=self.seconds + self.ahead)

    def run(
        self,
        *,
        mode: Mode = Mode.ENFORCE,
        desired: Sequence[DesiredNetwork] = (),
        known: Sequence[NetworkRef] = (),
        acknowledged: Acknowledgement | None = None,
        max_removals: int = 1_000,
        fence: int = 0,
        reading: SwarmReading | None = None,
        rejections: Sequence[Rejection] = (),
    ) -> ReconcileReport:
        """Run a request of this moment, and by default a reading of this moment."""
        if reading is None:
            reading = SwarmReading(after=self.clock.stamp(), ready_seconds=UNCLAIMED)
        return self.reconciler.run(
            request(
                issued_at=self.now,
                mode=mode,
                port=self.port,
                desired=desired,
                known=known,
                acknowledged=acknowledged,
                max_removals=max_removals,
                fence=fence,
                reading=reading,
                rejections=rejections,
            )
        )

    def outstay(self) -> ReconcileReport:
        """Run twice, a grace period apart; return the second report."""
        self.run(mode=Mode.OBSERVE)
        self.seconds += GRACE
        return self.run()

    def entries(self) -> Sequence[JournalEntry]:
        """All that the journal holds."""
        return self.journal.pending(ALL_PRIORITIES)

    def stages(self, of: Identity | None = None) -> list[Stage]:
        """The stages that the journal holds, of one device or of all."""
        return [
            entry.stage
            for entry in self.entries()
            if of is None or Identity.of(entry.identity) == of
        ]
