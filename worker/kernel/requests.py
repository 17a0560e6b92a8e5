"""The rtnetlink requests of the worker, encoded; the only module that imports pyroute2."""

from functools import lru_cache
from typing import Any, Final

from pyroute2.netlink import nlmsg
from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_GETADDR, RTM_GETLINK, RTM_GETNSID, RTM_SETLINK
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.nsidmsg import nsidmsg

from worker.kernel.model import HOST, Netns
from worker.kernel.socket import NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST

_NO_SUCH_IFINDEX: Final = 2**31 - 1
_RTEXT_FILTER_SKIP_STATS: Final = 1 << 3

_Attributes = list[list[object]]


@lru_cache(maxsize=4096)
def dump_vxlan(netns: Netns) -> bytes:
    """List all VXLAN devices of a netns; the kernel filters by kind."""
    return _dump_links(
        *_without_statistics(netns),
        ["IFLA_LINKINFO", {"attrs": [["IFLA_INFO_KIND", "vxlan"]]}],
        *_target(netns),
    )


@lru_cache(maxsize=4096)
def dump_ports(netns: Netns, bridge: int) -> bytes:
    """List all ports of a bridge; the kernel filters by master."""
    return _dump_links(["IFLA_MASTER", bridge], *_target(netns))


@lru_cache(maxsize=4096)
def dump_sandbox(netns: Netns) -> bytes:
    """List all links of a sandbox, which has a few."""
    return _dump_links(*_target(netns))


@lru_cache(maxsize=1)
def dump_host() -> bytes:
    """List all links of the host namespace."""
    return _dump_links(*_without_statistics(HOST))


@lru_cache(maxsize=1)
def dump_veth() -> bytes:
    """List all veth devices of the host namespace; the kernel filters by kind."""
    return _dump_links(
        *_without_statistics(HOST), ["IFLA_LINKINFO", {"attrs": [["IFLA_INFO_KIND", "veth"]]}]
    )


@lru_cache(maxsize=1)
def dump_addresses() -> bytes:
    """List all IP addresses of the host namespace."""
    return _encoded(ifaddrmsg(), RTM_GETADDR, NLM_F_DUMP)


@lru_cache(maxsize=1)
def dump_nsids() -> bytes:
    """List the numbers of all peer namespaces."""
    return _encoded(nsidmsg(), RTM_GETNSID, NLM_F_DUMP)


def get_nsid(attribute: str, value: int) -> bytes:
    """Ask for the number of a namespace: that of a process (NETNSA_PID) or a file (NETNSA_FD)."""
    message = nsidmsg()
    message["attrs"] = [[attribute, value]]
    return _encoded(message, RTM_GETNSID, NLM_F_ACK)


def get_link(netns: Netns, ifindex: int) -> bytes:
    """Read a device."""
    return _link(RTM_GETLINK, ifindex, _target(netns))


def delete_link(netns: Netns, ifindex: int) -> bytes:
    """Delete a device."""
    return _link(RTM_DELLINK, ifindex, _target(netns))


def set_group(ifindex: int, group: int) -> bytes:
    """Put a device of the host namespace into a link group."""
    return _link(RTM_SETLINK, ifindex, [["IFLA_GROUP", group]])


def delete_group(group: int) -> bytes:
    """Delete all devices of a link group of the host namespace."""
    return _link(RTM_DELLINK, 0, [["IFLA_GROUP", group]])


def change_nothing() -> bytes:
    """Change a device that cannot exist: the kernel looks at the capability first."""
    return _link(RTM_SETLINK, _NO_SUCH_IFINDEX, [])


def _link(kind: int, ifindex: int, attributes: _Attributes) -> bytes:
    message = ifinfmsg()
    message["index"] = ifindex
    message["attrs"] = attributes
    return _encoded(message, kind, NLM_F_ACK)


def _dump_links(*attributes: list[Any]) -> bytes:
    message = ifinfmsg()
    message["attrs"] = list(attributes)
    return _encoded(message, RTM_GETLINK, NLM_F_DUMP)


def _target(netns: Netns) -> _Attributes:
    return [] if netns.nsid is None else [["IFLA_IF_NETNSID", netns.nsid]]


def _without_statistics(netns: Netns) -> _Attributes:
    """Spare the kernel the statistics of many devices.

    Not for a peer: given any mask, the kernel first sizes up every device of *our* namespace
    (rtnl_calcit, net/core/rtnetlink.c), and a sandbox has three devices where a host has hundreds.
    """
    return [["IFLA_EXT_MASK", _RTEXT_FILTER_SKIP_STATS]] if netns.is_host else []


def _encoded(message: nlmsg, kind: int, flags: int) -> bytes:
    message["header"]["type"] = kind
    message["header"]["flags"] = NLM_F_REQUEST | flags
    message.encode()
    return bytes(message.data)
