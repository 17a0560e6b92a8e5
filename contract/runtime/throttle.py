"""`Throttle`: lets something that repeats, such as a log line, happen once in a while."""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Final

_MAX_KEYS: Final = 200


class Throttle:
    """Tells for each key whether it is time again. Thread-safe.

    Args:
        seconds: between two times.
        clock: monotonic seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[Hashable, float] = {}

    def is_due(self, key: Hashable = None) -> bool:
        """Whether it is time; if so, the next time is counted from now."""
        with self._lock:
            now, last = self._clock(), self._last.get(key)
            if last is not None and now - last < self._seconds:
                return False
            if len(self._last) >= _MAX_KEYS:
                self._last.clear()
            self._last[key] = now
            return True
