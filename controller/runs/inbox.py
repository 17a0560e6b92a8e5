"""Reports between consumer and storage: those that wait are stored in one transaction.

A lone report is stored at once; where one comes after another, a batch waits for some milliseconds to be
full. Reports that wait here when the process is killed are lost, as in the broker: their runs are repeated,
and their journal entries come with the next reports.
"""

import queue
import time
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

import structlog

from controller.runs import counters

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

MAX_BATCH: Final = 20
"""Reports per transaction: a requeue waits for the transaction in progress."""

MAX_WAITING: Final = 2 * MAX_BATCH
"""Reports that wait here; further ones wait in the broker, and outlive this process."""

KEPT_SECONDS: Final = 60.0
"""Reports that cannot be stored are dropped after this time: by then their runs are lost."""

_POLL_SECONDS: Final = 1.0
_TOGETHER_SECONDS: Final = 0.02
"""For so long a batch waits to be full if the one before had several reports.

Else thousands of them come one by one, and each costs as much as a batch of them.
"""


class Inbox(Generic[_T]):
    """Hands reports from the consumer's thread to the one that stores them.

    Args:
        take: stores reports; raises if they are to be stored again.
        clock: monotonic seconds.
    """

    def __init__(
        self, take: Callable[[Sequence[_T]], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._take = take
        self._clock = clock
        self._waiting: queue.Queue[_T] = queue.Queue(MAX_WAITING)
        self._batch: list[_T] = []
        self._since = 0.0
        self._several = False
        """Whether the last batch had more than one report."""

    def put(self, report: _T) -> None:
        """Add a report; while there is no room, wait up to `KEPT_SECONDS`, then drop it."""
        try:
            self._waiting.put(report, timeout=KEPT_SECONDS)
        except queue.Full:
            counters.count_dropped(counters.NO_ROOM)
            log.error(  # noqa: TRY400 -- the code is not at fault
                "dropped a report: no room for it, because reports cannot be stored",
                seconds=KEPT_SECONDS,
            )

    def step(self) -> float:
        """Store waiting reports, or wait a second for one; return 0, the seconds until the next step.

        Raises:
            Exception: as `take` does; the reports are kept for the next step, for `KEPT_SECONDS`.
        """
        if not self._batch:
            self._gather()
        if self._batch:
            self._take_in()
        return 0.0

    def empty(self) -> None:
        """Store all waiting reports, at the end; those that cannot be stored are dropped."""
        try:
            while self._batch or not self._waiting.empty():
                self.step()
        except Exception:
            left = len(self._batch) + self._waiting.qsize()
            counters.count_dropped(counters.NOT_STORED, left)
            log.exception("dropped waiting reports", reports=left)

    def _gather(self) -> None:
        try:
            self._batch.append(self._waiting.get(timeout=_POLL_SECONDS))
            until = time.monotonic() + (_TOGETHER_SECONDS if self._several else 0.0)
            while len(self._batch) < MAX_BATCH:
                left = until - time.monotonic()
                self._batch.append(self._waiting.get(left > 0, max(left, 0.0)))
        except queue.Empty:
            pass
        self._several = len(self._batch) > 1
        self._since = self._clock()

    def _take_in(self) -> None:
        try:
            self._take(self._batch)
        except Exception:
            if self._clock() - self._since < KEPT_SECONDS:
                raise
            counters.count_dropped(counters.NOT_STORED, len(self._batch))
            log.exception("dropped reports that could not be stored", reports=len(self._batch))
        self._batch = []
