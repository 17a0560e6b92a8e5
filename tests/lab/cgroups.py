"""Removing the cgroups that a lab's containers leave behind, on cgroup v1, v2 and hybrids."""

import os
from pathlib import Path

from .errors import LabError
from .wait import wait_until


def paths(cgroup: str) -> list[Path]:
    """The folders that are `cgroup`, one for each hierarchy in which it exists."""
    found = [mount / cgroup.lstrip("/") for mount in _mounts()]
    return [path for path in found if path.is_dir()]


def remove(cgroup: str, timeout: float = 10.0) -> None:
    """Remove `cgroup` with all below it; its processes must have been killed already."""
    if cgroup.strip("/") == "":
        raise LabError("refusing to remove the root cgroup: the lab's record is damaged")
    # A killed process leaves its cgroup a moment after the kill: EBUSY until then.
    wait_until(
        lambda: all(_try_remove(path) for path in paths(cgroup)),
        timeout,
        f"the lab's cgroups {cgroup} to be free of processes",
        state=lambda: ", ".join(map(str, paths(cgroup))),
    )


def _mounts() -> list[Path]:
    mounts = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] in ("cgroup", "cgroup2"):
            mounts.append(Path(before.split()[4]))
    return mounts


def _try_remove(top: Path) -> bool:
    # Only folders are removed: a cgroup's files go with it. Deepest first.
    for folder, _, _ in os.walk(top, topdown=False):
        try:
            Path(folder).rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True
