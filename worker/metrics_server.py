"""`MetricsServer`: answers `GET /metrics` by HTTP, on a port or a socket of this machine.

One thread, a few clients and a deadline for each: a client that is slow, or that asks without a break, costs
the worker a few milliseconds a second. Nothing is read of a request but its first line.
"""

import contextlib
import os
import re
import selectors
import socket
import stat
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import structlog

from contract.runtime.errors import OperatorError
from worker.metrics import CONTENT_TYPE

log = structlog.get_logger(__name__)

MAX_CLIENTS: Final = 8
"""At a time; for one more, the oldest is dropped: who asks in earnest is done within milliseconds."""
CLIENT_SECONDS: Final = 5.0
"""From the connection to the end of the answer."""
BETWEEN_CLIENTS_SECONDS: Final = 0.02
"""From one connection that is taken to the next: a flood costs no more than fifty answers a second."""
_RETRY_SECONDS: Final = 1.0
_MAX_REQUEST_BYTES: Final = 8192
_LISTEN: Final = re.compile(
    r"(?:(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<v4>[0-9.]*)):)?(?P<port>\d{1,5})"
)
_HINT: Final = "set VXLAN_OPERATOR_METRICS_LISTEN (or --metrics-listen) to "


def checked_listen(value: str) -> str:
    """Return a valid value of the setting; raise ValueError for another one."""
    if value and not value.startswith("/"):
        _address(value)
    return value


def _address(value: str) -> tuple[str, int]:
    """Return host and port of `PORT` (on loopback), `ADDRESS:PORT` or `[ADDRESS]:PORT`.

    Raises:
        ValueError: it is none of these.
    """
    found = _LISTEN.fullmatch(value)
    if found is None or int(found["port"]) > 65535:
        raise ValueError("must be PORT, ADDRESS:PORT, or the path of a socket")
    return str(ip_address(found["v6"] or found["v4"] or "127.0.0.1")), int(found["port"])


class _Client:
    """A connection: what came of its request, or what is left of its answer."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.deadline = time.monotonic() + CLIENT_SECONDS
        self.request = bytearray()
        self.answer: memoryview | None = None


class MetricsServer:
    """Serves a text at `/metrics`.

    Args:
        listen: PORT on loopback, ADDRESS:PORT, or the path of a socket, which is replaced.
        text: returns the metrics.

    Raises:
        OperatorError: nobody can listen there.
    """

    def __init__(self, listen: str, text: Callable[[], bytes]) -> None:
        self._text = text
        self._path = Path(listen) if listen.startswith("/") else None
        self._listener = _on_path(self._path) if self._path else _on_port(*_address(listen))
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._clients: dict[_Client, None] = {}
        """The oldest first."""
        self._accept_at = 0.0
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    @property
    def port(self) -> int:
        """The port; 0: there is none."""
        return 0 if self._path else int(self._listener.getsockname()[1])

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread, within `timeout` seconds, if it was started; close everything."""
        if self._thread.is_alive():
            os.eventfd_write(self._wake, 1)
            self._thread.join(timeout)
        if self._thread.is_alive():
            return
        self._listener.close()
        for client in list(self._clients):
            self._drop(client)
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._selector.close()
        os.close(self._wake)

    def _run(self) -> None:
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)
        while True:
            try:
                if not self._step():
                    return
            except Exception:
                log.exception("metrics cannot be served, going on")
                time.sleep(_RETRY_SECONDS)

    def _step(self) -> bool:
        """Do what can be done at once, after waiting for that; return False if it is to end."""
        now = time.monotonic()
        deadlines = [client.deadline - now for client in self._clients]
        ready = self._selector.select(min(deadlines, default=None))
        now = time.monotonic()
        for key, _ in ready:
            if key.fileobj == self._wake:
                return False
            if key.fileobj is self._listener:
                self._accept(now)
            elif key.data in self._clients:
                self._serve(key.data)
        for client in [client for client in self._clients if now >= client.deadline]:
            self._drop(client)
        return True

    def _accept(self, now: float) -> None:
        # Until then others wait in the kernel.
        time.sleep(max(self._accept_at - now, 0.0))
        self._accept_at = time.monotonic() + BETWEEN_CLIENTS_SECONDS
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        connection.setblocking(False)
        if len(self._clients) >= MAX_CLIENTS:
            self._drop(next(iter(self._clients)))
        client = _Client(connection)
        self._clients[client] = None
        self._selector.register(connection, selectors.EVENT_READ, client)

    def _serve(self, client: _Client) -> None:
        """Read or write a part."""
        try:
            if client.answer is None:
                received = client.connection.recv(_MAX_REQUEST_BYTES)
                client.request += received
                if not received or len(client.request) > _MAX_REQUEST_BYTES:
                    self._drop(client)
                elif b"\r\n\r\n" in client.request or b"\n\n" in client.request:
                    client.answer = memoryview(self._answer(bytes(client.request)))
                    self._selector.modify(client.connection, selectors.EVENT_WRITE, client)
                return
            client.answer = client.answer[client.connection.send(client.answer) :]
            if not client.answer:
                with contextlib.suppress(OSError):
                    client.connection.shutdown(socket.SHUT_RDWR)
                self._drop(client)
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)

    def _answer(self, request: bytes) -> bytes:
        method, _, rest = request.partition(b" ")
        path = rest.split(b"\r\n", 1)[0].split(b" ", 1)[0].partition(b"?")[0]
        status, kind, body = HTTPStatus.OK, CONTENT_TYPE, b""
        if path != b"/metrics":
            status, kind, body = HTTPStatus.NOT_FOUND, "text/plain", b"only /metrics is here\n"
        elif method not in (b"GET", b"HEAD"):
            status = HTTPStatus.METHOD_NOT_ALLOWED
        else:
            body = self._text()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n"
            "Allow: GET, HEAD\r\n\r\n"
        )
        return head.encode() + (b"" if method == b"HEAD" else body)

    def _drop(self, client: _Client) -> None:
        self._clients.pop(client, None)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(client.connection)
        client.connection.close()


def _on_port(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise OperatorError(
            f"metrics cannot be served on {host} port {port}: {error.strerror}",
            _HINT + "a free port of this machine, or unset it",
        ) from error
    if not ip_address(host).is_loopback:
        log.warning(
            "the metrics are for everybody who reaches this address: no token is asked for",
            address=host,
            port=port,
        )
    return listener


def _on_path(path: Path) -> socket.socket:
    """Listen on a socket that any user of this machine may read, as they could a port on loopback."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        # One that a killed worker left; anything else stays where it is.
        if path.exists() and stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen()
    except OSError as error:
        listener.close()
        raise OperatorError(
            f"metrics cannot be served on {path}: {error.strerror or error}",
            _HINT + "a path in a folder that the worker may write to, or to a PORT",
        ) from error
    return listener
