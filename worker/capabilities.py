"""The capabilities of this process: raising those that its file gave it, and why it lacks one.

In the image the interpreter's file has them as permitted and not as effective, so that a container without
them starts and says what it lacks (capabilities(7): with the effective bit, execve fails).
"""

import ctypes
import os
import re
import sys
from pathlib import Path
from typing import Final

NET_BROADCAST: Final = 11
NET_ADMIN: Final = 12
"""Bits of a capability set (linux/capability.h)."""

_VERSION_3: Final = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3: sets of 64 bits, in two halves."""

_STATUS: Final = Path("/proc/thread-self/status")


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def raise_permitted() -> None:
    """Make those of our capabilities effective that are permitted: in this thread, and in those it starts.

    Without any permitted it does nothing; the first look at the kernel says what is missing.
    """
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capget(ctypes.byref(header), data) != 0:
        return
    ours = data[0].permitted & (1 << NET_ADMIN | 1 << NET_BROADCAST)
    if data[0].effective & ours != ours:
        data[0].effective |= ours
        # The kernel refuses no set within the permitted one; and then the look at the kernel says so.
        libc.capset(ctypes.byref(header), data)


def effective() -> int:
    """Return the effective capabilities of this thread, as bits."""
    return _field("CapEff")


def why_missing() -> str | None:
    """Return what keeps CAP_NET_ADMIN from this process, as a hint; None: it has it, or just is not root."""
    if effective() >> NET_ADMIN & 1:
        return None
    if not _field("CapBnd") >> NET_ADMIN & 1:
        return (
            "allow it: `docker run --cap-add NET_ADMIN --cap-add NET_BROADCAST ...`, `cap_add` of a service, "
            "or CapabilityBoundingSet of a systemd unit"
        )
    if os.geteuid() == 0 or _field("CapPrm") >> NET_ADMIN & 1 or not _from_image():
        return None
    if _field("NoNewPrivs", base=10):
        return (
            "no-new-privileges disables the capability of the image's interpreter: start the container "
            'without it (also in daemon.json), or as root: `--user 0` (`user: "0"` of the service)'
        )
    return (
        "the image's interpreter has lost its file capability, as by a copy without extended attributes: "
        'load the image again, or start it as root: `--user 0` (`user: "0"` of the service)'
    )


def _from_image() -> bool:
    """Whether the interpreter is the image's own copy, and no link to the system's."""
    return (
        sys.prefix == "/opt/vxlan-operator"
        and not (Path(sys.prefix) / "bin" / "python3").is_symlink()
    )


def _field(name: str, base: int = 16) -> int:
    found = re.search(rf"^{name}:\s*([0-9a-f]+)$", _STATUS.read_text(), re.MULTILINE)
    return int(found[1], base) if found else 0
