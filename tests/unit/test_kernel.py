"""What `RouteNetlink` makes of answers that the real kernel gives too seldom to test with it."""

import errno
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from worker.kernel.api import KernelError, NotPermittedError, UnansweredError
from worker.kernel.model import Netns
from worker.kernel.rtnetlink import RouteNetlink
from worker.kernel.socket import (
    HEADER,
    NetlinkError,
    NetlinkSocket,
    NoAnswerError,
    attributes,
)

GETLINK, GETADDR, GETNSID = 18, 22, 90
TARGET_NETNSID = 46
PEER = 5


def attribute(kind: int, payload: bytes) -> bytes:
    whole = struct.pack("=HH", 4 + len(payload), kind) + payload
    return whole + bytes(-len(whole) % 4)


def number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=i", value))


def peer(nsid: int) -> bytes:
    """The body of an RTM_NEWNSID message."""
    return bytes(4) + number(1, nsid)


def vxlan(*, target: int | None, vni: bool = True) -> bytes:
    """The body of an RTM_NEWLINK message."""
    data = (number(1, 9) if vni else b"") + attribute(15, struct.pack("!H", 4789))
    info = attribute(1, b"vxlan\0") + attribute(2, data)
    where = b"" if target is None else number(TARGET_NETNSID, target)
    return (
        struct.pack("=BxHiII", 0, 1, 7, 0, 0) + attribute(3, b"v\0") + where + attribute(18, info)
    )


class ScriptedNetlink(NetlinkSocket):
    """Stands for a socket; `peers` and `links` answer the dumps, in turn."""

    def __init__(
        self,
        peers: list[list[bytes]],
        links: Callable[[int | None], list[bytes]],
        *,
        strict: bool = True,
        addresses: Sequence[bytes] = (),
    ) -> None:
        self.peers = peers
        self.links = links
        self.addresses = addresses
        self._strict = strict

    def set_option(self, option: int, value: int = 1) -> None:
        """Refuse what an old kernel does not know."""
        if not self._strict:
            raise OSError(errno.ENOPROTOOPT, "no such option")

    def dump(self, message: bytes) -> list[tuple[int, bytes]]:
        """Answer as scripted."""
        kind = HEADER.unpack_from(message)[1]
        if kind == GETNSID:
            bodies: Sequence[bytes] = self.peers.pop(0)
        elif kind == GETLINK:
            found = attributes(message, HEADER.size + 16, len(message)).get(TARGET_NETNSID)
            bodies = self.links(found and struct.unpack_from("=i", message, found[0])[0])
        else:
            assert kind == GETADDR
            bodies = self.addresses
        return [(0, body) for body in bodies]

    def request(self, message: bytes) -> list[tuple[int, bytes]]:
        """The host has no number for itself."""
        return [(0, peer(-1))]


def failing_in_the_peer(code: int) -> Callable[[int | None], list[bytes]]:
    def links(target: int | None) -> list[bytes]:
        if target == PEER:
            raise NetlinkError(code, "scripted")
        return [vxlan(target=None)]

    return links


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENODEV, errno.ESRCH])
def test_a_namespace_that_ends_between_two_requests_takes_nothing_else_along(code: int) -> None:
    netlink = ScriptedNetlink([[peer(PEER)], []], failing_in_the_peer(code))
    assert len(RouteNetlink(netlink).look().devices) == 1


def test_a_namespace_that_is_ending_and_has_its_number_still_is_waited_for() -> None:
    pauses: list[float] = []
    netlink = ScriptedNetlink(
        [[peer(PEER)], [peer(PEER)], [peer(PEER)], []], failing_in_the_peer(errno.EINVAL)
    )
    assert len(RouteNetlink(netlink, pauses.append).look().devices) == 1
    assert len(pauses) == 2


def test_a_namespace_that_the_kernel_does_not_end_hides_no_others_and_is_told() -> None:
    """One after another is ended: behind one with 2,500 bridges the next had its number for 6 s."""
    pauses: list[float] = []
    netlink = ScriptedNetlink([[peer(PEER)]] * 20, failing_in_the_peer(errno.EINVAL))
    kernel = RouteNetlink(netlink, pauses.append)
    for _ in range(2):
        view = kernel.look()
        assert len(view.devices) == 1
        (limitation,) = view.limitations
        assert limitation.startswith("1 network namespace(s) that nobody holds any more")
        assert 1 < sum(pauses) < 5, "a run has a deadline, and the second look waits no more"
    # Its number may be another's by then.
    netlink.links = lambda target: [vxlan(target=target)]
    view = kernel.look()
    assert (len(view.devices), view.limitations) == (2, ())


@pytest.mark.parametrize("code", [errno.EPERM, errno.EINTR, errno.ETIMEDOUT])
def test_a_namespace_that_is_there_and_cannot_be_read_fails_the_whole_look(code: int) -> None:
    pauses: list[float] = []
    netlink = ScriptedNetlink([[peer(PEER)]] * 20, failing_in_the_peer(code))
    with pytest.raises(KernelError) as failure:
        RouteNetlink(netlink, pauses.append).look()
    assert isinstance(failure.value, NotPermittedError) is (code == errno.EPERM)
    assert failure.value.code == code
    assert pauses == []


def test_an_answer_about_another_namespace_is_not_believed() -> None:
    netlink = ScriptedNetlink([[peer(PEER)]], lambda _: [vxlan(target=None)])
    with pytest.raises(KernelError, match="another namespace"):
        RouteNetlink(netlink).look()


def test_a_vxlan_device_without_a_vni_is_not_believed() -> None:
    with pytest.raises(KernelError):
        RouteNetlink(ScriptedNetlink([[]], lambda _: [vxlan(target=None, vni=False)])).look()


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENODEV, errno.ETIMEDOUT, errno.ENOBUFS])
def test_an_answer_that_did_not_come_is_never_taken_for_one(code: int) -> None:
    class Silent(ScriptedNetlink):
        def dump(self, message: bytes) -> list[tuple[int, bytes]]:
            raise NoAnswerError(code, "silence")

        def request(self, message: bytes) -> list[tuple[int, bytes]]:
            raise NoAnswerError(code, "silence")

    kernel = RouteNetlink(Silent([], lambda _: []), sandbox_directories=[Path("/proc/self/ns")])
    netns = Netns(PEER)
    for ask in (
        kernel.check_capability,
        kernel.look,
        lambda: kernel.look_at(netns),
        lambda: kernel.read(netns, 7),
        lambda: kernel.delete(netns, 7),
        lambda: kernel.set_group(7, 1),
        lambda: kernel.group_members(1),
        lambda: kernel.delete_group(1),
        kernel.joins_under_way,
        kernel.sandbox_files,
    ):
        with pytest.raises(UnansweredError, match="silence") as failure:
            ask()
        assert failure.value.code == code


@pytest.mark.parametrize(
    "attributes_", [b"", attribute(1, b"\xc0\0\2"), number(1, 7)[:6]], ids=["none", "short", "cut"]
)
def test_an_address_that_cannot_be_read_fails_the_whole_look(attributes_: bytes) -> None:
    body = struct.pack("=BBBBi", socket.AF_INET, 24, 0, 0, 7) + attributes_
    netlink = ScriptedNetlink([[]], lambda _: [vxlan(target=None)], addresses=[body])
    with pytest.raises(KernelError, match=r"address|cut short"):
        RouteNetlink(netlink).look()


def test_a_kernel_too_old_for_peers_is_looked_at_as_far_as_it_goes_and_says_so() -> None:
    netlink = ScriptedNetlink([], lambda _: [vxlan(target=None)], strict=False)
    view = RouteNetlink(netlink).look()
    assert len(view.devices) == 1
    assert "older than 4.20" in view.limitations[0]


def test_the_answers_that_are_believed_are_decoded() -> None:
    netlink = ScriptedNetlink([[peer(PEER)]], lambda target: [vxlan(target=target)])
    places = [str(device.identity.netns) for device in RouteNetlink(netlink).look().devices]
    assert places == ["host", f"nsid:{PEER}"]
