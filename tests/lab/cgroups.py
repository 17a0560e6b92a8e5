"""A lab's cgroups, on cgroup v1, v2 and hybrids: removing them, and starving a process of the CPU."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import LabError
from .wait import wait_until

_PERIOD_MICROSECONDS = 100_000


def paths(cgroup: str) -> list[Path]:
    """The folders that are `cgroup`, one for each hierarchy in which it exists."""
    found = [mount / cgroup.lstrip("/") for mount in _mounts()]
    return [path for path in found if path.is_dir()]


def remove(cgroup: str, timeout: float = 60.0) -> None:
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


@contextmanager
def starved(cgroup: str, pid: int, share: float) -> Iterator[None]:
    """Give all threads of a process together only this share of one processor.

    Args:
        cgroup: below which the process is put for that time.
    """
    mount, controller = _cpu_hierarchy()
    before = mount / _cgroup_of(pid, controller).lstrip("/")
    parent = mount / cgroup.lstrip("/")
    group = parent / "starved"
    quota, period = str(int(share * _PERIOD_MICROSECONDS)), str(_PERIOD_MICROSECONDS)
    group.mkdir(parents=True)
    try:
        if controller:
            (group / "cpu.cfs_period_us").write_text(period)
            (group / "cpu.cfs_quota_us").write_text(quota)
        else:
            (parent / "cgroup.subtree_control").write_text("+cpu")
            (group / "cpu.max").write_text(f"{quota} {period}")
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        (before / "cgroup.procs").write_text(str(pid))
        wait_until(lambda: _try_remove(group), 60, f"{group} to be free of processes")


def _cpu_hierarchy() -> tuple[Path, str]:
    """Where the CPU is shared out, and the controller by whose name v1 calls it; v2 has no name."""
    for mount in _mounts():
        if (mount / "cpu.cfs_quota_us").exists():
            return mount, "cpu"
        enabled = mount / "cgroup.subtree_control"
        if enabled.exists() and "cpu" in enabled.read_text().split():
            return mount, ""
    raise LabError("no cgroup hierarchy of this machine shares out the CPU")


def _cgroup_of(pid: int, controller: str) -> str:
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, cgroup = line.split(":", 2)
        if controller in controllers.split(","):
            return cgroup
    raise LabError(f"process {pid} has no cgroup of the controller {controller!r}")


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
