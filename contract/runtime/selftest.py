"""Whether the consumer of a queue still consumes, judged end to end and never by TCP.

A consumer can hang although its connection is fine, or seems to be (celery issues 8030, 8091 and 10205,
kombu pull request 490): the process lives, and takes nothing from its queue any more. So a process
whose queue has been quiet puts a ping there by another connection. Whatever is taken proves that the
consumer lives, ping or not. Nothing is taken although two pings were put there: it hangs, and a new
process is the one cure that helps against every cause of it. A ping that cannot be put there proves
nothing about the consumer: the broker is away, and the consumer is to find it again by itself.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog

log = structlog.get_logger(__name__)

PINGS: Final = 2
"""So many without an answer mean a hang: one may be lost, to a flushed broker for example."""

MAX_SILENCE_SECONDS: Final = 600.0
"""Seconds to which the silence grows, doubling, while new processes do not help either."""

_MIN_PATIENCE: Final = 1.0

RECONNECT_SECONDS: Final = 35.0
"""How long a consumer may take to find a broker again that was away: more than Celery's longest pause."""

MAX_TASK_SECONDS: Final = 300.0
"""Seconds after which a task that does not end is a hang too; before that it is only long."""


class SelfTest:
    """Tests the one consumer of this process. Thread-safe; one thread calls `step`.

    Args:
        silence: seconds without anything taken from the queue after which a ping is sent; a quarter of
            it, and a second at the least, is given to each ping.
        ping: puts a message into the queue, or raises any exception.
        hung: told the reason and how often in a row this has happened; it should not return. No task
            begins while it is at work.
        failures: how often in a row it had happened before this process.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        *,
        silence: float,
        ping: Callable[[], None],
        hung: Callable[[str, int], None],
        failures: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._silence = silence
        self._ping = ping
        self._hung = hung
        self._failures = failures
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
        """Why the broker takes no messages, as the newest ping learned; None: it takes them."""
        return self._broker_error

    @property
    def passed(self) -> bool:
        """Whether the consumer is known to live: no ping has been tried since it last took something."""
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
        """Do what it is time for; return after how many seconds to come again."""
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
        """Seconds until there is something to do."""
        if self._busy:
            since, pause = self._heard_at, MAX_TASK_SECONDS
        elif self._pinged_at is None:
            longest = max(self._silence, MAX_SILENCE_SECONDS)
            since, pause = self._heard_at, min(self._silence * 2**self._failures, longest)
        else:
            since, pause = self._pinged_at, max(self._silence / 4, _MIN_PATIENCE)
            if self._was_away and self._unanswered == 1:
                pause = max(pause, RECONNECT_SECONDS)
        return since + pause - self._clock()

    def _heard(self) -> None:
        self._heard_at, self._pinged_at, self._unanswered = self._clock(), None, 0
        self._failures = 0
        self._was_away = False
        self._note(None)

    def _conclude(self) -> None:
        quiet = self._clock() - self._heard_at
        reason = (
            f"a task has not ended for {quiet:.0f} s"
            if self._busy
            else f"the consumer has taken nothing for {quiet:.0f} s, nor the {PINGS} pings in its queue"
        )
        self._failures += 1
        self._heard_at = self._pinged_at = self._clock()
        self._unanswered = 0
        self._hung(reason, self._failures)

    def _note(self, error: str | None) -> None:
        """Remember whether the broker takes messages; say so when that changes."""
        if error is not None:
            # The consumer has lost it as well, and may need a while to find it again.
            self._was_away = True
            self._unanswered = 0
        before, self._broker_error = self._broker_error, error
        if before is None and error is not None:
            log.warning("the broker takes no messages", error=error)
        elif before is not None and error is None:
            log.info("the broker takes messages again")
