"""Starting this process anew in its own place, for what nothing smaller puts right.

By `execv`: the process id stays, so no supervisor is needed and none notices; threads, sockets and
locks end, as at a crash, which everything of ours survives at any moment.
"""

import os
import sys
import time
from collections.abc import Callable
from typing import Final, NoReturn

import structlog

from contract.runtime.errors import OperatorError

log = structlog.get_logger(__name__)

_VARIABLE: Final = "VXLAN_OPERATOR_STARTED_ANEW"
"""In the environment of a process that was started anew: after how many failures in a row."""

_RETRY_SECONDS: Final = 5.0


def restart(reason: str, *, failures: int = 0) -> NoReturn:
    """Replace this process by a new one with the same arguments and environment.

    Args:
        reason: why, for the log.
        failures: how often in a row that has not helped; the new process reads it by `failures_before`.
    """
    log.error("starting anew", reason=reason, failures=failures)
    os.environ[_VARIABLE] = str(failures)
    try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 -- ourselves
    except OSError:
        # The program is gone from the disk: ending is better than staying as we are.
        log.exception("cannot start anew, ending")
        os._exit(1)


def was_restarted() -> bool:
    """Whether this process was started by `restart`: what it needs was there a moment ago."""
    return _VARIABLE in os.environ


def failures_before() -> int:
    """How often in a row starting anew had not helped, as the process before this one knew."""
    value = os.environ.get(_VARIABLE, "")
    return int(value) if value.isdecimal() and len(value) < 4 else 0


def persist(run: Callable[[], None]) -> None:
    """Run a program; what ends its first start does not end one that was started anew.

    What it needs was there a moment ago, and nobody looks at it now: it tries again and again.

    Raises:
        OperatorError: as `run` does, at the first start.
    """
    try:
        run()
    except OperatorError as error:
        if not was_restarted():
            raise
        time.sleep(_RETRY_SECONDS)
        restart(str(error), failures=failures_before())
