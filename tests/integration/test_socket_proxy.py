"""HAProxy before Docker's socket: it lets reading through and nothing else, and blanks services' secrets."""

import json
import random
import stat
import string
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingMixIn, UnixStreamServer
from typing import Any

import pytest

from controller.swarm.manager import DockerSwarm
from controller.swarm.model import SwarmError
from tests.conftest import cannot
from tests.fake_docker import FakeDocker, Fault
from tests.fake_swarm import SHOP, node, read_whole, snapshot, task
from tests.servers import ServerMissingError, await_true
from tests.socket_proxy import SocketProxy

STATE = snapshot(node("one"), networks=[SHOP], tasks=[task("t1", "one", "shop", service="web")])


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeDocker]:
    with FakeDocker(tmp_path_factory.mktemp("dockerd") / "docker.sock", STATE) as docker:
        yield docker


def proxy_before(folder: Path, socket: Path, engine: Path | None, **options: str) -> SocketProxy:
    try:
        return SocketProxy(folder, socket, engine=engine, **options)
    except ServerMissingError as error:
        cannot(str(error))
        raise


@pytest.fixture(scope="module")
def proxy(
    docker: FakeDocker, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[SocketProxy]:
    """Waits for a second only."""
    socket = Path(docker.url.removeprefix("unix://"))
    engine = request.config.getoption("--engine")
    with proxy_before(tmp_path_factory.mktemp("p") / "1", socket, engine, timeout="1s") as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def nothing_asked_yet(docker: FakeDocker) -> None:
    docker.asked.clear()
    docker.faults.clear()
    docker.show(STATE)


def get(path: str, *headers: str, method: str = "GET", body: str = "") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: docker", *headers, "", body]
    return "\r\n".join(lines).encode()


PATHS = ("version", "info", "nodes", "networks", "tasks")


@pytest.mark.parametrize("prefix", ["/v1.24", "/v1.41", "/v1.51"])
@pytest.mark.parametrize("path", PATHS)
def test_what_is_read_passes(
    proxy: SocketProxy, docker: FakeDocker, prefix: str, path: str
) -> None:
    status, body = proxy.say(get(f"{prefix}/{path}?filters=%7B%22a%22%3A%5B%22b%22%5D%7D"))
    assert status == 200
    json.loads(body)
    assert docker.asked == [(path, {"a": ["b"]})]


@pytest.mark.parametrize("path", ["/info", "/v1.100/info", "/_ping", "/v1.52/_ping"])
def test_what_dockerd_makes_of_other_versions_is_dockerds_own(
    proxy: SocketProxy, path: str
) -> None:
    status, body = proxy.say(get(path))
    assert (status, body) == (200, b"OK") if "_ping" in path else status == 400
    assert b"proxy" not in body


REFUSED = {
    **{
        f"{method} {path}": get(path, method=method)
        for method in ("POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "CONNECT", "BREW")
        for path in ("/info", "/v1.41/networks")
    },
    **{
        path: get(path)
        for path in (
            "/containers/json", "/v1.41/containers/json", "/services", "/v1.41/services",
            "/secrets", "/configs", "/images/json", "/swarm", "/swarm/unlockkey", "/system/df",
            "/plugins", "/volumes", "/exec/x/json", "/distribution/x/json", "/session", "/grpc",
            "/nodes/abc", "/networks/abc", "/tasks/abc", "/tasks/abc/logs", "/info/", "/nodes/",
            "/", "", "*", "/v1.41", "/v1.41/", "/v2.0/info", "/v1.4x/info", "/v1.41/v1.41/info",
            "//info", "/v1.41//info", "/./info", "/info/../services", "/v1.41/../info",
            "/services/../info", "/nodes/..", "/..", "/%69nfo", "/v1.41%2finfo", "/nodes%2fabc",
            "/tasks%2Fabc", "/info%00", "/info;x", "/INFO", "/info%0d%0aX:y", "/infos", "/xinfo",
            "http://docker/info", "https://docker/info", "docker.sock/info",
        )
    },
    "a body": get("/info", "Content-Length: 2", body="{}"),
    "a body in chunks": get("/info", "Transfer-Encoding: chunked", body="2\r\n{}\r\n0\r\n\r\n"),
    "an empty body in chunks": get("/info", "Transfer-Encoding: chunked", body="0\r\n\r\n"),
    "an upgrade": get("/info", "Connection: Upgrade", "Upgrade: tcp"),
    "two lengths": get("/info", "Content-Length: 0", "Content-Length: 5", body="{}{}{"),
    "lengths and chunks": get(
        "/info", "Content-Length: 5", "Transfer-Encoding: chunked", body="0\r\n\r\n"
    ),
    "a header that is none": get("/info", "a b: c"),
    "no request": b"\0\1\2 hello\r\n\r\n",
    "a second request in the body": get(
        "/info", "Content-Length: 38", body=get("/services", method="POST").decode()
    ),
}  # fmt: skip


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_more_than_reading_does_not(
    proxy: SocketProxy, docker: FakeDocker, request_: bytes
) -> None:
    status, body = proxy.say(request_)
    assert status in (400, 403, 501), (status, body)
    if status == 403 and body:  # An answer to HEAD has none.
        assert "proxy before dockerd" in json.loads(body)["message"]
    assert docker.asked == []


def test_no_connection_becomes_another_kind(proxy: SocketProxy, docker: FakeDocker) -> None:
    """HAProxy 2.6 refuses it; 3.0 takes it for a question without these headers."""
    status, _ = proxy.say(get("/info", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"))
    assert (status, docker.asked) in [(403, []), (200, [("info", {})])]


def test_only_its_owner_may_use_it(proxy: SocketProxy) -> None:
    assert stat.S_IMODE(proxy.socket.stat().st_mode) == 0o600


def test_the_controller_reads_the_swarm_through_it(proxy: SocketProxy, docker: FakeDocker) -> None:
    swarm = DockerSwarm(proxy.url)
    swarm.check()
    assert read_whole(swarm) == STATE
    swarm.close()


def test_it_is_silent_for_longer_than_its_time_out_while_nothing_happens(
    proxy: SocketProxy, docker: FakeDocker
) -> None:
    def tell() -> None:
        await_true(lambda: docker.listeners, "somebody listens")
        time.sleep(2.5)  # The time-out is one second.
        docker.tell("service", "web")

    listener = DockerSwarm(proxy.url)
    stream = listener.events(listener.clock())
    with ThreadPoolExecutor(1) as pool:
        telling = pool.submit(tell)
        assert next(stream).id == "web"
        telling.result()
    listener.close()


def test_why_dockerd_does_not_answer_is_told(
    proxy: SocketProxy, docker: FakeDocker, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    docker.faults["info"] = Fault.HANG
    status, body = proxy.say(get("/v1.51/info"))
    assert status == 504
    assert "dockerd hangs" in json.loads(body)["message"]
    nowhere = tmp_path / "none.sock"
    with proxy_before(tmp_path / "p", nowhere, request.config.getoption("--engine")) as other:
        swarm = DockerSwarm(other.url)
        with pytest.raises(SwarmError, match="dockerd does not answer its proxy: is it running"):
            swarm.identity()
        # It opens the socket anew each time, so a dockerd that comes is found.
        with FakeDocker(nowhere, STATE):
            assert read_whole(swarm) == STATE


class Pieces(UnixStreamServer, ThreadingMixIn):
    """Answers every request with a body, in pieces; `chunked`: with that coding."""

    body = b""
    sizes: list[int]
    chunked = False


class Piece(StreamRequestHandler):
    """One answer."""

    server: Pieces

    def handle(self) -> None:
        """Send it."""
        while self.rfile.readline().strip():
            pass
        body, chunked = self.server.body, self.server.chunked
        length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
        self.wfile.write(f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode())
        at = 0
        for size in self.server.sizes:
            piece = body[at : at + size]
            at += size
            if piece:
                frame = f"{len(piece):x}\r\n".encode() if chunked else b""
                self.wfile.write(frame + piece + (b"\r\n" if chunked else b""))
                self.wfile.flush()
                time.sleep(0.0005)  # Pieces that arrive together are one.
        if chunked:
            self.wfile.write(b"0\r\n\r\n")


SECRET = "s3cr3t"


def hostile(chance: random.Random) -> str:
    """Text that looks like the JSON around it."""
    marks = [
        '"',
        "\\",
        "{",
        "}",
        "[",
        ":",
        '"ContainerSpec":{',
        '"LogDriver":{',
        "\u00e9\U0001f600",
        "}}}",
        '\\"',
        " ",
    ]
    return SECRET + "".join(
        chance.choices(marks + list(string.ascii_letters), k=chance.randrange(12))
    )


def spec(chance: random.Random) -> dict[str, Any]:
    return {
        "Image": hostile(chance),
        "Env": [f"A={hostile(chance)}" for _ in range(chance.randrange(4))],
        "Labels": {hostile(chance): hostile(chance) for _ in range(chance.randrange(3))},
        "Mounts": [{"Source": hostile(chance), "Options": {}} for _ in range(chance.randrange(3))],
        "Empty": {},
    }


def raw_tasks(chance: random.Random, count: int) -> list[dict[str, Any]]:
    kinds = ("ContainerSpec", "PluginSpec", "NetworkAttachmentSpec")
    return [
        {
            "ID": f"t{number}",
            "Labels": {"note": '"ContainerSpec":{' + chance.choice(["", "}", '"'])},
            "Spec": {
                chance.choice(kinds): spec(chance),
                "Placement": {"Platforms": [{}]},
                "LogDriver": {"Name": "splunk", "Options": {"splunk-token": hostile(chance)}},
                "Networks": [{"Target": "n", "DriverOpts": {hostile(chance): hostile(chance)}}],
            },
            "Status": {"Err": '\\"}{'},
        }
        for number in range(count)
    ]


def without_specs(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def blank(name: str, value: Any) -> Any:
        if name == "Networks":
            return [each | {"DriverOpts": {}} for each in value]
        return {} if name.endswith("Spec") or name == "LogDriver" else value

    return [
        each | {"Spec": {name: blank(name, value) for name, value in each["Spec"].items()}}
        for each in tasks
    ]


@pytest.mark.parametrize("seed", range(12))
def test_specs_of_services_are_blank_however_the_answer_is_cut(
    tmp_path: Path, request: pytest.FixtureRequest, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 -- the same in each run
    tasks = raw_tasks(chance, 3 if seed % 3 else 400)
    with Pieces(str(tmp_path / "docker.sock"), Piece) as server:
        # As Docker writes it.
        server.body = json.dumps(tasks, separators=(",", ":"), ensure_ascii=False).encode()
        longest = 7 if len(tasks) < 10 else 4000
        server.sizes = [chance.randint(1, longest) for _ in server.body]
        server.chunked = bool(seed % 2)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        engine = request.config.getoption("--engine")
        with proxy_before(tmp_path / "p", tmp_path / "docker.sock", engine) as proxy:
            status, body = proxy.say(get("/v1.51/tasks", "Connection: close"))
        server.shutdown()
    if server.chunked:
        body = unchunked(body)
    assert status == 200
    assert len(body) == len(server.body)
    assert json.loads(body) == without_specs(tasks)
    assert SECRET.encode() not in body


def unchunked(body: bytes) -> bytes:
    whole = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if not int(size, 16):
            return whole
        whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]
