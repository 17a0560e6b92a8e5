"""`Dates`: of one sender's messages, in their order, whatever the clock."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Final

MAX_SKEW: Final = timedelta(minutes=5)
"""A message dated further ahead of our clock is refused."""

_TICK: Final = timedelta(microseconds=1)


class Dates:
    """Dates of one sender's messages. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest = datetime.min.replace(tzinfo=UTC)

    def next(self, now: datetime) -> datetime:
        """Return the date of the next message: now, and later than all before.

        A clock that is set back is not followed: until it is where it was, receivers would take all for older
        than what they have. Only one that was further ahead than clocks may differ is: later dates would be
        refused.

        Args:
            now: by this machine's clock.
        """
        with self._lock:
            put_right = self._newest - now > MAX_SKEW
            self._newest = now if put_right else max(now, self._newest + _TICK)
            return self._newest
