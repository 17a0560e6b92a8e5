"""What goes on in the background: named steps, each again and again in a thread of its own."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog

log = structlog.get_logger(__name__)

Step = Callable[[], float]
"""Does something once; returns after how many seconds to do it again."""

_RETRY_SECONDS: Final = 2.0


def every(seconds: float, step: Callable[[], object]) -> Step:
    """A step that is done again after so many seconds."""

    def once() -> float:
        step()
        return seconds

    return once


class Loops:
    """Threads that repeat steps until they are stopped. An error (the database away, say) ends none.

    Args:
        steps: by name, for the log.
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
        """Let each end its step, for `timeout` seconds in all. Not for a step to call."""
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
