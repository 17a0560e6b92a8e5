"""Memory that threads have freed does not pile up in an arena of each."""

import subprocess
import sys

from controller.process.arenas import ARENAS

_THREADS = """
import ctypes, threading
from controller.process.arenas import bound_arenas
bound_arenas()
barrier = threading.Barrier(6)
threads = [threading.Thread(target=barrier.wait) for _ in range(5)]
for thread in threads:
    thread.start()
ctypes.CDLL(None).malloc_stats()
barrier.wait()
"""


def test_threads_share_arenas() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _THREADS], capture_output=True, text=True, check=True
    )
    assert done.stderr.count("Arena ") == ARENAS
