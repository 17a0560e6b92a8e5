"""The watchdog: notices that requests stay away, finds out why, and acts.

Two causes look the same from here: this worker's consumer hangs, or no controller asks. The self-test
(`contract.runtime.selftest`) distinguishes them without any controller. A consumer that hangs needs a new
process. While it lives, and a request is overdue all the same, the worker sends a Hello: ask me.
"""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

import structlog

from contract.runtime.selftest import SelfTest

log = structlog.get_logger(__name__)

_MAX_HELLO_INTERVAL_SECONDS: Final = 600.0
_MIN_WAIT: Final = 0.05
_RETRY_SECONDS: Final = 5.0


class Watchdog:
    """A thread that tests the consumer by a `SelfTest`, and sends a Hello when a request is overdue.

    `hello` leaves a Hello with its reason for the controllers.
    """

    def __init__(
        self,
        *,
        silence: float,
        ping: Callable[[], None],
        hello: Callable[[str], None],
        hung: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._silence = silence
        self._hello = hello
        self._clock = clock
        self._test = SelfTest(silence=silence, ping=ping, hung=hung, clock=clock)
        self._lock = threading.Lock()
        self._asked_at = clock()
        self._overdue_at = self._promised_at = clock() + silence
        self._hellos = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Send a Hello, so that a worker that comes back is asked at once, and start watching."""
        self._hello("the worker has started")
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread, within `timeout` seconds, if it was started."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    @property
    def stalled(self) -> bool:
        """Whether its thread has ended by itself."""
        return not self._thread.is_alive()

    def request_times(self) -> tuple[float, float]:
        """Return the seconds since the last request (or the start), and those by which the next is late."""
        with self._lock:
            now = self._clock()
            return now - self._asked_at, max(now - self._promised_at, 0.0)

    def task(self) -> AbstractContextManager[None]:
        """Around each task that the consumer runs."""
        return self._test.task()

    def asked(self, next_within: float) -> None:
        """Note a request; the next is promised within `next_within` seconds."""
        with self._lock:
            self._asked_at = self._clock()
            self._overdue_at = self._promised_at = self._asked_at + next_within
            self._hellos = 0

    def step(self) -> float:
        """Do what is due; return the seconds until the next call."""
        left = self._test.step()
        if not self._test.passed:
            return left
        with self._lock:
            now = self._clock()
            if now >= self._overdue_at:
                pause = min(self._silence * 2**self._hellos, _MAX_HELLO_INTERVAL_SECONDS)
                self._overdue_at = now + max(pause, self._silence)
                self._hellos += 1
                self._hello(f"no request has come for {now - self._asked_at:.0f} s")
            return min(left, self._overdue_at - now)

    def _run(self) -> None:
        left = 0.0
        while not self._stopping.wait(max(left, _MIN_WAIT)):
            try:
                left = self.step()
            except Exception:
                # A watchdog that died in silence would be its worst fault.
                log.exception("the watchdog failed, going on")
                left = _RETRY_SECONDS
