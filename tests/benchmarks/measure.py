"""Timing, and being in a network namespace of one's own."""

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

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


class Spread(NamedTuple):
    """How long something took, several times.

    Attributes:
        cpu: processor seconds of the processes started for it, each time; empty: not measured.
        load: of the machine over the last minute, when it ended.
    """

    seconds: tuple[float, ...]
    cpu: tuple[float, ...]
    load: float

    def __str__(self) -> str:
        median, worst = statistics.median(self.seconds), max(self.seconds)
        text = (
            f"{median:.2f} / {worst:.2f} s"
            if worst >= 1
            else f"{median * 1000:.1f} / {worst * 1000:.1f} ms"
        )
        if self.cpu:
            text += f", processor {statistics.median(self.cpu) * 1000:.0f} ms"
        return f"{text} (median / worst of {len(self.seconds)}; load {self.load:.1f})"


def spread(action: Callable[[], object], times: int = 5) -> Spread:
    """Time an action, after one that is not counted.

    Args:
        action: returns seconds, a float, if only a part of it counts.
    """
    action()
    taken, used = [], []
    for _ in range(times):
        before, begin = _children(), time.perf_counter()
        part = action()
        taken.append(time.perf_counter() - begin if not isinstance(part, float) else part)
        used.append(_children() - before)
    return Spread(tuple(taken), tuple(used) if any(used) else (), os.getloadavg()[0])


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
