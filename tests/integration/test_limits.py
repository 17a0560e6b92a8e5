"""Attacks on the HTTP API of a real controller, over real sockets: it goes on answering everybody else."""

import json
import re
import resource
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from contract.verdicts import Mode
from controller.api.access import routes_of
from controller.api.context import Context
from controller.db.engine import Database
from controller.web.app import Served
from tests.controller_process import HTTP, ControllerProcess
from tests.fake_docker import FakeDocker
from tests.fake_swarm import snapshot, task
from tests.servers import RedisServer
from tests.tokens import ADMIN, HEADERS

DESCRIPTORS = 400
"""Of the controller: 256 are reserved, 200 (half) are for connections."""


class LimitedController(ControllerProcess):
    """A controller that may open few files."""

    def command(self) -> list[str]:
        """See `Server.command`."""
        return ["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}", "--", *super().command()]


@pytest.fixture(scope="module")
def controller(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer
) -> Iterator[LimitedController]:
    """A controller that is ready and knows a node."""
    folder = tmp_path_factory.mktemp("limits")
    full = snapshot(tasks=[task("t1", "one", "shop")])
    with FakeDocker(folder / "docker.sock", full) as docker:
        controller = LimitedController(folder, broker_url=redis_server.url, docker_url=docker.url)
        with controller.running():
            yield controller


def connect(controller: ControllerProcess) -> socket.socket:
    """A connection that nothing was sent over yet."""
    host, port = controller.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def answer_to(controller: ControllerProcess, request: bytes) -> bytes:
    """Everything that is answered to these bytes, until the controller closes the connection."""
    with connect(controller) as connection:
        connection.sendall(request)
        return _all(connection)


def _all(connection: socket.socket) -> bytes:
    pieces = []
    with suppress(ConnectionError):
        while piece := connection.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def body_of(answer: bytes) -> dict[str, object]:
    """The problem in an answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head.lower(), answer
    found: dict[str, object] = json.loads(body)
    return found


def assert_serves(controller: ControllerProcess) -> None:
    """Everybody else is answered."""
    assert HTTP.get(f"{controller.url}/healthz").status_code == 200
    assert HTTP.get(f"{controller.url}/api/v1/status").status_code == 200
    assert HTTP.post(f"{controller.url}/api/v1/nodes/one/requeue", json={}).status_code == 202


def test_half_open_connections_take_no_place_from_others(controller: LimitedController) -> None:
    log = len(controller.log())
    with ExitStack() as stack:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2048)), hard))
        for number in range(1300):
            connection = stack.enter_context(connect(controller))
            if number % 2:
                connection.sendall(b"GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\n")
            if number % 100 == 99:
                assert_serves(controller)
        descriptors = len(list(Path(f"/proc/{controller.pid}/fd").iterdir()))
        assert descriptors < DESCRIPTORS - 20
        assert_serves(controller)
    assert len(controller.log()) - log < 20_000


def test_a_request_that_does_not_arrive_is_ended(controller: LimitedController) -> None:
    begun = b"POST /api/v1/cluster/pause HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    begun += f"Authorization: {HEADERS['Authorization']}\r\n".encode()
    with connect(controller) as head, connect(controller) as body, connect(controller) as silent:
        head.sendall(begun)
        body.sendall(begun + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        ended = threading.Event()

        def drip() -> None:
            while not ended.wait(0.2):
                try:
                    head.sendall(b"X-A: b\r\n")
                    body.sendall(b" ")
                except OSError:
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            assert body_of(_all(head))["status"] == 408
            assert body_of(_all(body))["status"] == 408
            assert _all(silent) == b""
        finally:
            ended.set()
            dripping.join()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_refused_without_being_read(
    controller: LimitedController, chunked: bool
) -> None:
    before = _peak_kilobytes(controller)
    piece = b"x" * 1_000_000

    def many() -> Iterator[bytes]:
        for _ in range(50):
            yield piece

    url = f"{controller.url}/api/v1/cluster/pause"
    headers = {"content-type": "application/json"}
    if not chunked:
        headers["content-length"] = str(50 * len(piece))
    try:
        answer = HTTP.post(url, content=many(), headers=headers)
    except httpx.TransportError:
        pass  # The controller has closed the connection while we sent.
    else:
        assert answer.status_code == 413
        assert answer.json()["hint"]
    assert _peak_kilobytes(controller) - before < 20_000
    assert_serves(controller)


def test_a_large_head_is_refused_and_not_logged(controller: LimitedController) -> None:
    log = len(controller.log())
    start = b"GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    big = answer_to(controller, start + b"X-A: " + b"a" * 50_000 + b"\r\n\r\n")
    assert body_of(big)["status"] == 431
    many = answer_to(controller, start + b"X-A: a\r\n" * 200 + b"\r\n")
    assert body_of(many)["status"] == 431
    url = b"GET /" + b"a" * 50_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    assert body_of(answer_to(controller, url))["status"] == 414
    with connect(controller) as connection:
        with suppress(OSError):  # It does not want to have it all.
            connection.sendall(start + b"X-A: " + b"a" * 16_000_000 + b"\r\n\r\n")
        huge = _all(connection)
    assert huge == b"" or body_of(huge)["status"] in (400, 431)
    assert len(controller.log()) - log < 20_000
    assert_serves(controller)


def test_a_body_with_two_lengths_is_refused(controller: LimitedController) -> None:
    """Behind a proxy that believes the other one, the rest would be a request of somebody else."""
    head = (
        b"POST /api/v1/cluster/resume HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: "
        + HEADERS["Authorization"].encode()
        + b"\r\nContent-Type: application/json\r\n"
    )
    smuggled = b"0\r\n\r\nGET /api/v1/tokens HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "
    for lengths in (
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
    ):
        answer = answer_to(controller, head + lengths + b"\r\n" + smuggled)
        assert body_of(answer)["status"] == 400
        assert answer.count(b"HTTP/1.1 ") == 1, "the connection ends with it"
    assert_serves(controller)


def test_headers_that_browsers_and_caches_obey(controller: LimitedController) -> None:
    for path in ("/api/v1/whoami", "/healthz", "/problems/not-found", "/nosuch", "/metrics"):
        answer = HTTP.get(f"{controller.url}{path}")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "private, no-cache"
        assert "server" not in answer.headers
    page = HTTP.get(f"{controller.url}/problems/not-found")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]


def _peak_kilobytes(controller: ControllerProcess) -> int:
    status = Path(f"/proc/{controller.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


def test_a_flood_on_every_route_breaks_nothing(controller: LimitedController) -> None:
    """Of those who have a token, those who guess one, and those who have none."""
    guessed = {"Authorization": f"Bearer vxo_aaaaaaaa_{'x' * 43}"}
    routes = _routes()
    assert len(routes) > 40
    answered: Counter[int] = Counter()
    valid: Counter[int] = Counter()

    def ask(number: int) -> None:
        method, path = routes[number % len(routes)]
        headers = (HEADERS, guessed, {})[number // len(routes)]
        # Some stream without an end: what counts is that they answer.
        with client.stream(method, f"{controller.url}{path}", headers=headers) as answer:
            answered[answer.status_code] += 1
            if headers is HEADERS:
                valid[answer.status_code] += 1

    with httpx.Client(timeout=60) as client, ThreadPoolExecutor(24) as pool:
        list(pool.map(ask, range(3 * len(routes))))
    assert max(answered) < 500, answered
    assert 401 not in valid, "who has a token is not locked out by those who guess"
    assert answered[429] > 0, "guessing is slowed down"
    assert_serves(controller)


def test_a_flood_on_every_page_breaks_nothing(
    controller: LimitedController, sqlite: Database
) -> None:
    """Of those who are logged in, and those who are not; with as many streams as pages."""
    served = Served(Context(sqlite, mode=Mode.OBSERVE, notify=lambda *_: None))
    pages = [
        re.sub(r"{\w+}", "nosuch", route.path)
        for route in routes_of(served.pages.routes)
        if "GET" in (route.methods or ())
    ]
    assert {"/", "/matrix", "/audit/export.csv", "/ui/stream", "/login"} <= set(pages)
    asked = pages + 5 * [
        "/",
        "/matrix?everything=true",
        "/ui/stream",
        "/audit",
        "/audit/export.csv",
    ]
    answered: Counter[int] = Counter()
    with httpx.Client(
        timeout=60, base_url=controller.url, headers={"Accept": "text/html"}
    ) as client:
        begun = client.post("/login", data={"token": ADMIN.text})
        assert begun.status_code == 303

        def ask(number: int) -> None:
            path = asked[number % len(asked)]
            # Without the cookie for the second half.
            cookies = dict(client.cookies) if number < len(asked) * 3 else {}
            with httpx.stream(
                "GET", f"{controller.url}{path}", cookies=cookies, timeout=60
            ) as answer:
                answered[answer.status_code] += 1

        with ThreadPoolExecutor(24) as pool:
            list(pool.map(ask, range(6 * len(asked))))
        assert max(answered) < 500, answered
        assert answered[200] > len(pages)
        assert client.get("/").status_code == 200, "and the login holds"
    assert_serves(controller)


def _routes() -> list[tuple[str, str]]:
    """Every route of the specification, of things that are not there; but what would stop the cluster."""
    paths = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())["paths"]
    return [
        (method.upper(), re.sub(r"{\w+}", "nosuch", path))
        for path, methods in paths.items()
        for method in methods
        if not (
            method == "post" and path.startswith(("/api/v1/cluster", "/api/v1/controller-keys"))
        )
    ]
