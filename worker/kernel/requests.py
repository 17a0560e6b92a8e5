"""The rtnetlink requests of the worker, encoded; the only module that imports pyroute2."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec, module_from_spec
from typing import Final

from worker.kernel.model import HOST, Netns
from worker.kernel.socket import NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST


@contextmanager
def _without_its_sockets() -> Iterator[None]:
    """Import modules of pyroute2 and not all of it, as its `__init__` does: 19 MB of memory for our messages.

    Who imports pyroute2 afterwards has the whole.
    """
    name = "pyroute2"
    spec = None if name in sys.modules else find_spec(name)
    if spec is None:  # It is there already; or it is missing, which the import itself says best.
        yield
        return
    sys.modules[name] = module_from_spec(spec)
    try:
        yield
    finally:
        del sys.modules[name]


with _without_its_sockets():
    from pyroute2.netlink import nlmsg
    from pyroute2.netlink.rtnl import (
        RTM_DELLINK,
        RTM_GETADDR,
        RTM_GETLINK,
        RTM_GETNSID,
        RTM_SETLINK,
    )
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
    from pyroute2.netlink.rtnl.nsidmsg import nsidmsg

_NO_SUCH_IFINDEX: Final = 2**31 - 1
_RTEXT_FILTER_SKIP_STATS: Final = 1 << 3

_Attributes = list[list[object]]


def _encoded(
    message: nlmsg, kind: int, flags: int, attributes: _Attributes, ifindex: int = 0
) -> bytes:
    if ifindex:
        message["index"] = ifindex
    message["attrs"] = attributes
    message["header"]["type"] = kind
    message["header"]["flags"] = NLM_F_REQUEST | flags
    message.encode()
    return bytes(message.data)


def _of_kind(netns: Netns, kind: str) -> bytes:
    """List the links of a kind; the kernel filters."""
    info: _Attributes = [["IFLA_LINKINFO", {"attrs": [["IFLA_INFO_KIND", kind]]}]]
    return _dump_links([*_without_statistics(netns), *info, *_target(netns)])


def _dump_links(attributes: _Attributes) -> bytes:
    return _encoded(ifinfmsg(), RTM_GETLINK, NLM_F_DUMP, attributes)


def _target(netns: Netns) -> _Attributes:
    return [] if netns.nsid is None else [["IFLA_IF_NETNSID", netns.nsid]]


def _without_statistics(netns: Netns) -> _Attributes:
    """Spare the kernel the statistics of many devices.

    Not for a peer: given any mask, the kernel first sizes up every device of *our* namespace
    (rtnl_calcit, net/core/rtnetlink.c), and a sandbox has three devices where a host has hundreds.
    """
    return [["IFLA_EXT_MASK", _RTEXT_FILTER_SKIP_STATS]] if netns.is_host else []


DUMP_HOST: Final = _dump_links(_without_statistics(HOST))
DUMP_VETH: Final = _of_kind(HOST, "veth")
DUMP_ADDRESSES: Final = _encoded(ifaddrmsg(), RTM_GETADDR, NLM_F_DUMP, [])
DUMP_NSIDS: Final = _encoded(nsidmsg(), RTM_GETNSID, NLM_F_DUMP, [])
"""List all links, veth devices and IP addresses of the host namespace, and the numbers of all peers."""

CHANGE_NOTHING: Final = _encoded(ifinfmsg(), RTM_SETLINK, NLM_F_ACK, [], _NO_SUCH_IFINDEX)
"""Change a device that cannot exist: the kernel looks at the capability first."""


@lru_cache(maxsize=4096)
def dump_vxlan(netns: Netns) -> bytes:
    """List all VXLAN devices of a netns."""
    return _of_kind(netns, "vxlan")


@lru_cache(maxsize=4096)
def dump_sandbox(netns: Netns, bridge: int | None = None) -> bytes:
    """List the links of a sandbox: the ports of a bridge, by the kernel's filter, or all, which are few."""
    ports: _Attributes = [] if bridge is None else [["IFLA_MASTER", bridge]]
    return _dump_links(ports + _target(netns))


def get_nsid(attribute: str, value: int) -> bytes:
    """Ask for the number of a namespace: that of a process (NETNSA_PID) or a file (NETNSA_FD)."""
    return _encoded(nsidmsg(), RTM_GETNSID, NLM_F_ACK, [[attribute, value]])


def get_link(netns: Netns, ifindex: int) -> bytes:
    """Read a device."""
    return _encoded(ifinfmsg(), RTM_GETLINK, NLM_F_ACK, _target(netns), ifindex)


def delete_link(netns: Netns, ifindex: int) -> bytes:
    """Delete a device."""
    return _encoded(ifinfmsg(), RTM_DELLINK, NLM_F_ACK, _target(netns), ifindex)


def set_group(ifindex: int, group: int) -> bytes:
    """Put a device of the host namespace into a link group."""
    return _encoded(ifinfmsg(), RTM_SETLINK, NLM_F_ACK, [["IFLA_GROUP", group]], ifindex)


def delete_group(group: int) -> bytes:
    """Delete all devices of a link group of the host namespace."""
    return _encoded(ifinfmsg(), RTM_DELLINK, NLM_F_ACK, [["IFLA_GROUP", group]])
