"""Waiting at start for what a program needs, where it runs as a service."""

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Annotated, Final, Literal, TypeVar

import structlog
from pydantic import Field

from contract.runtime.errors import OperatorError
from contract.runtime.exit_status import ExitStatus
from contract.runtime.throttle import Throttle

log = structlog.get_logger(__name__)

LOG_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = 2.0
_INIT: Final = 1
"""Process id of a container's first process, and of nothing that a person starts."""

_T = TypeVar("_T")

WaitAtStart = Annotated[
    Literal["auto", "true", "false"],
    Field(
        description="wait at start for Docker, Redis and the database, instead of ending; auto: where "
        "systemd or a container started it, and not on a terminal"
    ),
]


class UnavailableError(OperatorError):
    """Docker, Redis or the database does not answer now: the same attempt may succeed later."""


def waits_at_start(setting: str) -> bool:
    """Whether this process waits; `setting`: a `WaitAtStart`."""
    if setting != "auto":
        return setting == "true"
    pid = os.getpid()
    # systemd sets the variable since version 248, to the id of the process that it starts itself
    # (systemd.exec(5)): unlike INVOCATION_ID, it does not count for whatever a service starts in turn.
    started_by_supervisor = pid == _INIT or os.environ.get("SYSTEMD_EXEC_PID") == str(pid)
    return started_by_supervisor and not sys.stderr.isatty()


def until_available(
    attempt: Callable[[], _T],
    *,
    waits: bool,
    tell: Callable[[UnavailableError], object] = lambda _: None,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> _T:
    """Repeat an attempt until nothing is unavailable; log that once, and then once a minute.

    Only for the main thread: while it waits, SIGTERM and SIGINT end the process with status 0.

    Args:
        waits: False: raise the first `UnavailableError`.
        tell: called after each attempt that failed.
        clock: monotonic seconds.
    """
    throttle = Throttle(LOG_SECONDS, clock)
    waited = False
    while True:
        try:
            result = attempt()
        except UnavailableError as error:
            if not waits:
                raise
            tell(error)
            if throttle.is_due():
                log.warning("waiting to start", error=error.problem, hint=error.hint)
            if not waited:
                waited = True
                _end_by_signal()
            sleep(_RETRY_SECONDS)
        else:
            if waited:
                log.info("going on with the start")
            return result


def _end_by_signal() -> None:
    """End with status 0 by SIGTERM or SIGINT, until the program sets handlers of its own.

    A container's first process has no default handlers: it would go on.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(ExitStatus.DONE))
