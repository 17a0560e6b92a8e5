"""Background threads, each of which repeats a step."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from contract.runtime.throttle import Throttle
from controller.db.engine import database_message, is_away
from controller.leadership.lease import LeaseLostError

log = structlog.get_logger(__name__)

Step = Callable[[], float]
"""Works once; returns the seconds until the next call."""

_RETRY_SECONDS: Final = 2.0
LOG_SECONDS: Final = 60.0
"""Between log lines about errors of one kind."""


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
        self._throttle = Throttle(LOG_SECONDS)
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
        name = threading.current_thread().name
        while not self._stopping.is_set():
            try:
                pause = step()
            except Exception as error:  # noqa: BLE001 -- whatever it is, this loop goes on
                log_failure(name, error, self._throttle)
                pause = _RETRY_SECONDS
            self._stopping.wait(pause)


def log_failure(name: str, error: Exception, throttle: Throttle) -> None:
    """Log an error of the step `name`, if it is time to; with a traceback if the code may be at fault."""
    text = _of_a_time(error)
    # All steps fail alike while the database is away, which may last for days.
    kind = f"{name}: {type(error).__name__}" if text is None else type(error).__name__
    if not throttle.is_due(kind):
        return
    if text is None:
        log.error("will try again", step=name, exc_info=error)
    else:
        log.warning("will try again", step=name, error=text)


def _of_a_time(error: Exception) -> str | None:
    """Return the message of an error that may be over at the next try; None: the code may be at fault."""
    # The lease was not renewed in time; or it is lost, and then the process ends.
    if isinstance(error, LeaseLostError):
        return str(error)
    if isinstance(error, SQLAlchemyError) and is_away(error):
        return database_message(error)
    return None
