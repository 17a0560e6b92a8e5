"""Receivers of notifications on loopback: HTTP servers and an SMTP server that behave as told."""

import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from typing import Any, NamedTuple

from controller.notifications.send import Outgoing

LOOPBACK = Outgoing(allowed=(ip_network("127.0.0.0/8"),), seconds=30.0)
"""Settings of tests: loopback allowed, and time for a machine with a heavy load; what hangs gets less."""


class Received(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class HttpReceiver:
    """What came, and how to answer: a status with a text, or a function that writes to the socket."""

    port: int = 0
    status: int = 200
    text: str = "ok"
    headers: dict[str, str] = field(default_factory=dict)
    by_hand: Callable[[Any], None] | None = None
    received: list[Received] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook/secret"

    def wait(self, count: int, seconds: float = 60.0) -> list[Received]:
        """Wait until so many requests came."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.received) >= count, seconds), (
                self.received
            )
            return list(self.received)


@contextmanager
def http_receiver(tls: Any = None) -> Iterator[HttpReceiver]:
    found = HttpReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with found.changed:
                headers = {name.lower(): value for name, value in self.headers.items()}
                found.received.append(Received(self.path, headers, body))
                found.changed.notify_all()
            if found.by_hand is not None:
                found.by_hand(self)
                return
            self.send_response(found.status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(found.text.encode())))
            self.end_headers()
            self.wfile.write(found.text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    found.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


def hang(handler: Any) -> None:
    """Answer nothing, until the other side goes."""
    with suppress(OSError):
        handler.connection.settimeout(90)
        handler.connection.recv(1)


def drip(handler: Any) -> None:
    """Answer a byte of a header every tenth of a second: no single wait is long."""
    with suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        for _ in range(900):
            handler.wfile.write(b"x")
            time.sleep(0.1)


def endless(handler: Any) -> None:
    """Answer 10 GB, as far as the other side takes it."""
    with suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        while True:
            handler.wfile.write(b"y" * 65536)


@dataclass
class SmtpReceiver:
    """The mails that came; `refuse`: command to the answer that it gets instead of the usual one."""

    port: int = 0
    refuse: dict[str, str] = field(default_factory=dict)
    greeting: str = "220 tests ESMTP"
    offers: tuple[str, ...] = ()
    """Extensions, such as STARTTLS."""
    tls: Any = None
    mails: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)


@contextmanager
def smtp_receiver() -> Iterator[SmtpReceiver]:
    found = SmtpReceiver()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.secure = False
            if not found.greeting:
                hang(self)
                return
            self._say(found.greeting)
            while line := self.rfile.readline(2000).decode("latin-1").rstrip("\r\n"):
                if not self._obey(line):
                    return

        def _say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

        def _obey(self, line: str) -> bool:
            verb = line.split(" ", maxsplit=1)[0].upper()
            if verb in found.refuse:
                self._say(found.refuse[verb])
            elif verb == "EHLO":
                offers = [o for o in found.offers if not (self.secure and o == "STARTTLS")]
                self._say("250-tests")
                for offer in offers:
                    self._say(f"250-{offer}")
                self._say("250 8BITMIME")
            elif verb == "STARTTLS":
                self._say("220 go on")
                self.connection = found.tls.wrap_socket(self.connection, server_side=True)
                self.rfile = self.connection.makefile("rb")
                self.wfile = self.connection.makefile("wb", buffering=0)
                self.secure = True
            elif verb == "AUTH":
                found.logins.append(line)
                self._say("235 welcome")
            elif verb == "DATA":
                self._say("354 go on")
                lines = []
                while (text := self.rfile.readline(2000).decode("latin-1")) != ".\r\n":
                    lines.append(text)
                found.mails.append("".join(lines))
                found.encrypted.append(self.secure)
                self._say("250 taken")
            else:
                self._say("221 bye" if verb == "QUIT" else "250 ok")
            return verb != "QUIT"

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, *_: Any) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        found.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield found
        finally:
            server.shutdown()
