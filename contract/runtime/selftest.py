"""Whether the consumer of a queue still consumes, judged end to end and never by TCP.

A consumer can hang although its connection is or seems fine (celery issues 8030, 8091 and 10205, kombu
pull request 490): the process lives, and takes nothing from its queue any more. So a process whose
queue has been quiet puts a ping there by another connection. Any message taken proves that the consumer
lives, ping or not. None taken in spite of two pings: it hangs, and only a new process cures every cause
of that. A ping that cannot be published proves nothing about the consumer: the broker is away, and the
consumer reconnects by itself.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog

log = structlog.get_logger(__name__)

PINGS: Final = 2
"""Unanswered pings that mean a hang: one alone may be lost, to a flushed broker for example."""

_MIN_PATIENCE_SECONDS: Final = 1.0

RECONNECT_SECONDS: Final = 35.0
"""Time for a consumer to reconnect after an outage: more than Celery's longest pause."""

MAX_TASK_SECONDS: Final = 300.0
"""A task that lasts longer hangs too."""


class SelfTest:
    """Tests the one consumer of this process. Thread-safe; one thread calls `step`.

    Args:
        silence: seconds without a message from the queue until a ping is sent; a quarter of it, but
            at least a second, is then waited for each ping.
        ping: puts a message into the queue, or raises any exception.
        hung: called with the reason; should not return. No task begins meanwhile.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        silence: float,
        ping: Callable[[], None],
        hung: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._silence = silence
        self._ping = ping
        self._hung = hung
        self._clock = clock
        self._lock = threading.Lock()
        self._heard_at = clock()
        self._pinged_at: float | None = None
        self._unanswered = 0
        self._busy = False
        self._was_away = False
        self._broker_error: str | None = None

    @property
    def broker_error(self) -> str | None:
        """The error of the newest ping; None: the broker takes messages."""
        return self._broker_error

    @property
    def passed(self) -> bool:
        """Whether the consumer is known to live: no ping was tried since it last took a message."""
        return self._pinged_at is None

    @contextmanager
    def task(self) -> Iterator[None]:
        """Around each task that the consumer runs."""
        with self._lock:
            self._busy = True
            self._heard()
        try:
            yield
        finally:
            with self._lock:
                self._busy = False
                self._heard()

    def step(self) -> float:
        """Ping or conclude, if it is time to; return the seconds until the next call."""
        with self._lock:
            if (left := self._left()) > 0:
                # A task may end long before it counts as endless, and the silence begins then.
                return min(left, self._silence)
            if self._busy or self._unanswered == PINGS:
                self._conclude()
                return self._left()
            # Counted before it is sent: its answer may be here before the sending returns.
            self._pinged_at = self._clock()
            self._unanswered += 1
        error: str | None = None
        try:
            self._ping()
        except Exception as failure:  # noqa: BLE001 -- whatever the broker's client raises
            error = str(failure) or type(failure).__name__
        with self._lock:
            self._note(error)
            return self._left()

    def _left(self) -> float:
        if self._busy:
            since, pause = self._heard_at, MAX_TASK_SECONDS
        elif self._pinged_at is None:
            since, pause = self._heard_at, self._silence
        else:
            since, pause = self._pinged_at, max(self._silence / 4, _MIN_PATIENCE_SECONDS)
            if self._was_away and self._unanswered == 1:
                pause = max(pause, RECONNECT_SECONDS)
        return since + pause - self._clock()

    def _heard(self) -> None:
        self._heard_at, self._pinged_at, self._unanswered = self._clock(), None, 0
        self._was_away = False
        self._note(None)

    def _conclude(self) -> None:
        quiet = self._clock() - self._heard_at
        reason = (
            f"a task has not ended for {quiet:.0f} s"
            if self._busy
            else f"the consumer has taken nothing for {quiet:.0f} s, nor the {PINGS} pings in its queue"
        )
        self._heard_at = self._pinged_at = self._clock()
        self._unanswered = 0
        self._hung(reason)

    def _note(self, error: str | None) -> None:
        if error is not None:
            # The consumer has lost it as well, and needs time to reconnect.
            self._was_away = True
            self._unanswered = 0
        before, self._broker_error = self._broker_error, error
        if before is None and error is not None:
            log.warning("the broker takes no messages", error=error)
        elif before is not None and error is None:
            log.info("the broker takes messages again")
