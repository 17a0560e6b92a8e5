"""A proxy before a server whose connections can go half-open: still there, and nothing comes through."""

import contextlib
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_READ_BYTES = 65_536


@dataclass(eq=False)
class _Connection:
    client: socket.socket
    server: socket.socket
    consumes: bool = False
    swallowed: bool = False

    def close(self) -> None:
        """End both halves, and so the threads that read from them."""
        for half in (self.client, self.server):
            with contextlib.suppress(OSError):
                half.shutdown(socket.SHUT_RDWR)
            half.close()


class Proxy:
    """Listens on a TCP port of the loopback address, or on a Unix socket.

    Args:
        target: the Unix socket of a Redis, or a port of the loopback address.
        path: the Unix socket to listen on; None: TCP.
    """

    def __init__(self, target: Path | int, path: Path | None = None) -> None:
        self._target = target
        if path is None:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.port = self._listener.getsockname()[1]
            self.url = f"redis://127.0.0.1:{self.port}/0"
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(path))
            self._listener.listen()
            self.url = f"redis+socket://{path}"
        self._connections: list[_Connection] = []
        self._swallow_new = False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._connections:
                connection.close()

    def swallow(self, *, consumers_only: bool = False) -> int:
        """Let nothing through what is open now; new connections work. Return how many that are."""
        with self._lock:
            chosen = [
                each
                for each in self._connections
                if not each.swallowed and (each.consumes or not consumers_only)
            ]
            for each in chosen:
                each.swallowed = True
            return len(chosen)

    def swallow_all(self) -> None:
        """Let nothing through, new connections included, until `heal`."""
        with self._lock:
            self._swallow_new = True
        self.swallow()

    def heal(self) -> None:
        """Let new connections work; those that were swallowed never do again."""
        with self._lock:
            self._swallow_new = False

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = self._connect()
            except OSError:
                client.close()
                continue
            with self._lock:
                connection = _Connection(client, server, swallowed=self._swallow_new)
                self._connections.append(connection)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(
                    target=self._pump, args=(connection, source, sink), daemon=True
                ).start()

    def _connect(self) -> socket.socket:
        if isinstance(self._target, int):
            return socket.create_connection(("127.0.0.1", self._target))
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(self._target))
        except OSError:
            server.close()
            raise
        return server

    def _pump(self, connection: _Connection, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_READ_BYTES):
                if source is connection.client and b"BRPOP" in data:
                    connection.consumes = True
                if not connection.swallowed:
                    sink.sendall(data)
        # No end is told to either side of what was swallowed: that is what half-open means.
        if not connection.swallowed:
            connection.close()
