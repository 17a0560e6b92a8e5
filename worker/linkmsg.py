"""Decoding link messages, and fast: a node with thousands of leaked devices is looked at in no time.

A link message has some seventy attributes, of which nine matter. Walking them in Python costs more than
all the kernel's work. But the kernel writes the same attributes in the same order for every device of a
kind: so the first message of a shape is walked, and of each further one it is only compared, all at
once, that every attribute header is where and what it was. A message of no known shape is walked.
"""

import errno
import struct
from collections import defaultdict
from typing import Final, NamedTuple

from worker.netlink import Attributes, NetlinkError, attributes
from worker.view import Identity, Place, VxlanFlag

# linux/if_link.h
IFF_UP: Final = 0x1
IFLA_IFNAME: Final = 3
IFLA_MASTER: Final = 10
IFLA_LINKINFO: Final = 18
IFLA_GROUP: Final = 27
IFLA_LINK_NETNSID: Final = 37
IFLA_TARGET_NETNSID: Final = 46
IFLA_INFO_KIND: Final = 1
IFLA_INFO_DATA: Final = 2
IFLA_VXLAN_ID: Final = 1
IFLA_VXLAN_LEARNING: Final = 7
IFLA_VXLAN_PROXY: Final = 11
IFLA_VXLAN_L2MISS: Final = 13
IFLA_VXLAN_L3MISS: Final = 14
IFLA_VXLAN_PORT: Final = 15

_IFINFOMSG: Final = struct.Struct("=BxHiII")
"""struct ifinfomsg: family, type, index, flags, change."""

_U32: Final = struct.Struct("=I")
_S32: Final = struct.Struct("=i")
_U16_BIG: Final = struct.Struct("!H")
_VXLAN: Final = b"vxlan\0"
_HEADER_BITS: Final = 0xFFFFFFFF
_MOST_SHAPES: Final = 256

_FLAGS: Final = {
    (bool(number & 8), bool(number & 4), bool(number & 2), bool(number & 1)): (
        (VxlanFlag.LEARNING if number & 8 else VxlanFlag(0))
        | (VxlanFlag.PROXY if number & 4 else VxlanFlag(0))
        | (VxlanFlag.L2MISS if number & 2 else VxlanFlag(0))
        | (VxlanFlag.L3MISS if number & 1 else VxlanFlag(0))
    )
    for number in range(16)
}


class Link(NamedTuple):
    """What a link message alone tells of a VXLAN device.

    Attributes:
        birth: the nsid of its creation namespace as the asker sees it; None where it is at home.
    """

    identity: Identity
    up: bool
    master: int | None
    flags: VxlanFlag
    birth: int | None


class Port(NamedTuple):
    """What a link message tells of a device as a port of a bridge."""

    master: int | None
    is_vxlan: bool


class _Shape(NamedTuple):
    """Where everything is in messages whose attribute headers, under `mask`, are `headers`.

    The other fields are offsets into the message; None for an attribute that this shape lacks.
    """

    mask: int
    headers: int
    name: tuple[int, int]
    vni: int
    port: int
    flags: tuple[int | None, int | None, int | None, int | None]
    master: int | None
    birth: int | None
    target: int | None


class LinkDecoder:
    """Decodes link messages; remembers the shapes that it has seen."""

    def __init__(self) -> None:
        self._shapes: defaultdict[int, list[_Shape]] = defaultdict(list)

    def vxlan(self, place: Place, body: bytes) -> Link | None:
        """Decode a message from a look at `place`; None for anything but a VXLAN device.

        Raises:
            NetlinkError: it is malformed, or of another place than was asked for.
        """
        shape = self._shape(body)
        if shape is None:
            return None
        if _optional(body, shape.target) != place.nsid:
            raise NetlinkError(
                errno.EPROTO, f"the kernel answered for another namespace than {place}"
            )
        _, _, ifindex, flags, _ = _IFINFOMSG.unpack_from(body)
        learning, proxy, l2miss, l3miss = shape.flags
        return Link(
            Identity(
                place,
                ifindex,
                # A name is bytes without NUL, '/' and white space, in no stated encoding.
                body[slice(*shape.name)].decode("utf-8", "backslashreplace"),
                _S32.unpack_from(body, shape.vni)[0],
                _U16_BIG.unpack_from(body, shape.port)[0],
            ),
            bool(flags & IFF_UP),
            _optional(body, shape.master),
            _FLAGS[
                _is_set(body, learning),
                _is_set(body, proxy),
                _is_set(body, l2miss),
                _is_set(body, l3miss),
            ],
            _optional(body, shape.birth),
        )

    def _shape(self, body: bytes) -> _Shape | None:
        number = int.from_bytes(body, "little")
        known = self._shapes[len(body)]
        for shape in known:
            if number & shape.mask == shape.headers:
                return shape
        walked = _walked(body, number)
        if walked is not None and len(known) < _MOST_SHAPES:
            known.append(walked)
        return walked


def decode_port(body: bytes) -> Port:
    """Decode a message about a port of a bridge.

    Raises:
        NetlinkError: it is malformed.
    """
    found = _attributes(body)
    master = _place_of(found, IFLA_MASTER, 4)
    return Port(_optional(body, master), _info(body, found) is not None)


def decode_group(body: bytes) -> tuple[int, int]:
    """The ifindex and the link group of any link message (0: the default group).

    Raises:
        NetlinkError: it is malformed.
    """
    where = _place_of(_attributes(body), IFLA_GROUP, 4)
    group = 0 if where is None else _U32.unpack_from(body, where)[0]
    return _IFINFOMSG.unpack_from(body)[2], group


def _attributes(body: bytes) -> Attributes:
    if len(body) < _IFINFOMSG.size:
        raise NetlinkError(errno.EBADMSG, "a link message is cut short")
    return attributes(body, _IFINFOMSG.size, len(body))


def _walked(body: bytes, number: int) -> _Shape | None:
    """The shape of a message, from its attributes one by one; None if it is of no VXLAN device."""
    found = _attributes(body)
    info = _info(body, found)
    if info is None:
        return None
    data = attributes(body, *info[IFLA_INFO_DATA])
    name = found.get(IFLA_IFNAME)
    if name is None:
        raise NetlinkError(errno.EBADMSG, "a link without a name")
    kind = info[IFLA_INFO_KIND]
    mask = ((1 << 8 * len(_VXLAN)) - 1) << 8 * kind[0]
    for start, _ in (*found.values(), *info.values(), *data.values()):
        mask |= _HEADER_BITS << 8 * (start - 4)
    return _Shape(
        mask,
        number & mask,
        (name[0], name[1] - 1),
        _required(data, IFLA_VXLAN_ID, 4),
        _required(data, IFLA_VXLAN_PORT, 2),
        (
            _place_of(data, IFLA_VXLAN_LEARNING, 1),
            _place_of(data, IFLA_VXLAN_PROXY, 1),
            _place_of(data, IFLA_VXLAN_L2MISS, 1),
            _place_of(data, IFLA_VXLAN_L3MISS, 1),
        ),
        _place_of(found, IFLA_MASTER, 4),
        _place_of(found, IFLA_LINK_NETNSID, 4),
        _place_of(found, IFLA_TARGET_NETNSID, 4),
    )


def _info(body: bytes, found: Attributes) -> Attributes | None:
    """The attributes of IFLA_LINKINFO, None unless they are those of a VXLAN device."""
    where = found.get(IFLA_LINKINFO)
    if where is None:
        return None
    info = attributes(body, *where)
    kind = info.get(IFLA_INFO_KIND)
    if kind is None or body[slice(*kind)] != _VXLAN or IFLA_INFO_DATA not in info:
        return None
    return info


def _required(found: Attributes, kind: int, size: int) -> int:
    where = _place_of(found, kind, size)
    if where is None:
        raise NetlinkError(errno.EBADMSG, f"a VXLAN device without attribute {kind}")
    return where


def _place_of(found: Attributes, kind: int, size: int) -> int | None:
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
