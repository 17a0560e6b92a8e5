"""A route netlink socket: requests go out, answers come back whole or as a typed error.

Framing only (man 7 netlink; RFC 3549). It is our own rather than pyroute2's because an answer here is either
complete or an error: a dump that the kernel marks as interrupted, or whose NLMSG_DONE carries an error
number, must never pass for a list.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Final, Self

from worker.kernel.statistics import ErrorKind, statistics

SOL_NETLINK: Final = 270
NETLINK_LISTEN_ALL_NSID: Final = 8
NETLINK_GET_STRICT_CHK: Final = 12

NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_DUMP: Final = 0x300

HEADER: Final = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence, port."""

_ATTRIBUTE: Final = struct.Struct("=HH")
_S32: Final = struct.Struct("=i")
_TYPE_MASK: Final = 0x3FFF
"""NLA_TYPE_MASK: the two top bits say that an attribute is nested or in network order."""

_RECEIVE_BYTES: Final = 1 << 18
_INTERRUPTED_TRIES: Final = 4

Attributes = dict[int, tuple[int, int]]
"""Attribute type to where its payload begins and ends in the buffer."""


class NetlinkError(OSError):
    """A request failed: the kernel answered with an error number, or the request never reached it."""


class NoAnswerError(NetlinkError):
    """A request was sent, and no answer to it could be read: it may have been carried out.

    When sending fails, it was not: the kernel carries a request out while it is being sent
    (netlink_unicast_kernel, net/netlink/af_netlink.c), and only then makes room for the answer.
    """


class InterruptedDumpError(NetlinkError):
    """The kernel's lists changed during every try at reading them (NLM_F_DUMP_INTR)."""


class EventsLostError(NetlinkError):
    """The socket's buffer overflowed: events are missing, so list everything again."""


class NetlinkSocket:
    """One NETLINK_ROUTE socket. Not for use by two threads at once.

    Args:
        groups: multicast groups to hear, as a bit mask (RTMGRP_*).
        timeout: seconds to wait for the kernel; it answers in microseconds, so a time-out is a fault.
        receive_buffer: bytes the kernel may queue for us, or None for the system's default.
    """

    def __init__(
        self, *, groups: int = 0, timeout: float = 5.0, receive_buffer: int | None = None
    ) -> None:
        self._timeout = timeout
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        try:
            self._socket.settimeout(timeout)
            if receive_buffer is not None:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self._socket.bind((0, groups))
        except OSError:
            self._socket.close()
            raise
        self._sequence = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def set_option(self, option: int, value: int = 1) -> None:
        """Set a SOL_NETLINK option; OSError: the kernel does not know it, or this process may not."""
        self._socket.setsockopt(SOL_NETLINK, option, value)

    def dump(self, message: bytes) -> list[tuple[int, bytes]]:
        """Send an encoded dump request; return the flags and bodies of all answers, or raise NetlinkError."""
        for _ in range(_INTERRUPTED_TRIES):
            answers, interrupted = self._exchange(message)
            if not interrupted:
                return answers
        raise InterruptedDumpError(errno.EINTR, "the kernel's list changed during every reading")

    def request(self, message: bytes) -> list[tuple[int, bytes]]:
        """Send an encoded request that asks for an acknowledgement; return what came before it."""
        return self._exchange(message)[0]

    def _exchange(self, message: bytes) -> tuple[list[tuple[int, bytes]], bool]:
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        length, kind, flags, _, _ = HEADER.unpack_from(message)
        request = bytearray(message)
        HEADER.pack_into(request, 0, length, kind, flags, self._sequence, 0)
        answers: list[tuple[int, bytes]] = []
        interrupted = False
        try:
            self._socket.send(request)
        except OSError as error:
            raise NetlinkError(error.errno or 0, f"cannot ask the kernel: {error}") from error
        while True:
            for flags, kind, body in self._messages():
                interrupted |= bool(flags & NLM_F_DUMP_INTR)
                if kind in (NLMSG_ERROR, NLMSG_DONE):
                    # NLMSG_DONE of a dump has its error in the same place; some kernels leave it empty.
                    code = -_S32.unpack_from(body)[0] if len(body) >= _S32.size else 0
                    if code:
                        raise NetlinkError(code, os.strerror(code))
                    return answers, interrupted
                answers.append((flags, body))

    def _messages(self) -> list[tuple[int, int, bytes]]:
        """Flags, type and body of each message in one datagram that answers our last request."""
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
            # What is left over from an exchange that timed out has an older number.
            return [
                (flags, kind, body)
                for flags, kind, sequence, body in split(data)
                if sequence == self._sequence
            ]
        except TimeoutError as error:
            raise NoAnswerError(
                errno.ETIMEDOUT, f"the kernel did not answer within {self._timeout:g} s"
            ) from error
        except OSError as error:
            raise NoAnswerError(
                error.errno or 0, f"the kernel's answer was lost: {error.strerror}"
            ) from error

    def receive_events(self) -> tuple[int | None, list[tuple[int, bytes]]]:
        """Return the nsid that one datagram of events came from (None: our own) and its messages.

        Raises:
            EventsLostError: the buffer overflowed before this call.
            TimeoutError: nothing came within the socket's time-out.
        """
        try:
            data, ancillary, _, _ = self._socket.recvmsg(_RECEIVE_BYTES, socket.CMSG_SPACE(4))
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                statistics.add_error(ErrorKind.EVENTS_LOST)
                raise EventsLostError(error.errno, "link events were lost") from error
            raise
        messages = [(kind, body) for _, kind, _, body in split(data)]
        for level, kind, value in ancillary:
            if (level, kind) == (SOL_NETLINK, NETLINK_LISTEN_ALL_NSID) and len(value) >= _S32.size:
                return _S32.unpack_from(value)[0], messages
        return None, messages


def split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield flags, type, sequence number and body of each message in a datagram."""
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        if length < HEADER.size or offset + length > len(data):
            raise NetlinkError(errno.EBADMSG, "a netlink message is cut short")
        yield flags, kind, sequence, data[offset + HEADER.size : offset + length]
        offset += (length + 3) & ~3


def attributes(data: bytes, start: int, end: int) -> Attributes:
    """Index the attributes between two offsets: type to payload start and end."""
    found: Attributes = {}
    unpack = _ATTRIBUTE.unpack_from
    while start + 4 <= end:
        length, kind = unpack(data, start)
        if length < 4 or start + length > end:
            raise NetlinkError(errno.EBADMSG, "a netlink attribute is cut short")
        found[kind & _TYPE_MASK] = (start + 4, start + length)
        start += (length + 3) & ~3
    return found
