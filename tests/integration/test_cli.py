"""`vxctl` against everything that is not a controller at work: a clear error, never a traceback."""

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from contract import VERSION
from contract.runtime.exit_status import ExitStatus
from controller.api import IDENTITY_HEADER
from controller.cli import main
from tests.controller_process import VXCTL, assert_clear_error, environment, free_port, vxctl

COMMANDS = [
    ("status",),
    ("audit",),
    ("requeue", "one"),
    ("pause", "one"),
    ("mode", "observe", "--cluster"),
    ("breaker",),
    ("breaker", "reset"),
    ("get", "nodes"),
    ("get", "runs", "-o", "json"),
    ("describe", "node", "one"),
    ("describe", "network", "shop"),
]


class Stranger(ThreadingHTTPServer):
    """An HTTP server that gives one answer to everything."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = ""
        self.asked: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: Stranger

    def do_GET(self) -> None:
        """Give the answer."""
        self.server.asked.append(f"{self.command} {self.path}")
        body = self.server.body.encode()
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 -- the name is the base class's

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's
        """Keep quiet."""


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    """Something that answers."""
    with Stranger() as server:
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        thread.start()
        yield server
        server.shutdown()
        thread.join(60)


def run(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int | str | None:
    """Run `vxctl` in this process; return its exit status."""
    monkeypatch.setattr(sys, "argv", ["vxctl", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


def fails(
    *arguments: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: int = ExitStatus.ERROR,
) -> str:
    """The error and the hint with which a command fails."""
    assert run(*arguments, monkeypatch=monkeypatch) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    error, hint = printed.err.splitlines()
    assert re.fullmatch("error: .+", error)
    assert re.fullmatch("hint: .+", hint)
    return printed.err.rstrip("\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_no_controller(command: tuple[str, ...]) -> None:
    done = vxctl(*command, url=f"http://127.0.0.1:{free_port()}")
    assert_clear_error(done, "no controller answers at http://127.0.0.1:.*refused")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("garbage", "is not a URL"),
        ("127.0.0.1:8479", "is not a URL"),
        ("http://", "is not a URL"),
        ("http://[::1", "is not a URL"),
        ("ftp://127.0.0.1/", "is not a URL"),
        ("http://\x1b[2J/", "is not a URL"),
        ("http://" + "a" * 300, "is not a URL"),
        ("http://127.0.0.1:99999999", "no controller answers"),
    ],
)
def test_a_url_that_is_none(
    url: str, problem: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status = ExitStatus.USAGE if problem == "is not a URL" else ExitStatus.ERROR
    told = fails("status", "--url", url, monkeypatch=monkeypatch, capsys=capsys, status=status)
    error, hint = told.splitlines()
    assert problem in error
    assert "VXLAN_OPERATOR_URL" in hint
    assert (error + hint).isprintable()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(200, "<html>It works!</html>", id="a web server"),
        pytest.param(200, "", id="nothing"),
        pytest.param(200, "{}", id="an empty object"),
        pytest.param(200, "[]", id="an empty list"),
        pytest.param(200, "null", id="null"),
        pytest.param(200, '[{"ok": true}]', id="other objects"),
        pytest.param(404, '{"message": "page not found"}', id="the Docker API"),
        pytest.param(301, "", id="a redirect"),
        pytest.param(502, "Bad Gateway", id="a proxy"),
    ],
)
def test_something_that_is_no_controller(
    stranger: Stranger,
    command: tuple[str, ...],
    status: int,
    body: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stranger.status, stranger.body = status, body
    line = fails(*command, "--url", stranger.url, monkeypatch=monkeypatch, capsys=capsys)
    assert (
        f"the server at {stranger.url} is not a vxlan-operator controller (HTTP {status})" in line
    )


@pytest.mark.parametrize(
    ("status", "body", "line"),
    [
        pytest.param(
            404,
            json.dumps({"detail": "no node has the id 'x'"}),
            "error: no node has the id 'x'\nhint: correct the command",
            id="unknown node",
        ),
        pytest.param(
            404,
            json.dumps({"detail": "no node has the id 'x'", "hint": "list them"}),
            "error: no node has the id 'x'\nhint: list them",
            id="an error with a hint",
        ),
        pytest.param(
            503,
            json.dumps({"detail": "no database"}),
            "error: no database\nhint: look at the controller's log, and try again",
            id="no database",
        ),
        pytest.param(
            500,
            "Internal Server Error",
            "error: HTTP 500\nhint: look at the controller's log, and try again",
            id="a bug",
        ),
        pytest.param(
            400,
            "[]",
            "error: HTTP 400\nhint: correct the command",
            id="an error without details",
        ),
    ],
)
def test_errors_of_a_controller_are_told_in_its_words(
    stranger: Stranger,
    status: int,
    body: str,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stranger.status, stranger.body = status, body
    stranger.headers = {IDENTITY_HEADER: VERSION}
    told = fails("status", "--url", stranger.url, monkeypatch=monkeypatch, capsys=capsys)
    assert told == line


def test_a_controller_that_does_not_answer_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("controller.cli.client._TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        line = fails("status", "--url", url, monkeypatch=monkeypatch, capsys=capsys)
    assert "no controller answers" in line


def test_whatever_is_typed_for_a_node_stays_one_segment_of_the_path(
    stranger: Stranger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails("requeue", "../../x?y#z %", "--url", stranger.url, monkeypatch=monkeypatch, capsys=capsys)
    assert stranger.asked == ["POST /api/v1/nodes/..%2F..%2Fx%3Fy%23z%20%25/requeue"]


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["nosuch"], "no such command 'nosuch'"),
        (["status", "--bogus"], "no such option: --bogus"),
        (["status", "-o", "xml"], "'xml' is not one of 'table', 'wide', 'json'"),
        (["audit", "--limit", "0"], "'--limit'"),
        (["get", "volumes"], "no such command 'volumes'"),
        (["get", "nodes", "-o", "xml"], "'xml' is not one of"),
        (["get", "runs", "--limit", "100001"], "'--limit'"),
        (["describe", "node"], "missing argument"),
        (["requeue"], "missing argument"),
        (["mode", "nosuch", "--cluster"], "'nosuch' is not one of"),
        (["mode"], "missing argument"),
        (["breaker", "nosuch"], "no such command 'nosuch'"),
    ],
)
def test_invalid_arguments_are_a_clear_error(
    arguments: list[str],
    wrong: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    error, hint = fails(
        *arguments, monkeypatch=monkeypatch, capsys=capsys, status=ExitStatus.USAGE
    ).splitlines()
    assert wrong in error
    assert re.fullmatch("hint: see `vxctl[a-z ]* --help`", hint)


@pytest.mark.parametrize("arguments", [[], ["get"], ["describe"], ["db"]])
def test_a_group_alone_shows_its_help(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments, monkeypatch=monkeypatch) == 2
    printed = capsys.readouterr()
    assert "Usage: vxctl" in printed.out
    assert printed.err == ""


def test_a_reader_that_has_seen_enough_is_no_error(stranger: Stranger) -> None:
    stranger.headers = {IDENTITY_HEADER: VERSION}
    stranger.body = json.dumps({"items": [{"padding": "x" * 100}] * 1000, "next": None})
    done = subprocess.run(
        ["sh", "-c", f"{VXCTL} get nodes --limit 1000 -o json | head -1"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment() | {"VXLAN_OPERATOR_URL": stranger.url},
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[\n", "")


def test_the_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("version", "--client", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == f"vxctl {VERSION}\n"
