"""Decoding link messages: by shape or by walking, the result is the same, and nothing else is raised."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.kernel.linkmsg import (
    Link,
    LinkDecoder,
    VethEnd,
    decode_group,
    decode_port,
    decode_veth,
)
from worker.kernel.model import (
    HOST,
    Identity,
    Netns,
    VxlanFlag,
)
from worker.kernel.socket import NetlinkError


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    size = 4 + len(payload)
    return struct.pack("=HH", size, kind) + payload + bytes(-size % 4)


def message(
    *,
    ifindex: int = 7,
    flags: int = 0,
    name: bytes = b"vx-001001-abcde",
    vni: int = 4097,
    port: int = 4789,
    learning: bool = True,
    master: int | None = None,
    birth: int | None = None,
    target: int | None = None,
    kind: bytes = b"vxlan\0",
    extra: bytes = b"",
    headroom: int | None = 64,
    options: bytes = b"",
) -> bytes:
    """A link message such as the kernel writes."""
    data = (
        attribute(1, struct.pack("=I", vni))
        + attribute(7, bytes([learning]))
        + attribute(11, b"\1")
        + attribute(13, b"\1")
        + attribute(14, b"\1")
        + attribute(15, struct.pack("!H", port))
        + attribute(20, b"\0")
        + attribute(22, b"\0")
        + options
    )
    parts = [struct.pack("=BxHiII", 0, 1, ifindex, flags, 0)]
    if target is not None:
        parts.append(attribute(46, struct.pack("=i", target)))
    parts.append(attribute(3, name + b"\0"))
    parts.append(extra)
    if master is not None:
        parts.append(attribute(10, struct.pack("=I", master)))
    parts.append(attribute(27, struct.pack("=I", 5)))
    parts.append(attribute(18 | 0x8000, attribute(1, kind) + attribute(2 | 0x8000, data)))
    if birth is not None:
        parts.append(attribute(37, struct.pack("=i", birth)))
    if headroom is not None:
        parts.append(attribute(68, struct.pack("=H", headroom)))
    return b"".join(parts)


def test_everything_that_matters_is_read() -> None:
    link = LinkDecoder().vxlan(
        Netns(3), message(flags=1, master=9, birth=4, target=3, learning=False)
    )
    assert link == Link(
        Identity(Netns(3), 7, "vx-001001-abcde", 4097, 4789),
        up=True,
        master=9,
        flags=VxlanFlag.PROXY | VxlanFlag.L2MISS | VxlanFlag.L3MISS,
        birth=4,
        ipv6=False,
        kept_apart=False,
    )


GROUP6 = attribute(16, bytes(15) + b"\1")
LOCAL6 = attribute(17, bytes(15) + b"\1")
LOWER = attribute(3, struct.pack("=I", 2))
METADATA = attribute(25, b"\1")


@pytest.mark.parametrize(
    ("whole", "ipv6"),
    [
        (message(), False),
        (message(headroom=84), True),
        (message(headroom=None), False),
        (message(headroom=None, options=GROUP6), True),
        (message(headroom=None, options=LOCAL6), True),
        (message(headroom=84, options=LOWER), False),
        (message(headroom=88, options=LOWER + GROUP6), True),
        (message(headroom=84, options=METADATA), False),
    ],
    ids=[
        "IPv4",
        "IPv6 by its headroom",
        "an old kernel without headroom",
        "a group",
        "a local address",
        "on top of a device that takes headroom",
        "the same, and a group",
        "addresses from each packet",
    ],
)
def test_the_family_of_the_underlay_is_read_from_what_the_kernel_shows(
    whole: bytes, ipv6: bool
) -> None:
    decoder = LinkDecoder()
    decoder.vxlan(HOST, message())
    link = decoder.vxlan(HOST, whole)
    assert link is not None
    assert link.ipv6 is ipv6


@pytest.mark.parametrize(
    ("options", "apart"),
    [
        (b"", False),
        (attribute(23, b""), True),
        (attribute(24, b""), True),
        (attribute(27, b""), True),
        (attribute(25, b"\0"), False),
        (METADATA, True),
        (attribute(30, b"\1"), True),
        (attribute(18, b"\0") + attribute(19, b"\1") + attribute(21, b"\1"), False),
    ],
    ids=["none", "GBP", "no partial", "GPE", "no metadata", "metadata", "VNI filter", "sending"],
)
def test_receive_flags_that_keep_a_device_apart_are_read(options: bytes, apart: bool) -> None:
    decoder = LinkDecoder()
    decoder.vxlan(HOST, message(options=attribute(25, b"\0")))
    link = decoder.vxlan(HOST, message(options=options))
    assert link is not None
    assert link.kept_apart is apart


@pytest.mark.parametrize("kind", [20, 22])
def test_receive_flags_that_every_message_has_are_read_from_their_values(kind: int) -> None:
    decoder = LinkDecoder()
    plain = decoder.vxlan(HOST, message())
    flagged = message().replace(attribute(kind, b"\0"), attribute(kind, b"\1"))
    link = decoder.vxlan(HOST, flagged)
    assert link is not None
    assert link.kept_apart
    assert plain == link._replace(kept_apart=False)
    assert decoder.vxlan(HOST, message()) == plain


@pytest.mark.parametrize(
    "other",
    [
        message(vni=5000, ifindex=8, flags=1),
        message(name=b"vx-aaaaaa-bbbbb"),
        message(name=b"short"),
        message(master=4),
        message(extra=attribute(99, b"1234")),
        message(kind=b"bridge\0"),
    ],
    ids=["values", "same length of name", "other length", "master", "attribute more", "other kind"],
)
def test_a_remembered_shape_changes_no_result(other: bytes) -> None:
    fresh, used = LinkDecoder(), LinkDecoder()
    used.vxlan(HOST, message())
    assert used.vxlan(HOST, other) == fresh.vxlan(HOST, other)


def test_a_message_of_the_same_length_but_other_attributes_is_walked() -> None:
    """An attribute less before the VNI, and one more behind it."""
    decoder = LinkDecoder()
    one, two = message(extra=attribute(99, b"1234")), message(birth=4, vni=5000)
    assert len(one) == len(two)
    decoder.vxlan(HOST, one)
    second = decoder.vxlan(HOST, two)
    assert second is not None
    assert (second.identity.vni, second.birth) == (5000, 4)


def test_another_kind_in_the_shape_of_a_vxlan_device_is_none() -> None:
    decoder = LinkDecoder()
    assert decoder.vxlan(HOST, message()) is not None
    assert decoder.vxlan(HOST, message(kind=b"vxlax\0")) is None


def test_an_answer_about_another_place_is_an_error() -> None:
    decoder = LinkDecoder()
    with pytest.raises(NetlinkError):
        decoder.vxlan(Netns(3), message(target=4))
    with pytest.raises(NetlinkError):
        decoder.vxlan(Netns(3), message())
    with pytest.raises(NetlinkError):
        decoder.vxlan(HOST, message(target=4))


def test_group_and_port() -> None:
    assert decode_group(message(ifindex=12)) == (12, 5)
    assert decode_port(message(master=9, name=b"vxlan0")) is None
    assert decode_port(message(name=b"veth0", kind=b"veth\0")) is None
    assert decode_port(message(master=9, name=b"veth0", kind=b"veth\0")) == "veth0"


@pytest.mark.parametrize(
    ("whole", "end"),
    [
        (message(kind=b"veth\0", name=b"veth0"), VethEnd(7, "veth0", None, None)),
        (
            message(kind=b"veth\0", name=b"veth0", extra=attribute(5, struct.pack("=I", 8))),
            VethEnd(7, "veth0", None, 8),
        ),
        (
            message(
                kind=b"veth\0", name=b"veth0", extra=attribute(5, struct.pack("=I", 8)), birth=0
            ),
            VethEnd(7, "veth0", None, None, elsewhere=True),
        ),
        (message(kind=b"veth\0", name=b"veth0", master=3), VethEnd(7, "veth0", 3, None)),
        (message(), None),
    ],
    ids=["no peer", "peer at home", "peer elsewhere", "enslaved", "another kind"],
)
def test_an_end_of_a_veth_pair(whole: bytes, end: VethEnd | None) -> None:
    assert decode_veth(whole) == end


@given(st.integers(0, 400), st.binary(min_size=1, max_size=8), st.booleans())
def test_damage_raises_netlink_error_or_nothing(at: int, damage: bytes, cut: bool) -> None:
    decoder = LinkDecoder()
    whole = message(master=9, birth=4)
    decoder.vxlan(HOST, whole)
    at %= len(whole)
    damaged = whole[:at] if cut else whole[:at] + damage + whole[at + len(damage) :]
    for decode in (
        lambda: decoder.vxlan(HOST, damaged),
        lambda: decode_port(damaged),
        lambda: decode_veth(damaged),
    ):
        try:
            decode()
        except NetlinkError:
            continue
    try:
        walked = LinkDecoder().vxlan(HOST, damaged)
    except NetlinkError:
        return
    assert decoder.vxlan(HOST, damaged) == walked
