"""Who has a UDP port of this network namespace: a program, or the kernel's own VXLAN devices."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from contract.runtime.text import printable

_INITIAL_PID_NAMESPACE: Final = "pid:[4026531836]"
"""PROC_PID_INIT_INO (include/linux/proc_ns.h): from there every process of the machine is seen."""


class Holders(NamedTuple):
    """What is known of the sockets with a port.

    Attributes:
        bound: whether there is any socket with the port.
        programs: the processes that have one open, as a person names them.
        all_seen: whether every process could be looked into: a socket without a process is the kernel's.
    """

    bound: bool
    programs: tuple[str, ...]
    all_seen: bool


def holders(port: int) -> Holders:
    """Look for the sockets with this port, and for the processes that have them open.

    The sockets of VXLAN devices are in /proc/net/udp as well, in some kernels with an inode (6.18) and in
    others without: only that no process has them open tells them from a program's.
    """
    inodes = {inode for bound, inode in _sockets() if bound == port}
    if not inodes:
        return Holders(bound=False, programs=(), all_seen=True)
    programs = []
    all_seen = str(Path("/proc/self/ns/pid").readlink()) == _INITIAL_PID_NAMESPACE
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if not inodes.isdisjoint(_open_sockets(process)):
                name = printable((process / "comm").read_text(errors="replace").strip())
                programs.append(f"{name} (process {process.name})")
        except (FileNotFoundError, ProcessLookupError):
            continue
        except PermissionError:
            all_seen = False
    return Holders(True, tuple(sorted(programs)), all_seen)


def _sockets() -> Iterator[tuple[int, str]]:
    """Yield port and inode of every UDP socket of this network namespace."""
    for name in ("udp", "udp6"):
        file = Path("/proc/net") / name
        if file.exists():
            for line in file.read_text().splitlines()[1:]:
                fields = line.split()
                yield int(fields[1].rpartition(":")[2], 16), fields[9]


def _open_sockets(process: Path) -> Iterator[str]:
    """Yield the inodes of the sockets that a process has open."""
    for descriptor in (process / "fd").iterdir():
        try:
            found = re.fullmatch(r"socket:\[(\d+)\]", str(descriptor.readlink()))
        except FileNotFoundError:  # closed meanwhile
            continue
        if found:
            yield found[1]
