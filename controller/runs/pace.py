"""`Pace`: how soon a node has the next run that its own worker asks for."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

BURST: Final = 60
"""Runs that a worker gets at once: those after each other of a storm, or while a join is under way."""
BETWEEN: Final = timedelta(seconds=1)
"""Time from one run to the next beyond that, of a node with up to `_DEVICES` devices."""
_DEVICES: Final = 400
"""A node with more of them has its runs as much less often: to take its report costs as much more."""


class Pace:
    """Bounds the runs that workers ask for, by rechecks and hints. Thread-safe.

    Each run is a row: a worker in other hands could answer each request at once, and ask for another.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._rested: dict[str, float] = {}
        """Node id to when it may have `BURST` runs at once again."""
        self._swept = 0.0

    def ran(self, node_id: str, devices: int = 0) -> None:
        """Count a run of a node that reported so many devices, also one that its worker did not ask for."""
        second = BETWEEN.total_seconds()
        between = second * max(devices / _DEVICES, 1)
        with self._lock:
            now = self._clock()
            if now - self._swept >= second:  # Not at each run: thousands of nodes may have one.
                self._rested = {node: at for node, at in self._rested.items() if at > now}
                self._swept = now
            before = max(self._rested.get(node_id, now), now)
            # What others ask for delays the worker's next run by no more than one pause.
            most = max(before, now + BURST * second + between)
            self._rested[node_id] = min(before + between, most)

    def wait(self, node_id: str) -> timedelta:
        """Return the time until a node may have another run that its worker asks for."""
        with self._lock:
            left = self._rested.get(node_id, 0.0) - self._clock()
        return max(timedelta(seconds=left) - BURST * BETWEEN, timedelta(0))
