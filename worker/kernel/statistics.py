"""What this process asked of the kernel: looks and their time, and errors by kind, for the metrics."""

import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from itertools import accumulate
from typing import Final

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Upper bounds in seconds, of looks."""


class ErrorKind(StrEnum):
    """An error of route netlink. That a device or namespace is gone is none: it is an answer."""

    NOT_PERMITTED = "not_permitted"
    """CAP_NET_ADMIN is missing."""
    UNANSWERED = "unanswered"
    """The kernel's answer did not come."""
    INTERRUPTED = "interrupted"
    """The kernel's list changed during every reading."""
    EVENTS_LOST = "events_lost"
    """More link events came than a socket holds; a look follows."""
    OTHER = "other"


class Statistics:
    """Counts since the process started. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looks = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0
        self._errors: Counter[ErrorKind] = Counter()

    @contextmanager
    def look(self) -> Iterator[None]:
        """Around a look at all devices; one that fails counts, too."""
        begin = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - begin
            with self._lock:
                self._looks[bisect_left(BUCKETS, seconds)] += 1
                self._seconds += seconds

    def add_error(self, kind: ErrorKind) -> None:
        """Count an error."""
        with self._lock:
            self._errors[kind] += 1

    def looks(self) -> tuple[Sequence[int], float]:
        """Return how many looks took at most each of `BUCKETS` (last: all of them), and their seconds."""
        with self._lock:
            return tuple(accumulate(self._looks)), self._seconds

    def errors(self) -> Mapping[ErrorKind, int]:
        """Return the number of errors of each kind."""
        with self._lock:
            return {kind: self._errors[kind] for kind in ErrorKind}


statistics: Final = Statistics()
"""Of this process: whatever asks the kernel adds to it."""
