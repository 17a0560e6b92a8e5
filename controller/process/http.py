"""The HTTP server: uvicorn with bounds on connections, headers and slow clients."""

import asyncio
import logging
import resource
import socket
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Final, cast

import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import HTTPProtocolType
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from contract import VERSION
from controller.api import IDENTITY_HEADER, problems
from controller.api import problem_types as types
from controller.api.problem_types import ProblemType
from controller.process.tls import Tls
from controller.web.headers import DefaultHeaders

log = structlog.get_logger(__name__)

MAX_CONNECTIONS: Final = 1000
RESERVED_DESCRIPTORS: Final = 256
"""Never for connections: database, broker, Docker, and a burst of `_BACKLOG` connections that are refused."""
REQUEST_SECONDS: Final = 10.0
"""In which a whole request must arrive, counted from the connection or the answer before."""
READER_SECONDS: Final = 30.0
"""In which a client must take the 48 kB that make room in a full send buffer."""
CLOSING_SECONDS: Final = 5.0
"""In which a client must take the rest, after its connection was closed."""
HANDSHAKE_SECONDS: Final = 5.0
"""In which a client must have done its TLS handshake."""
LOG_SECONDS: Final = 60.0
"""Between log lines of the same text: clients cause them."""

_BACKLOG: Final = 128
"""Connections that asyncio accepts at a time, before one of them can be refused."""
_PENDING: Final = 1024
"""Connections that wait in the kernel to be accepted."""
_MAX_HEAD_BYTES: Final = 64 * 1024
"""Of an incomplete request head; `controller.api.bounds` bounds complete ones."""
_MAX_DESCRIPTORS: Final = 4096
_GRACEFUL_SECONDS: Final = 5


def _raw(kind: ProblemType, *headers: str) -> bytes:
    """Return a whole answer, for what is refused before it reaches the app."""
    body = problems.problem(kind, kind.meaning).body
    first = f"HTTP/1.1 {kind.status} {kind.title}"
    lines = (first, f"content-type: {problems.MEDIA_TYPE}", "connection: close", *headers, "", "")
    return "\r\n".join(lines).encode() + bytes(body)


_INVALID: Final = _raw(types.MALFORMED)
_BUSY: Final = _raw(types.CONNECTIONS, "retry-after: 5")
_LATE: Final = _raw(types.LATE)


_HEADERS: Final = {
    IDENTITY_HEADER: VERSION,
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-cache",
    "Referrer-Policy": "no-referrer",
}
"""Of every answer that has none of its own: no cache shows one person's answer to another, or a new token."""


class HttpConfig(uvicorn.Config):
    """uvicorn's configuration.

    Args:
        app: answers the requests.
        http: the protocol, which must be a `BoundedProtocol`.

    Attributes:
        max_connections: more are refused, or take the place of idle ones.
    """

    def __init__(
        self, app: ASGIApp, http: type[asyncio.Protocol] | HTTPProtocolType, **more: Any
    ) -> None:
        super().__init__(
            DefaultHeaders(app, _HEADERS),
            http=http,
            ws="none",
            server_header=False,
            log_config=None,
            lifespan="off",
            # Or a client on loopback chooses its address by X-Forwarded-For: failed logins are
            # counted by it, and the proxy that may name users is known by it.
            proxy_headers=False,
            backlog=_BACKLOG,
            h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
            timeout_graceful_shutdown=_GRACEFUL_SECONDS,
            **more,
        )
        self.max_connections = _max_connections()


class HttpServer(uvicorn.Server):
    """uvicorn's server, which ends connections of slow clients.

    Args:
        app: answers the requests.
        ending: called when the server begins to stop; must end the streams.
        tls: certificate and key; None: plain HTTP. Only for sockets given to `startup`.
        more: for uvicorn's configuration.
    """

    def __init__(
        self,
        app: ASGIApp,
        ending: Callable[[], None] = lambda: None,
        tls: Tls | None = None,
        **more: Any,
    ) -> None:
        super().__init__(HttpConfig(app, BoundedProtocol, **more))
        self._ending = ending
        self._tls = tls
        self._loop: asyncio.AbstractEventLoop | None = None
        self._signalled = asyncio.Event()
        self._handshakes: weakref.WeakSet[BoundedProtocol] = weakref.WeakSet()
        self._reported: tuple[int, int] = (0, 0)
        self._reported_at = -LOG_SECONDS

    async def startup(self, sockets: Any = None) -> None:
        """Begin to accept connections."""
        for name in ("asyncio", "uvicorn.error"):
            logging.getLogger(name).addFilter(OncePerPeriod())
        if self._tls is None:
            await super().startup(sockets)
        else:
            await self._startup(sockets, self._tls)
        # asyncio has no other number for it: a client whose SYN finds the queue full comes again after a
        # second, and then after two.
        for listener in sockets or ():
            listener.listen(_PENDING)

    async def _startup(self, sockets: list[socket.socket], tls: Tls) -> None:
        """Begin to accept connections with TLS; uvicorn cannot bound the time of a handshake."""
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                self._accepted,
                sock=listener,
                ssl=tls.context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=CLOSING_SECONDS,
                backlog=_BACKLOG,
            )
            for listener in sockets
        ]
        self.started = True

    def _accepted(self) -> asyncio.Protocol:
        """Return the protocol of a new connection, before its handshake.

        Raises:
            ConnectionRefusedError: there are too many; asyncio drops the connection.
        """
        since = time.monotonic() - HANDSHAKE_SECONDS
        for handshake in list(self._handshakes):
            if handshake.is_connected or handshake.since < since:
                self._handshakes.discard(handshake)
        config = cast("HttpConfig", self.config)
        if len(self._handshakes) >= max(config.max_connections // 4, 1):
            BoundedProtocol.refused += 1
            raise ConnectionRefusedError("too many TLS handshakes")
        accepted = BoundedProtocol(config, self.server_state, self.lifespan.state)
        self._handshakes.add(accepted)
        return accepted

    async def main_loop(self) -> None:
        """Tick once a second, and at a signal; uvicorn's own ticks ten times a second."""
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._signalled.wait(), 1.0)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop, at a signal."""
        super().handle_exit(sig, frame)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._signalled.set)

    async def on_tick(self, counter: int) -> bool:
        """End what is slow; of uvicorn's ticks it is always one of those at which something is done."""
        now = time.monotonic()
        for connection in list(self.server_state.connections):
            if isinstance(connection, BoundedProtocol):
                connection.check(now)
        if self._tls is not None:
            self._tls.refresh()
        self._report(now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: Any = None) -> None:
        """Stop; streams are ended first, or uvicorn would wait for them."""
        self._ending()
        await super().shutdown(sockets)

    def _report(self, now: float) -> None:
        counts = (BoundedProtocol.ended, BoundedProtocol.refused)
        if counts != self._reported and now - self._reported_at >= LOG_SECONDS:
            ended, refused = (new - old for new, old in zip(counts, self._reported, strict=True))
            log.warning("connections of slow clients", ended=ended, refused=refused)
            self._reported, self._reported_at = counts, now


class BoundedProtocol(H11Protocol):
    """One connection, which waits for its client for a bounded time.

    Attributes:
        ended: number of connections that were ended, in this process.
        refused: number of connections that were refused.
    """

    ended = 0
    refused = 0

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._max_connections = cast("HttpConfig", config).max_connections
        self._pauses = 0
        self._waits_for: tuple[object, ...] = ()
        self.since = time.monotonic()
        """Since when it waits for the same thing."""
        self.is_connected = False
        """Whether its handshake is done, if it has one."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the place of the idle connection that has waited longest, if there are too many."""
        self.is_connected = True
        super().connection_made(transport)
        self._waits_for = self._waiting()
        if len(self.connections) <= self._max_connections:
            return  # Nearly always, and without a look at each of a thousand connections.
        others = [
            other
            for other in self.connections
            if isinstance(other, BoundedProtocol) and not other.transport.is_closing()
        ]
        if len(others) <= self._max_connections:
            return
        idle = [other for other in others if other.is_idle and other is not self]
        if idle:
            BoundedProtocol.ended += 1
            min(idle, key=lambda other: other.since).transport.abort()
        else:
            BoundedProtocol.refused += 1
            transport.write(_BUSY)
            transport.close()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 -- uvicorn's text
        """Answer to what is no HTTP, or a head that is too long."""
        if self.is_idle:
            self.transport.write(_INVALID)
        self.transport.close()

    def pause_writing(self) -> None:
        """The send buffer is full."""
        self._pauses += 1
        super().pause_writing()

    @property
    def is_idle(self) -> bool:
        """No request is under way: none has arrived yet, or the last one was answered."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is None or cycle.response_complete

    def check(self, now: float) -> None:
        """End the connection if it has waited for its client for too long; `now`: monotonic."""
        waits_for = self._waiting()
        if waits_for != self._waits_for:
            self._waits_for, self.since = waits_for, now
            return
        limit = waits_for[0]
        if not isinstance(limit, float) or now - self.since <= limit:
            return
        BoundedProtocol.ended += 1
        if limit != REQUEST_SECONDS:
            self.transport.abort()
            return
        if self.conn.trailing_data[0] if self.is_idle else not self.cycle.response_started:
            self.transport.write(_LATE)
        self.transport.close()

    def _waiting(self) -> tuple[object, ...]:
        """The seconds that may pass (None: it waits for us), and what tells this wait from others."""
        limit: float | None = None
        if self.transport.is_closing():
            limit = CLOSING_SECONDS
        elif self.flow.write_paused:
            limit = READER_SECONDS
        elif self.is_idle or self.cycle.more_body:
            limit = REQUEST_SECONDS
        return limit, self.cycle, self._pauses


class OncePerPeriod(logging.Filter):
    """Lets a message of the same text pass once every `LOG_SECONDS`, with the number of those left out."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._seen: dict[object, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        key = record.msg if isinstance(record.msg, str) else type(record.msg)
        key = str(key).split("\n", 1)[0][:100]
        now = self._monotonic()
        at, left_out = self._seen.get(key, (-LOG_SECONDS, 0))
        if now - at < LOG_SECONDS:
            self._seen[key] = at, left_out + 1
            return False
        if len(self._seen) >= _MAX_TEXTS:
            self._seen.clear()
        self._seen[key] = now, 0
        if left_out:
            record.msg = f"{record.msg} ({left_out} more since)"
        return True


_MAX_TEXTS: Final = 200


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open files, as far as this process may and needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _max_connections() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(soft // 2, soft - RESERVED_DESCRIPTORS))
