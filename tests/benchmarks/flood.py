"""How soon health, status and requeue answer while the API is flooded; the growth of memory and log.

The load generator is a process of its own: `python -m tests.benchmarks.flood URL KIND`.
"""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from controller.db.engine import open_database
from controller.process.http import raise_descriptor_limit
from tests.benchmarks.footprint import Process
from tests.controller_process import HTTP, ControllerProcess
from tests.fake_docker import FakeDocker
from tests.fake_swarm import snapshot, task
from tests.servers import RedisServer, await_true
from tests.tokens import HEADERS
from tests.trail import record

AUDIT_ROWS, SECONDS, CONNECTIONS = 200_000, 15.0, 1_300
_HEAD: Final = f"Host: 127.0.0.1\r\nAuthorization: {HEADERS['Authorization']}\r\n"
_VERIFY: Final = "/api/v1/audit/verify?rows=100000"
_EXPORT: Final = "/api/v1/audit/export"


def main() -> None:
    """Measure, and print."""
    if len(sys.argv) > 1:
        raise_descriptor_limit()
        _FLOODS[sys.argv[2]](sys.argv[1])
        return
    with (
        tempfile.TemporaryDirectory(prefix="vxlan-operator-flood-") as name,
        RedisServer(Path(name)) as redis,
    ):
        state = snapshot(tasks=[task("t1", "one", "shop")])
        with (
            FakeDocker(Path(name) / "docker.sock", state) as docker,
            _Controller(Path(name), broker_url=redis.url, docker_url=docker.url) as controller,
        ):
            await_true(lambda: len(controller.json("get", "nodes")) == 2, "all nodes")
            database = open_database(controller.database_url)
            for _ in range(AUDIT_ROWS // 2_000):
                record(database, 2_000)
            database.close()
            _measure(controller, "none")
            for kind in _FLOODS:
                flood = subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m",
                     "tests.benchmarks.flood", controller.url, kind],
                    stderr=subprocess.DEVNULL,
                )  # fmt: skip
                try:
                    time.sleep(3)
                    _measure(controller, kind)
                finally:
                    flood.kill()
                    flood.wait(30)
                time.sleep(2)


class _Controller(ControllerProcess):
    """One that may open 1,024 files, as most services may."""

    def command(self) -> list[str]:
        return ["prlimit", "--nofile=1024:1024", "--", *super().command()]


def _measure(controller: ControllerProcess, kind: str) -> None:
    process, log = Process(controller.pid), controller.folder / "server.log"
    memory, logged = process.rss_megabytes(), log.stat().st_size
    asked: dict[str, Callable[[], httpx.Response]] = {
        "health": lambda: HTTP.get(f"{controller.url}/healthz"),
        "status": lambda: HTTP.get(f"{controller.url}/api/v1/status"),
        "requeue": lambda: HTTP.post(f"{controller.url}/api/v1/nodes/one/requeue", json={}),
    }
    taken: dict[str, list[float]] = {name: [] for name in asked}
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for name, ask in asked.items():
            begin = time.perf_counter()
            try:
                assert ask().is_success
            except httpx.TransportError:
                taken[name].append(float("inf"))
            else:
                taken[name].append(time.perf_counter() - begin)
        time.sleep(0.1)
    answers = ", ".join(
        f"{name} {statistics.median(found) * 1000:.0f} / {max(found) * 1000:.0f} ms"
        for name, found in taken.items()
    )
    print(
        f"{kind}: {answers} (median / worst of {len(taken['health'])}); memory {memory:.0f} to "
        f"{process.rss_megabytes():.0f} MB; log +{(log.stat().st_size - logged) / 1000:.0f} kB; "
        f"load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def _repeat(count: int, once: Callable[[str], object], url: str) -> None:
    """Do it again and again in so many threads."""

    def run() -> None:
        while True:
            with suppress(httpx.HTTPError, OSError):
                once(url)

    for _ in range(count):
        threading.Thread(target=run, daemon=True).start()
    time.sleep(3_600)


def _get(path: str) -> Callable[[str], object]:
    client = httpx.Client(headers=HEADERS, timeout=60, limits=httpx.Limits(max_connections=None))

    def get(url: str) -> None:
        # Who is refused comes back as a rude client does: soon.
        if client.get(f"{url}{path}").status_code != httpx.codes.OK:
            time.sleep(0.2)

    return get


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=10)


def _unread_exports(url: str) -> None:
    with ExitStack() as stack:
        for _ in range(45):
            connection = stack.enter_context(_connect(url))
            connection.sendall(f"GET {_EXPORT} HTTP/1.1\r\n{_HEAD}\r\n".encode())
        time.sleep(3_600)


def _half_open(url: str) -> None:
    """Open connections; those that the controller ended are opened again."""
    connections: list[socket.socket] = []
    while True:
        for old in connections[: max(0, len(connections) - CONNECTIONS + 10)]:
            old.close()
        del connections[: max(0, len(connections) - CONNECTIONS + 10)]
        with suppress(OSError):
            connection = _connect(url)
            connections.append(connection)
            if len(connections) % 2:
                connection.sendall(b"GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        if len(connections) >= CONNECTIONS - 10:
            time.sleep(0.01)


def _big_body(url: str) -> None:
    def pieces() -> "list[bytes]":
        return [b"x" * 1_000_000] * 200

    httpx.post(
        f"{url}/api/v1/cluster/pause",
        content=iter(pieces()),
        headers=HEADERS | {"content-type": "application/json"},
        timeout=60,
    )


_FLOODS: Final[dict[str, Callable[[str], object]]] = {
    "45 verifications": lambda url: _repeat(45, _get(_VERIFY), url),
    "8 scrape clients": lambda url: _repeat(8, _get("/metrics"), url),
    "8 exports": lambda url: _repeat(8, _get(_EXPORT), url),
    "45 exports that nobody reads": _unread_exports,
    f"{CONNECTIONS} half-open connections": _half_open,
    "8 bodies of 200 MB": lambda url: _repeat(8, _big_body, url),
}


if __name__ == "__main__":
    main()
