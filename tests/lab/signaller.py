"""The process that waits for a moment and signals dockerd; `LinkSignal` starts it in a node's namespace.

Between the kernel's message and dockerd's next step may lie a few microseconds. So all threads of
dockerd are put on one processor, together with this process, which has a higher priority: the
message wakes it, and dockerd does not go on before the signal is there.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from .link_signal import READY, Link, Moment

_LIFETIME = 120
_PRIORITY = 50
_RECEIVE_BYTES = 65536

_RTM_NEWLINK = 16
_RTMGRP_LINK = 1
_SOL_NETLINK = 270
_NETLINK_LISTEN_ALL_NSID = 8
_IFLA_IFNAME, _IFLA_LINKINFO = 3, 18
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_IFLA_VXLAN_ID = 1
_IFF_UP = 1
_HEADER, _LINK, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BxHiII"), struct.Struct("=HH")


def _links(data: bytes, nsid: int | None) -> Iterator[Link]:
    """The new or changed links in one datagram of the kernel's."""
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        if kind == _RTM_NEWLINK:
            body = data[_HEADER.size : length]
            _, _, ifindex, flags, _ = _LINK.unpack_from(body)
            attributes = _attributes(body[_LINK.size :])
            info = _attributes(attributes.get(_IFLA_LINKINFO, b""))
            own = _attributes(info.get(_IFLA_INFO_DATA, b""))
            link_kind = _text(info.get(_IFLA_INFO_KIND, b""))
            yield Link(
                name=_text(attributes.get(_IFLA_IFNAME, b"")),
                ifindex=ifindex,
                kind=link_kind,
                vni=int.from_bytes(own[_IFLA_VXLAN_ID], sys.byteorder)
                if link_kind == "vxlan"
                else None,
                up=bool(flags & _IFF_UP),
                nsid=nsid,
            )
        data = data[_aligned(length) :]


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        found[kind & 0x3FFF] = data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]
    return found


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode()


def _is_at(moment: Moment, vni: int | None, link: Link) -> bool:
    match moment:
        case Moment.VXLAN_IN_HOST:
            return link.nsid is None and link.kind == "vxlan" and link.vni == vni
        case Moment.VXLAN_IN_SANDBOX:
            return link.nsid is not None and link.kind == "vxlan" and link.vni == vni and link.up
        case Moment.VETH_IN_HOST:
            return link.nsid is None and link.kind == "veth"


def _listen() -> socket.socket:
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    events.setsockopt(_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID, 1)
    events.bind((0, _RTMGRP_LINK))
    return events


def _receive(events: socket.socket) -> Iterator[Link]:
    while True:
        data, ancillary, _, _ = events.recvmsg(_RECEIVE_BYTES, socket.CMSG_SPACE(4))
        tags = [
            int.from_bytes(tag, sys.byteorder, signed=True)
            for level, kind, tag in ancillary
            if (level, kind) == (_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID)
        ]
        yield from _links(data, tags[0] if tags else None)


def _pin(pid: int, processors: set[int]) -> None:
    """Let all threads of a process run on these processors only; later ones are their children."""
    done: set[Path] = set()
    while fresh := set(Path(f"/proc/{pid}/task").iterdir()) - done:
        for thread in fresh:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), processors)
        done |= fresh


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pid", type=int, help="of dockerd")
    parser.add_argument("moment", type=Moment)
    parser.add_argument("signal", type=int)
    parser.add_argument("vni", type=int, nargs="?")
    arguments = parser.parse_args()

    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, lambda *_: sys.exit(1))
    signal.alarm(_LIFETIME)
    dockerd = os.pidfd_open(arguments.pid)
    everywhere = os.sched_getaffinity(arguments.pid)
    here = {min(os.sched_getaffinity(0))}
    events = _listen()
    os.sched_setaffinity(0, here)
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    _pin(arguments.pid, here)
    try:
        print(READY, flush=True)
        link = next(
            link for link in _receive(events) if _is_at(arguments.moment, arguments.vni, link)
        )
        signal.pidfd_send_signal(dockerd, arguments.signal)
        print(json.dumps(vars(link)), flush=True)
    finally:
        with contextlib.suppress(FileNotFoundError):
            _pin(arguments.pid, everywhere)


if __name__ == "__main__":
    main()
