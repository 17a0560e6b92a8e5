"""Decoding rtnetlink messages: links (fast, for nodes with thousands of devices), addresses, nsids.

A link message has some seventy attributes, of which few matter. Walking them in Python costs more than
all the kernel's work. But the kernel writes the same attributes in the same order for every device of a
kind: so the first message of a shape is walked, and of each further one it is only compared, all at
once, that every attribute header is where and what it was, and so is every value that hardly ever
differs. A message of no known shape is walked. A malformed one raises NetlinkError.

What tells whose VNI a device blocks (vxlan_vni_in_use, drivers/net/vxlan/vxlan_core.c): besides VNI and
UDP port, the family of its underlay and its receive flags (VXLAN_F_RCV_FLAGS) must be the same. The kernel
shows the flags. It shows the family by a group or a local address, and not by one that is "any"
(vxlan_fill_info), which is what Docker sets for IPv6 (`::`, moby ov_utils.go). Then only the headroom
tells, which a kernel shows from 6.18 on (IFLA_HEADROOM): room for an IPv6 header is 20 bytes more.
"""

import errno
import socket
import struct
from collections import defaultdict
from functools import reduce
from itertools import compress, product
from operator import or_
from typing import Final, NamedTuple

from worker.kernel.model import Identity, Netns, VxlanFlag
from worker.kernel.socket import Attributes, NetlinkError, attributes

# linux/if_link.h
IFF_UP: Final = 0x1
IFLA_IFNAME: Final = 3
IFLA_LINK: Final = 5
IFLA_MASTER: Final = 10
IFLA_LINKINFO: Final = 18
IFLA_GROUP: Final = 27
IFLA_LINK_NETNSID: Final = 37
IFLA_TARGET_NETNSID: Final = 46
IFLA_HEADROOM: Final = 68
IFLA_INFO_KIND: Final = 1
IFLA_INFO_DATA: Final = 2
IFLA_VXLAN_ID: Final = 1
IFLA_VXLAN_LINK: Final = 3
IFLA_VXLAN_LEARNING: Final = 7
IFLA_VXLAN_PROXY: Final = 11
IFLA_VXLAN_L2MISS: Final = 13
IFLA_VXLAN_L3MISS: Final = 14
IFLA_VXLAN_PORT: Final = 15
IFLA_VXLAN_GROUP6: Final = 16
IFLA_VXLAN_LOCAL6: Final = 17
IFLA_VXLAN_UDP_ZERO_CSUM6_RX: Final = 20
IFLA_VXLAN_REMCSUM_RX: Final = 22
IFLA_VXLAN_GBP: Final = 23
IFLA_VXLAN_REMCSUM_NOPARTIAL: Final = 24
IFLA_VXLAN_COLLECT_METADATA: Final = 25
IFLA_VXLAN_GPE: Final = 27
IFLA_VXLAN_VNIFILTER: Final = 30

_BARE_RECEIVE_FLAGS: Final = (IFLA_VXLAN_GBP, IFLA_VXLAN_REMCSUM_NOPARTIAL, IFLA_VXLAN_GPE)
"""Those of VXLAN_F_RCV_FLAGS that are shown by an attribute without a value."""

_RECEIVE_FLAGS: Final = (
    IFLA_VXLAN_UDP_ZERO_CSUM6_RX,
    IFLA_VXLAN_REMCSUM_RX,
    IFLA_VXLAN_COLLECT_METADATA,
    IFLA_VXLAN_VNIFILTER,
)
"""The others of VXLAN_F_RCV_FLAGS: shown by an attribute that is 0 or 1."""

_HEADROOM_OVER_IPV6: Final = 14 + 40 + 8 + 8 + 14
"""ETH_HLEN and VXLAN6_HEADROOM (vxlan_config_apply); over IPv4 the IP header takes 20 instead of 40."""

_IFINFOMSG: Final = struct.Struct("=BxHiII")
"""struct ifinfomsg: family, type, index, flags, change."""

_IFADDRMSG: Final = struct.Struct("=BBBBi")
"""struct ifaddrmsg: family, prefix length, flags, scope, ifindex."""

_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_NETNSA_NSID: Final = 1
_U32: Final = struct.Struct("=I")
_S32: Final = struct.Struct("=i")
_U16: Final = struct.Struct("=H")
_U16_BIG: Final = struct.Struct("!H")
_VXLAN: Final = b"vxlan\0"
_VETH: Final = b"veth\0"
_HEADER_BITS: Final = 0xFFFFFFFF
_MAX_SHAPES: Final = 256

_FLAGS: Final = {
    IFLA_VXLAN_LEARNING: VxlanFlag.LEARNING,
    IFLA_VXLAN_PROXY: VxlanFlag.PROXY,
    IFLA_VXLAN_L2MISS: VxlanFlag.L2MISS,
    IFLA_VXLAN_L3MISS: VxlanFlag.L3MISS,
}
_FLAG_SETS: Final[dict[tuple[bool, ...], VxlanFlag]] = {
    bits: reduce(or_, compress(_FLAGS.values(), bits), VxlanFlag(0))
    for bits in product((False, True), repeat=4)
}


class Link(NamedTuple):
    """What a link message alone shows of a `Device`.

    `birth`: the nsid of its creation namespace as the asker sees it; None where it is at home.
    """

    identity: Identity
    up: bool
    master: int | None
    flags: VxlanFlag
    birth: int | None
    ipv6: bool
    kept_apart: bool


class VethEnd(NamedTuple):
    """One end of a veth pair; `peer`: the ifindex of the other, None where that is `elsewhere`."""

    ifindex: int
    name: str
    master: int | None
    peer: int | None
    elsewhere: bool = False
    """Whether the other end is in another namespace."""


class _Shape(NamedTuple):
    """Where everything is in messages that, under `mask`, are `common`.

    `ipv6` and `kept_apart` follow from what they have in common. The other fields are offsets into the
    message; None for an attribute that this shape lacks.
    """

    mask: int
    common: int
    ipv6: bool
    kept_apart: bool
    name: tuple[int, int]
    vni: int
    port: int
    flags: tuple[int | None, ...]
    master: int | None
    birth: int | None
    target: int | None


class LinkDecoder:
    """Decodes link messages; remembers the shapes that it has seen."""

    def __init__(self) -> None:
        self._shapes: defaultdict[int, list[_Shape]] = defaultdict(list)

    def vxlan(self, netns: Netns, body: bytes) -> Link | None:
        """Decode a message from a look at `netns`; None for anything but a VXLAN device.

        Raises:
            NetlinkError: it is malformed, or of another namespace.
        """
        shape = self._shape(body)
        if shape is None:
            return None
        if _optional(body, shape.target) != netns.nsid:
            raise NetlinkError(
                errno.EPROTO, f"the kernel answered for another namespace than {netns}"
            )
        _, _, ifindex, flags, _ = _IFINFOMSG.unpack_from(body)
        learning, proxy, l2miss, l3miss = shape.flags
        return Link(
            Identity(
                netns,
                ifindex,
                _text(body, shape.name),
                _S32.unpack_from(body, shape.vni)[0],
                _U16_BIG.unpack_from(body, shape.port)[0],
            ),
            bool(flags & IFF_UP),
            _optional(body, shape.master),
            # Not in a loop: this is where a look's time goes.
            _FLAG_SETS[
                _is_set(body, learning),
                _is_set(body, proxy),
                _is_set(body, l2miss),
                _is_set(body, l3miss),
            ],
            _optional(body, shape.birth),
            shape.ipv6,
            shape.kept_apart,
        )

    def _shape(self, body: bytes) -> _Shape | None:
        number = int.from_bytes(body, "little")
        known = self._shapes[len(body)]
        for shape in known:
            if number & shape.mask == shape.common:
                return shape
        walked = _walked(body, number)
        if walked is not None and len(known) < _MAX_SHAPES:
            known.append(walked)
        return walked


def decode_port(body: bytes) -> str | None:
    """Return the name of a port of a bridge; None for a device without a master, and for a VXLAN device."""
    found = _attributes(body)
    master, name = _offset(found, IFLA_MASTER, 4), _text(body, _name(found))
    return None if master is None or _info(body, found, _VXLAN) is not None else name


def decode_veth(body: bytes) -> VethEnd | None:
    """Decode a message about one end of a veth pair; None for anything else.

    The kernel names the namespace of the other end only where that is another one
    (rtnl_fill_link_netnsid, net/core/rtnetlink.c).
    """
    found = _attributes(body)
    if _info(body, found, _VETH) is None:
        return None
    elsewhere = IFLA_LINK_NETNSID in found
    peer = None if elsewhere else _offset(found, IFLA_LINK, 4)
    return VethEnd(
        _IFINFOMSG.unpack_from(body)[2],
        _text(body, _name(found)),
        _optional(body, _offset(found, IFLA_MASTER, 4)),
        _optional(body, peer),
        elsewhere,
    )


def decode_group(body: bytes) -> tuple[int, int]:
    """Return the ifindex and the link group of any link message (0: the default group)."""
    where = _offset(_attributes(body), IFLA_GROUP, 4)
    group = 0 if where is None else _U32.unpack_from(body, where)[0]
    return _IFINFOMSG.unpack_from(body)[2], group


def decode_address(body: bytes) -> tuple[int, str]:
    """Return the ifindex, and the address with prefix length, of an address message."""
    family, prefix, _, _, ifindex = _IFADDRMSG.unpack_from(body)
    found = attributes(body, _IFADDRMSG.size, len(body))
    # Where an address has a peer, IFA_ADDRESS is the peer's (linux/if_addr.h).
    where = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS) or (0, 0)
    try:
        return ifindex, f"{socket.inet_ntop(family, body[slice(*where)])}/{prefix}"
    except (ValueError, OSError) as error:
        raise NetlinkError(errno.EBADMSG, f"an invalid address: {error}") from error


def decode_nsid(body: bytes) -> int | None:
    """Return the nsid of a namespace message (struct rtgenmsg, padded to four bytes); None for "none"."""
    where = attributes(body, 4, len(body)).get(_NETNSA_NSID)
    nsid = None if where is None else _optional(body, where[0])
    return None if nsid is None or nsid < 0 else nsid


def _attributes(body: bytes) -> Attributes:
    if len(body) < _IFINFOMSG.size:
        raise NetlinkError(errno.EBADMSG, "a link message is cut short")
    return attributes(body, _IFINFOMSG.size, len(body))


def _walked(body: bytes, number: int) -> _Shape | None:
    """The shape of a message, None if it is of no VXLAN device."""
    found = _attributes(body)
    info = _info(body, found, _VXLAN)
    if info is None or IFLA_INFO_DATA not in info:
        return None
    data = attributes(body, *info[IFLA_INFO_DATA])
    headroom = _offset(found, IFLA_HEADROOM, 2)
    flags = [_offset(data, kind, 1) for kind in _RECEIVE_FLAGS]
    values = [(info[IFLA_INFO_KIND][0], len(_VXLAN)), (headroom, 2), *((flag, 1) for flag in flags)]
    mask = 0
    for offset, size in values:
        if offset is not None:
            mask |= ((1 << 8 * size) - 1) << 8 * offset
    for start, _ in (*found.values(), *info.values(), *data.values()):
        mask |= _HEADER_BITS << 8 * (start - 4)
    return _Shape(
        mask,
        number & mask,
        _is_over_ipv6(body, headroom, data),
        any(kind in data for kind in _BARE_RECEIVE_FLAGS)
        or any(_is_set(body, flag) for flag in flags),
        _name(found),
        _required_offset(data, IFLA_VXLAN_ID, 4),
        _required_offset(data, IFLA_VXLAN_PORT, 2),
        tuple(_offset(data, kind, 1) for kind in _FLAGS),
        _offset(found, IFLA_MASTER, 4),
        _offset(found, IFLA_LINK_NETNSID, 4),
        _offset(found, IFLA_TARGET_NETNSID, 4),
    )


def _is_over_ipv6(body: bytes, headroom: int | None, data: Attributes) -> bool:
    """Whether the underlay is IPv6, as far as the kernel shows it; `headroom`: where that is."""
    if IFLA_VXLAN_GROUP6 in data or IFLA_VXLAN_LOCAL6 in data:
        return True
    # The headroom of a device on top of another one is that one's as well; and a device that takes its
    # addresses from each packet has room for both families.
    metadata = _offset(data, IFLA_VXLAN_COLLECT_METADATA, 1)
    if headroom is None or IFLA_VXLAN_LINK in data or _is_set(body, metadata):
        return False
    return bool(_U16.unpack_from(body, headroom)[0] == _HEADROOM_OVER_IPV6)


def _info(body: bytes, found: Attributes, kind: bytes) -> Attributes | None:
    """The attributes of IFLA_LINKINFO; None for a device of another kind."""
    where = found.get(IFLA_LINKINFO)
    if where is None:
        return None
    info = attributes(body, *where)
    found_kind = info.get(IFLA_INFO_KIND)
    return None if found_kind is None or body[slice(*found_kind)] != kind else info


def _name(found: Attributes) -> tuple[int, int]:
    """Where the name begins and ends, without its NUL."""
    where = found.get(IFLA_IFNAME)
    if where is None:
        raise NetlinkError(errno.EBADMSG, "a link without a name")
    return where[0], where[1] - 1


def _text(body: bytes, where: tuple[int, int]) -> str:
    # A name is bytes without NUL, '/' and white space, in no stated encoding.
    return body[slice(*where)].decode("utf-8", "backslashreplace")


def _required_offset(found: Attributes, kind: int, size: int) -> int:
    where = _offset(found, kind, size)
    if where is None:
        raise NetlinkError(errno.EBADMSG, f"a VXLAN device without attribute {kind}")
    return where


def _offset(found: Attributes, kind: int, size: int) -> int | None:
    """Where the payload of an attribute begins; None if there is no such attribute."""
    where = found.get(kind)
    if where is None:
        return None
    if where[1] - where[0] < size:
        raise NetlinkError(errno.EBADMSG, f"attribute {kind} is cut short")
    return where[0]


def _is_set(body: bytes, offset: int | None) -> bool:
    return offset is not None and body[offset] != 0


def _optional(body: bytes, offset: int | None) -> int | None:
    return None if offset is None else int(_S32.unpack_from(body, offset)[0])
