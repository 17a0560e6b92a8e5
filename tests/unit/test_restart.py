"""A process that ends so that its supervisor starts a new one."""

import subprocess
import sys

from contract.runtime.exit_status import ExitStatus

PROGRAM = """
import atexit, signal, threading
from contract.runtime.logs import configure_logging
from contract.runtime.restart import exit_for_restart
configure_logging()
atexit.register(signal.pause)
threading.Thread(target=exit_for_restart, args=("why",)).start()
signal.pause()
"""


def test_it_ends_from_any_thread_at_once_and_says_why() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == ExitStatus.RESTART
    (line,) = done.stderr.splitlines()
    assert '"reason": "why"' in line
    assert '"exit_status": 75' in line
