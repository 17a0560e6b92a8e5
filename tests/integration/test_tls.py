"""HTTPS of a real controller: handshakes, new certificates, broken ones, and clients that do not finish."""

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from contract.runtime.errors import OperatorError
from controller.process.tls import Tls
from tests.certificates import Pair, make
from tests.controller_process import (
    ControllerProcess,
    assert_clear_error,
    free_port,
    vxctl,
)
from tests.fake_docker import FakeDocker
from tests.fake_swarm import snapshot
from tests.servers import RedisServer, await_true
from tests.tokens import HEADERS


class TlsController(ControllerProcess):
    """A controller with HTTPS, which trusts the pair that it has now."""

    def __init__(self, folder: Path, pair: Pair, **more: str) -> None:
        super().__init__(
            folder,
            options=("--listen-cert", str(pair.certificate), "--listen-key", str(pair.key)),
            **more,
        )
        self.pair = pair
        self.url = self.url.replace("http:", "https:")
        at = self._options.index("--listen") + 1
        self._options = (
            *self._options[:at],
            self.url.removeprefix("https://"),
            *self._options[at + 1 :],
        )
        self.address = ("127.0.0.1", int(self.url.rpartition(":")[2]))

    def get(self, path: str, trusted: Pair | None = None) -> httpx.Response:
        """Ask by a new connection."""
        context = (trusted or self.pair).client()
        with httpx.Client(verify=context, headers=HEADERS, timeout=20) as client:
            return client.get(self.url + path)

    def answers(self, status: int) -> bool:
        """See `ControllerProcess.answers`."""
        try:
            return self.get("/readyz").status_code == status
        except httpx.TransportError:
            return False

    def serves(self, pair: Pair) -> bool:
        """Whether a client that trusts this pair alone is answered."""
        try:
            return self.get("/healthz", pair).status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture
def controller(tmp_path: Path, redis_server: RedisServer) -> Iterator[TlsController]:
    """A controller that is ready."""
    with FakeDocker(tmp_path / "docker.sock", snapshot()) as docker:
        first = make(tmp_path, "live")
        controller = TlsController(
            tmp_path, first, broker_url=redis_server.url, docker_url=docker.url
        )
        with controller.running():
            yield controller


def put(new: Pair, live: Pair) -> None:
    """Give the controller another pair, as certbot does: new files under the same names."""
    for source, target in zip(new, live, strict=True):
        copy = target.with_suffix(".new")
        shutil.copy(source, copy)
        copy.rename(target)


def test_https_with_new_and_broken_certificates(controller: TlsController, tmp_path: Path) -> None:
    live = controller.pair
    old = Pair(tmp_path / "old.crt", tmp_path / "old.key")
    put(live, old)
    assert controller.get("/api/v1/status").status_code == 200

    with pytest.raises(httpx.TransportError):
        httpx.get(f"{controller.url}/healthz", timeout=20)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{controller.address[1]}/healthz", timeout=20)
    # Another type of key: in one context the old certificate would stay beside the new one.
    new = make(tmp_path, "new", algorithm="ec")
    put(new, live)
    await_true(lambda: controller.serves(new), "the new certificate is served")
    assert not controller.serves(old)

    other = make(tmp_path, "other")
    shutil.copy(other.key, live.key)
    await_true(lambda: "new certificate not used" in controller.log(), "the mismatch is logged")
    assert controller.serves(new)
    live.certificate.write_text("garbage")
    await_true(lambda: controller.log().count("new certificate not used") == 2, "garbage is, too")
    assert controller.serves(new)
    assert controller.log().count("new certificate not used") == 2, "once each"

    put(other, live)
    await_true(lambda: controller.serves(other), "a pair that fits is served again")


def test_handshakes_that_do_not_end_are_ended(controller: TlsController) -> None:
    with ExitStack() as stack:
        halves = [
            stack.enter_context(socket.create_connection(controller.address, 60))
            for _ in range(600)
        ]
        begun = time.monotonic()
        descriptors = len(list(Path(f"/proc/{controller.pid}/fd").iterdir()))
        assert descriptors < 400, "of 250 handshakes, and its own"
        for half in halves:
            assert half_ends(half)
        assert time.monotonic() - begun < 120
        await_true(lambda: controller.serves(controller.pair), "everybody else is served")


def half_ends(half: socket.socket) -> bool:
    """Whether the other side ends the connection."""
    try:
        return half.recv(100) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize(
    ("cert", "key", "problem"),
    [
        ("live.crt", "", "listen_cert is set, and listen_key is not"),
        ("", "live.key", "listen_key is set, and listen_cert is not"),
        ("nosuch.crt", "live.key", "nosuch.crt is no file"),
        ("live.crt", "other.key", "cannot be used: KEY_VALUES_MISMATCH"),
        ("live.key", "live.key", "cannot be used"),
        ("live.crt", "locked.key", "cannot be used"),
    ],
)
def test_a_pair_that_cannot_be_used(tmp_path: Path, cert: str, key: str, problem: str) -> None:
    live = make(tmp_path, "live")
    make(tmp_path, "other")
    subprocess.run(
        ["openssl", "pkey", "-in", str(live.key), "-aes256", "-passout", "pass:secret",
         "-out", str(tmp_path / "locked.key")], check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    with pytest.raises(OperatorError, match=problem) as caught:
        Tls.of(str(tmp_path / cert) if cert else "", str(tmp_path / key) if key else "")
    assert "LISTEN_KEY" in (caught.value.hint or "")


def test_what_is_wrong_ends_the_controller() -> None:
    done = vxctl("controller", "--listen-cert", "/nonexistent", "--listen-key", "/nonexistent")
    assert_clear_error(done, "/nonexistent is no file")
    done = vxctl("controller", "--listen", f"0.0.0.0:{free_port()}")
    assert_clear_error(done, "is not loopback, and without TLS")
    done = vxctl(
        "controller", "--listen", f"0.0.0.0:{free_port()}", "--listen-plain", "true",
        "--docker-host", "unix:///nonexistent",
    )  # fmt: skip
    assert_clear_error(done, "does not answer")


def test_an_end_that_is_near_is_logged_once_a_day(tmp_path: Path) -> None:
    pair = make(tmp_path, "short", days=20)
    now = [datetime.now(UTC)]
    tls = Tls(pair.certificate, pair.key, now=lambda: now[0])
    assert tls.context.minimum_version is ssl.TLSVersion.TLSv1_2
    with capture_logs() as logs:
        tls.refresh()
        assert logs == []
        now[0] += timedelta(days=7)
        tls.refresh()
        tls.refresh()
        assert [row["event"] for row in logs] == ["the certificate expires soon"]
        now[0] += timedelta(days=1)
        tls.refresh()
        assert len(logs) == 2
        now[0] += timedelta(days=30)
        tls.refresh()
        assert logs[2]["event"] == "the certificate has expired"
