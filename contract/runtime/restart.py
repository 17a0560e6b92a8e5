"""Ending this process so that its supervisor starts it again, for what nothing smaller cures."""

import os
import sys
from typing import Final, NoReturn

import structlog

log = structlog.get_logger(__name__)

EXIT_RESTART: Final = os.EX_TEMPFAIL
"""Exit status 75 (sysexits.h: try again later): a new process may succeed where this one did not."""


def exit_for_restart(reason: str) -> NoReturn:
    """End the process at once, from any thread, with `EXIT_RESTART`; threads, sockets and locks end with it.

    Args:
        reason: for the log.
    """
    log.error("ending, a new process is needed", reason=reason, exit_status=EXIT_RESTART)
    sys.stderr.flush()
    os._exit(EXIT_RESTART)
