"""The health check of the controller's image, against real servers on real sockets."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from controller.process import healthcheck
from tests import certificates


class _Api(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def api(pair: certificates.Pair | None = None) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Api) as server:
        if pair is not None:
            import ssl

            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.certificate, pair.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(30)


@pytest.fixture(autouse=True)
def command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The first process of the container is `vxctl controller`."""
    path = tmp_path / "cmdline"
    path.write_bytes(b"python3\0/bin/vxctl\0controller\0")
    monkeypatch.setattr(healthcheck, "_INIT", path)
    return path


@pytest.mark.parametrize("host", ["127.0.0.1", "", "0.0.0.0", "localhost"])
def test_asks_where_the_controller_listens(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with api() as port:
        monkeypatch.setenv("VXLAN_OPERATOR_LISTEN", f"{host}:{port}")
        assert healthcheck.check() is None


def test_an_option_goes_before_the_variable(
    command_line: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VXLAN_OPERATOR_LISTEN", "127.0.0.1:1")
    assert "127.0.0.1:1 does not answer" in str(healthcheck.check())
    with api() as port:
        command_line.write_bytes(b"vxctl\0controller\0--listen\x00127.0.0.1:%d\0" % port)
        assert healthcheck.check() is None
        command_line.write_bytes(b"vxctl\0controller\0--listen=127.0.0.1:%d\0" % port)
        assert healthcheck.check() is None


def test_with_tls_of_any_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = certificates.make(tmp_path, "another-name.example", algorithm="ec")
    with api(pair) as port:
        monkeypatch.setenv("VXLAN_OPERATOR_LISTEN", f"127.0.0.1:{port}")
        assert "does not answer" in str(healthcheck.check())
        monkeypatch.setenv("VXLAN_OPERATOR_LISTEN_CERT", str(pair.certificate))
        assert healthcheck.check() is None


def test_one_that_accepts_and_says_nothing_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healthcheck, "TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("VXLAN_OPERATOR_LISTEN", f"127.0.0.1:{listener.getsockname()[1]}")
        assert "does not answer: timed out" in str(healthcheck.check())


def test_another_server_in_its_place_is_unhealthy(
    command_line: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with api() as port:
        monkeypatch.setattr(_Api, "do_GET", lambda self: self.send_error(404))
        monkeypatch.setenv("VXLAN_OPERATOR_LISTEN", f"127.0.0.1:{port}")
        assert f"127.0.0.1:{port} answers /healthz with status 404" == healthcheck.check()


@pytest.mark.parametrize("module", ["controller.process.healthcheck", "worker.healthcheck"])
def test_each_check_needs_the_standard_library_alone(module: str) -> None:
    program = (
        f"import {module}, sys; "
        "print(*{name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    ours = {"controller", "worker", "contract", "__main__"}
    others = {name for name in done.stdout.split() if not name.startswith(("_", "sitecustomize"))}
    assert others <= ours
