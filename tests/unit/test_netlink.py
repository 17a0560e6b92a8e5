"""Netlink framing: whatever the bytes, an answer is whole or a NetlinkError."""

import errno
import socket
import struct
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.kernel.socket import (
    HEADER,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    EventsLostError,
    InterruptedDumpError,
    NetlinkError,
    NetlinkSocket,
    NoAnswerError,
    attributes,
    split,
)

REQUEST = HEADER.pack(HEADER.size, 18, NLM_F_REQUEST | NLM_F_DUMP, 0, 0)
OK = struct.pack("=i", 0)


def message(kind: int, body: bytes, *, sequence: int, flags: int = 0) -> bytes:
    """One message, padded as the kernel pads."""
    whole = HEADER.pack(HEADER.size + len(body), kind, flags, sequence, 0) + body
    return whole + bytes(-len(whole) % 4)


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded as the kernel pads."""
    whole = struct.pack("=HH", 4 + len(payload), kind) + payload
    return whole + bytes(-len(whole) % 4)


@given(data=st.binary(max_size=200))
def test_any_bytes_split_into_messages_or_a_netlink_error(data: bytes) -> None:
    try:
        found = list(split(data))
    except NetlinkError:
        return
    assert len(found) <= len(data) // HEADER.size
    assert sum(len(body) for *_, body in found) <= len(data)


@given(data=st.binary(max_size=200), start=st.integers(0, 200))
def test_any_bytes_index_as_attributes_within_them_or_a_netlink_error(
    data: bytes, start: int
) -> None:
    try:
        found = attributes(data, start, len(data))
    except NetlinkError:
        return
    assert all(start + 4 <= begin <= end <= len(data) for begin, end in found.values())


messages = st.tuples(
    st.integers(16, 100), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), st.binary(max_size=40)
)


@given(sent=st.lists(messages, max_size=8))
def test_whole_messages_come_back_as_they_were(sent: list[tuple[int, int, int, bytes]]) -> None:
    data = b"".join(
        message(kind, body, sequence=sequence, flags=flags) for kind, flags, sequence, body in sent
    )
    found = [(kind, flags, sequence, body) for flags, kind, sequence, body in split(data)]
    assert found == sent


@given(sent=st.dictionaries(st.integers(0, 0x3FFF), st.binary(max_size=40), max_size=8))
def test_whole_attributes_come_back_without_their_nesting_bits(sent: dict[int, bytes]) -> None:
    data = b"".join(attribute(kind | 0x8000, payload) for kind, payload in sent.items())
    found = attributes(data, 0, len(data))
    assert {kind: data[begin:end] for kind, (begin, end) in found.items()} == sent


@given(body=st.binary(min_size=1, max_size=40), cut=st.integers(1, 40))
def test_a_message_that_is_cut_short_is_an_error(body: bytes, cut: int) -> None:
    whole = HEADER.pack(HEADER.size + len(body), 16, 0, 1, 0) + body
    with pytest.raises(NetlinkError):
        list(split(whole[: max(HEADER.size, len(whole) - cut)]))


@pytest.mark.parametrize("length", [0, 1, 3, 5, 0xFFFF])
def test_an_attribute_shorter_than_its_header_or_longer_than_the_rest_is_an_error(
    length: int,
) -> None:
    with pytest.raises(NetlinkError):
        attributes(struct.pack("=HH", length, 1), 0, 4)


class ScriptedSocket:
    """Stands for the kernel's end of a socket: each send makes it queue the next answers."""

    def __init__(self, script: Iterable[Callable[[int], list[bytes | OSError]]]) -> None:
        self._script = iter(script)
        self._queue: list[bytes | OSError] = []
        self.sent = 0

    def send(self, data: bytes) -> int:
        self.sent += 1
        sequence = HEADER.unpack_from(data)[3]
        self._queue.extend(next(self._script)(sequence))
        return len(data)

    def recv(self, size: int) -> bytes:
        return self._next()

    def recvmsg(self, size: int, ancillary: int) -> tuple[bytes, list[object], int, None]:
        return self._next(), [], 0, None

    def _next(self) -> bytes:
        if not self._queue:
            raise TimeoutError
        answer = self._queue.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer


def scripted(
    monkeypatch: pytest.MonkeyPatch, *script: Callable[[int], list[bytes | OSError]]
) -> tuple[NetlinkSocket, ScriptedSocket]:
    """A NetlinkSocket whose kernel answers as scripted, request by request."""
    kernel = ScriptedSocket(script)
    netlink = NetlinkSocket()
    netlink._socket.close()
    monkeypatch.setattr(netlink, "_socket", kernel)
    return netlink, kernel


def link(sequence: int, body: bytes = b"link", flags: int = 0) -> bytes:
    return message(16, body, sequence=sequence, flags=flags)


def done(sequence: int, code: int = 0) -> bytes:
    return message(NLMSG_DONE, struct.pack("=i", -code), sequence=sequence)


def test_a_dump_is_gathered_from_all_its_datagrams(monkeypatch: pytest.MonkeyPatch) -> None:
    netlink, _ = scripted(
        monkeypatch,
        lambda n: [link(n, b"one.") + link(n, b"two."), link(n, b"last"), done(n)],
    )
    assert [body for _, body in netlink.dump(REQUEST)] == [b"one.", b"two.", b"last"]


@pytest.mark.parametrize(
    "answer",
    [
        lambda n: [link(n), done(n, errno.EPERM)],
        lambda n: [message(NLMSG_ERROR, struct.pack("=i", -errno.EPERM), sequence=n)],
    ],
    ids=["error in the payload of DONE", "error message"],
)
def test_an_error_is_never_an_empty_list(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[int], list[bytes | OSError]]
) -> None:
    netlink, _ = scripted(monkeypatch, answer)
    with pytest.raises(NetlinkError) as failure:
        netlink.dump(REQUEST)
    assert failure.value.errno == errno.EPERM
    assert not isinstance(failure.value, NoAnswerError)


def test_an_interrupted_dump_is_read_again_and_only_the_whole_one_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    netlink, _ = scripted(
        monkeypatch,
        lambda n: [link(n, b"half", NLM_F_DUMP_INTR), done(n)],
        lambda n: [link(n, b"full"), done(n)],
    )
    assert [body for _, body in netlink.dump(REQUEST)] == [b"full"]


def test_a_dump_that_is_interrupted_every_time_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(sequence: int) -> list[bytes | OSError]:
        return [link(sequence, b"half", NLM_F_DUMP_INTR), done(sequence)]

    netlink, kernel = scripted(monkeypatch, *[interrupted] * 20)
    with pytest.raises(InterruptedDumpError):
        netlink.dump(REQUEST)
    assert 1 < kernel.sent < 20, "tried again, and not for ever"


def test_what_an_earlier_exchange_left_over_is_not_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    netlink, _ = scripted(
        monkeypatch,
        lambda n: [link(n, b"slow")],
        lambda n: [link(n - 1, b"slow"), done(n - 1), link(n, b"now."), done(n)],
    )
    with pytest.raises(NetlinkError) as failure:
        netlink.dump(REQUEST)
    assert failure.value.errno == errno.ETIMEDOUT
    assert [body for _, body in netlink.dump(REQUEST)] == [b"now."]


def test_any_trouble_with_the_socket_is_a_netlink_error(monkeypatch: pytest.MonkeyPatch) -> None:
    netlink, _ = scripted(monkeypatch, lambda _: [OSError(errno.ENOBUFS, "no buffer space")])
    with pytest.raises(NetlinkError) as failure:
        netlink.request(REQUEST)
    assert failure.value.errno == errno.ENOBUFS


@pytest.mark.parametrize(
    "answers",
    [
        [],
        [OSError(errno.ENOBUFS, "no buffer space")],
        [OSError(errno.EINVAL, "odd")],
        [message(NLMSG_ERROR, OK, sequence=1)[:-2]],
    ],
    ids=["silence", "no room for the answer", "any other trouble", "an answer that is cut short"],
)
def test_an_answer_that_does_not_come_is_told_from_a_refusal(
    monkeypatch: pytest.MonkeyPatch, answers: list[bytes | OSError]
) -> None:
    netlink, _ = scripted(monkeypatch, lambda _: answers)
    with pytest.raises(NoAnswerError):
        netlink.request(REQUEST)


def test_a_silent_kernel_is_told_with_how_long_it_was_waited_for() -> None:
    with NetlinkSocket(timeout=0.01) as netlink, pytest.raises(NoAnswerError) as failure:
        # The kernel answers no request that asks for no answer.
        netlink.request(HEADER.pack(HEADER.size, 3, NLM_F_REQUEST, 0, 0))
    assert failure.value.strerror == "the kernel did not answer within 0.01 s"
    assert failure.value.errno == errno.ETIMEDOUT


@pytest.mark.parametrize("trouble", [TimeoutError(), OSError(errno.ENOBUFS, "no buffer space")])
def test_what_could_not_be_sent_is_no_lost_answer(
    monkeypatch: pytest.MonkeyPatch, trouble: OSError
) -> None:
    def fails(_: int) -> list[bytes | OSError]:
        raise trouble

    netlink, _ = scripted(monkeypatch, fails)
    with pytest.raises(NetlinkError) as failure:
        netlink.request(REQUEST)
    assert not isinstance(failure.value, NoAnswerError)


def test_lost_events_are_told_apart_from_other_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    netlink, kernel = scripted(monkeypatch)
    kernel._queue = [OSError(errno.ENOBUFS, "overflow"), OSError(errno.EBADF, "closed")]
    with pytest.raises(EventsLostError):
        netlink.receive_events()
    with pytest.raises(OSError, match="closed") as failure:
        netlink.receive_events()
    assert not isinstance(failure.value, EventsLostError)


def test_a_real_socket_answers_a_real_dump() -> None:
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0)
    request = HEADER.pack(HEADER.size + len(body), 18, NLM_F_REQUEST | NLM_F_DUMP, 0, 0) + body
    with NetlinkSocket() as netlink:
        assert netlink.dump(request), "at least the loopback device"
