"""Timing, and being in a network namespace of one's own."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

_INSIDE = "VXLAN_BENCHMARK_INSIDE"


def median_seconds(action: Callable[[], object], times: int = 9) -> float:
    """The median time of an action, after one that is not counted."""
    action()
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        action()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def in_own_namespace(module: str) -> bool:
    """Whether this process is in a network namespace of its own; else runs the module in one."""
    if os.environ.get(_INSIDE) == module:
        return True
    if os.geteuid() != 0:
        sys.exit("needs root: network namespaces")
    subprocess.run(
        ["unshare", "--net", "--mount", "--", sys.executable, "-m", module],
        env={**os.environ, _INSIDE: module},
        check=True,
    )
    return False


def ip(*lines: str) -> None:
    """Run `ip -batch`."""
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True)
