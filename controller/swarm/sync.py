"""Keeps desired state in sync with the Swarm: decides which reading is due, and records failures.

A full reading is due as often as half of our share of the manager's time allows, but at most every
SYNC_SECONDS: in a small Swarm that is every step. The other half is for incremental readings.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from typing import Final

import structlog

from controller.conditions.model import Reason
from controller.db.engine import Database
from controller.swarm import store
from controller.swarm.budget import Budget
from controller.swarm.events import Hint, Hints
from controller.swarm.full import FullReading
from controller.swarm.incremental import IncrementalReading
from controller.swarm.manager import DockerSwarm
from controller.swarm.model import SwarmError, SwarmMovedError, SwarmNetwork
from controller.swarm.readings import Readings
from controller.swarm.rejections import Rejections
from controller.workqueue.queue import Notify

log = structlog.get_logger(__name__)

_FULL_PERIODS: Final = 5
"""At least so many between full readings: events tell what changed, and rejections are read in each."""
_BURST_SECONDS: Final = 1.0
"""Of asking, for incremental readings."""


@dataclass
class Sync:
    """One reading of the Swarm after another.

    Args:
        period, resync: minimum and maximum seconds between full readings, as far as the share allows.
        share: of the time the manager may be asked.
        recovered: called with rejected tasks that run again.
    """

    swarm: DockerSwarm
    database: Database
    _: KW_ONLY
    hints: Hints
    readings: Readings = field(default_factory=Readings)
    notify: Notify
    period: float
    resync: float
    share: float
    recovered: Callable[[Collection[str]], None] = lambda _: None
    utcnow: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.rejections = Rejections(self.database, self.notify, self.utcnow, self.recovered)
        """Also for readings of other threads."""
        parts = self.swarm, self.database, self.readings, self.rejections
        self._full = FullReading(*parts, Budget(self.share / 2, self.monotonic), self.utcnow)
        budget = Budget(self.share / 2, self.monotonic, burst=_BURST_SECONDS)
        self._incremental = IncrementalReading(
            *parts, budget, self.utcnow, self.period, self.monotonic
        )
        self._full_requested = True
        self._next_full_at = self._last_full_at = self.monotonic()
        self._postponed = False
        self._failing: str | None = None

    def networks(self) -> Mapping[str, SwarmNetwork]:
        """All overlay networks by id, as last read; empty before that."""
        return self._incremental.view.networks

    def step(self) -> bool:
        """Do the reading that is due; return whether it succeeded.

        On an error desired state stays as it was, and the reason is stored.
        """
        hint = self.hints.take()
        self._full_requested |= hint.everything
        try:
            if self._is_full_due():
                self._read_full()
            elif self._incremental.budget.wait_seconds():
                self.hints.put_back(hint)
            else:
                self._read_incremental(hint)
        except SwarmMovedError:
            self._full_requested = True
        except SwarmError as error:
            if error.elsewhere:  # At once, and the condition need not know.
                self._restart_reading()
                self.hints.add(Hint(everything=True))
            else:
                self._record_failure(error)
            return False
        return True

    def _is_full_due(self) -> bool:
        if not self._full_requested and self.monotonic() < self._next_full_at:
            return False
        wait = self._full.budget.wait_seconds()
        late = self.monotonic() + wait > self._last_full_at + self.resync
        if wait and late and not self._postponed:
            log.info("reading everything is postponed, to spare the manager", seconds=round(wait))
        self._postponed = wait > 0 and late
        return not wait

    def _read_full(self) -> None:
        before = self.database.news.count
        seconds = self._full.read(self._incremental)
        self._full_requested = False
        self._last_full_at = self.monotonic()
        pause = min(max(seconds / (self.share / 2), _FULL_PERIODS * self.period), self.resync)
        self._next_full_at = self._last_full_at + pause
        if self._failing is not None:
            log.info("the Swarm can be read again")
            self._failing = None
        if self.database.news.count != before:
            self.notify()

    def _read_incremental(self, hint: Hint) -> None:
        try:
            self._full_requested |= self._incremental.read(hint)
        except SwarmMovedError:
            raise
        except Exception:
            self.hints.put_back(hint)
            raise
        if self._incremental.may_have_changed:
            self.notify()

    def _restart_reading(self, *, keep_guard: bool = False) -> None:
        self._full_requested = True
        if not keep_guard:
            self._full.guard.reset()

    def _record_failure(self, error: SwarmError) -> None:
        if self._failing != error.reason:
            log.warning("desired state stays as it is", reason=error.reason, error=str(error))
        self._failing = error.reason
        self._restart_reading(keep_guard=error.reason == Reason.LIST_SHRUNK)
        with self.database.write() as session:
            store.note_failure(session, str(error), self.utcnow(), error.reason)
