"""Ending this process so that its supervisor starts it again, for what nothing smaller cures."""

import os
import sys
from typing import NoReturn

import structlog

from contract.runtime.exit_status import ExitStatus

log = structlog.get_logger(__name__)


def exit_for_restart(reason: str) -> NoReturn:
    """End the process at once, from any thread; its threads, sockets and locks end with it.

    Args:
        reason: for the log.
    """
    log.error("ending, a new process is needed", reason=reason, exit_status=ExitStatus.RESTART)
    sys.stderr.flush()
    os._exit(ExitStatus.RESTART)
