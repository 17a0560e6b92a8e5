"""Between the consumer and the intake: reports that arrive together are taken in together.

Under load many reports wait, and a transaction for each would cost many times what it costs for all. A
report that comes alone is taken in at once. What waits here when the process ends is lost like a
message that the broker lost: its run is repeated, and its journal entries come with the next report.
"""

import queue
import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

log = structlog.get_logger(__name__)

TOGETHER: Final = 20
"""Maximum reports per transaction: three times as many cost 10 % less, and a requeue meanwhile 40 % more."""

MAX_WAITING: Final = 500
"""At most so many wait; then the queue in the broker waits."""

KEPT_SECONDS: Final = 60.0
"""For so long reports are kept that cannot be stored; by then their runs have been given up."""

_LOOK_SECONDS: Final = 1.0


class Inbox:
    """Reports on their way from one thread that puts to one that takes.

    Args:
        take: stores reports; raises what says that they may be told again.
        clock: seconds that only grow.
    """

    def __init__(
        self, take: Callable[[Sequence[str]], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._take = take
        self._clock = clock
        self._waiting: queue.Queue[str] = queue.Queue(MAX_WAITING)
        self._batch: list[str] = []
        self._since = 0.0

    def put(self, payload: str) -> None:
        """Add a report; waits while there is no room, and gives up when it has waited too long."""
        try:
            self._waiting.put(payload, timeout=KEPT_SECONDS)
        except queue.Full:
            log.error(  # noqa: TRY400 -- it is not the code that is at fault
                "dropped a report: no room for it, because reports cannot be stored",
                seconds=KEPT_SECONDS,
            )

    def step(self) -> float:
        """Take in what waits, or wait a second for it; return after how many seconds to come again.

        Raises:
            Exception: as `take` does; what it was given is kept and tried again, for a while.
        """
        if not self._batch:
            self._gather()
        if self._batch:
            self._take_in()
        return 0.0

    def empty(self) -> None:
        """Take in all that waits, at the end; what cannot be stored now is given up."""
        try:
            while self._batch or not self._waiting.empty():
                self.step()
        except Exception:
            log.exception("reports that wait are given up")

    def _gather(self) -> None:
        try:
            self._batch.append(self._waiting.get(timeout=_LOOK_SECONDS))
            while len(self._batch) < TOGETHER:
                self._batch.append(self._waiting.get_nowait())
        except queue.Empty:
            pass
        self._since = self._clock()

    def _take_in(self) -> None:
        try:
            self._take(self._batch)
        except Exception:
            if self._clock() - self._since < KEPT_SECONDS:
                raise
            log.exception("dropped reports that could not be stored", reports=len(self._batch))
        self._batch = []
