"""Background threads, each of which repeats a step."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog

log = structlog.get_logger(__name__)

Step = Callable[[], float]
"""Works once; returns the seconds until the next call."""

_RETRY_SECONDS: Final = 2.0


def every(seconds: float, step: Callable[[], object]) -> Step:
    """A step that is repeated after `seconds`."""

    def once() -> float:
        step()
        return seconds

    return once


class Loops:
    """Threads that repeat steps until they are stopped; after an error too (the database is away, say).

    Args:
        steps: by thread name.
    """

    def __init__(self, steps: Mapping[str, Step]) -> None:
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(step,), name=name, daemon=True)
            for name, step in steps.items()
        ]

    def start(self) -> None:
        """Start all."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float) -> None:
        """Let the current steps end, for `timeout` seconds in all. Not for a step to call."""
        self._stopping.set()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _repeat(self, step: Step) -> None:
        while not self._stopping.is_set():
            try:
                pause = step()
            except Exception:
                log.exception("will try again", seconds=_RETRY_SECONDS)
                pause = _RETRY_SECONDS
            self._stopping.wait(pause)
