"""`vxctl` and a hostile controller: no token goes elsewhere, memory and time are bounded, errors clear."""

import gzip
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from contract import VERSION
from contract.runtime.errors import OperatorError
from contract.runtime.exit_status import ExitStatus
from controller.api import IDENTITY_HEADER
from controller.cli import client
from tests.controller_process import VXCTL, assert_clear_error, environment, vxctl
from tests.tokens import ADMIN

Answer = Callable[[socket.socket], None]
_MAX_KILOBYTES = 400_000
HEAD = f"HTTP/1.1 200 OK\r\n{IDENTITY_HEADER}: {VERSION}\r\nConnection: close\r\n"


@contextmanager
def hostile(answer: Answer) -> Iterator[tuple[str, list[bytes]]]:
    """A server whose answers are these; its URL, and the requests that it got."""
    requests: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(60)
            requests.append(connection.recv(65536))
            answer(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", requests
        listener.shutdown(socket.SHUT_RDWR)


def saying(text: str, body: bytes = b"") -> Answer:
    """Answers once."""
    return lambda connection: connection.sendall(text.encode() + b"\r\n" + body)


def bounded(*arguments: str, url: str) -> "subprocess.CompletedProcess[str]":
    """Run `vxctl` with little memory."""
    limit = 1024 * _MAX_KILOBYTES

    return subprocess.run(
        ["prlimit", f"--data={limit}", "--", VXCTL, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment() | {"VXLAN_OPERATOR_URL": url},
        check=False,
    )


def endless(piece: bytes) -> Answer:
    """Sends this for ever."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD.encode() + b"Content-Type: application/json\r\n\r\n")
        while True:
            connection.sendall(piece * 1000)

    return answer


@pytest.mark.parametrize("status", ["301", "302", "307", "308"])
def test_a_redirect_does_not_take_the_token_elsewhere(status: str) -> None:
    with hostile(saying(HEAD, b"{}")) as (elsewhere, got):
        moved = HEAD.replace("200 OK", f"{status} Moved") + f"Location: {elsewhere}/\r\n"
        with hostile(saying(moved)) as (url, asked):
            assert_clear_error(vxctl("status", url=url), f"HTTP {status}")
        assert ADMIN.text.encode() in asked[0]
        assert got == []


def test_the_token_goes_to_no_proxy_on_the_way_to_this_machine() -> None:
    with (
        hostile(saying(HEAD, b"{}")) as (proxy, got),
        hostile(saying(HEAD, b"{}")) as (url, asked),
    ):
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            subprocess.run(
                [VXCTL, "get", "nodes"],
                env=environment() | {name: proxy, "VXLAN_OPERATOR_URL": url},
                capture_output=True,
                timeout=60,
                check=False,
            )
        assert got == []
        assert len(asked) == 3


@pytest.mark.parametrize("piece", [b" ", b'{"items":[', b"[[[[", b"x"])
@pytest.mark.parametrize("verb", [("status",), ("get", "nodes")])
def test_an_answer_without_an_end_is_cut(piece: bytes, verb: tuple[str, ...]) -> None:
    with hostile(endless(piece)) as (url, _):
        assert_clear_error(bounded(*verb, url=url), "longer than")


def test_an_event_without_an_end_is_cut() -> None:
    with hostile(endless(b"data: xxxxxxxx\n")) as (url, _):
        done = follow(url)
        assert "longer than" in done, done


def follow(url: str) -> str:
    """The first line that `vxctl get nodes -w` says on standard error."""
    with subprocess.Popen(
        ["prlimit", f"--data={1024 * _MAX_KILOBYTES}", "--", VXCTL, "get", "nodes", "-w"],
        env=environment() | {"VXLAN_OPERATOR_URL": url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            return process.stderr.readline()
        finally:
            process.kill()


def test_a_compressed_answer_is_not_unpacked() -> None:
    bomb = gzip.compress(b" " * 50_000_000) * 20
    head = f"{HEAD}Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n"
    with hostile(saying(head, bomb)) as (url, asked):
        assert_clear_error(bounded("status", url=url), "compressed")
        assert b"accept-encoding: identity" in asked[0].lower()


def test_an_answer_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_ANSWER_SECONDS", 1.0)

    def drip(connection: socket.socket) -> None:
        connection.sendall(HEAD.encode() + b"\r\n")
        while True:
            connection.sendall(b" ")
            time.sleep(0.05)

    with hostile(drip) as (url, _), pytest.raises(client.UnavailableError, match="did not arrive"):
        client.Client(url).get("status")


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        (("status",), b"[" * 100_000),
        (("status",), b'{"a":' + b"9" * 5000 + b"}"),
        (("status",), b"\xff\xfe"),
        (("status",), b"null"),
        (("get", "nodes"), b'{"items":[{}],"next":null}'),
        (("get", "nodes"), b'{"items":[{"id":{},"hostname":[]}],"next":null}'),
        (("get", "runs"), b'{"items":[{"requested_at":"0000-00-00"}],"next":null}'),
        (("get", "nodes"), b'{"items":{"a":1},"next":null}'),
        (("describe", "node", "x"), b"{}"),
        (("events",), b'{"items":[{"at":"99999-01-01T00:00:00Z"}],"next":null}'),
        (("token", "list"), b'{"items":[3],"next":null}'),
    ],
)
def test_what_is_no_answer_is_one_clear_error(verb: tuple[str, ...], body: bytes) -> None:
    """Also from a controller that says it is of this version."""
    with hostile(saying(f"{HEAD}Content-Type: application/json; charset=zlib_codec\r\n", body)) as (
        url,
        _,
    ):
        assert_clear_error(vxctl(*verb, url=url), "not understood")


def test_a_problem_of_any_shape_is_one_clear_error() -> None:
    head = HEAD.replace("200 OK", "409 Conflict")
    bodies: tuple[object, ...] = (
        {"detail": {"a": [1]}, "hint": ["\x1b[31m"]},
        {"detail": "\x1b]0;x\x07\u202e" + "y" * 1_000_000, "hint": 7},
        [],
    )
    for body in bodies:
        with hostile(saying(head, json.dumps(body).encode())) as (url, _):
            done = vxctl("status", url=url)
        assert_clear_error(done, "")
        assert "\x1b" not in done.stderr
        assert len(done.stderr) < 5000


def test_a_password_in_the_url_is_not_shown() -> None:
    done = vxctl("status", url="http://alice:secret@127.0.0.1:1")
    assert_clear_error(done, "user or password", status=ExitStatus.USAGE)
    assert "secret" not in done.stderr


def test_plain_http_where_tls_is_spoken() -> None:
    def alert(connection: socket.socket) -> None:
        connection.sendall(b"\x15\x03\x01\x00\x02\x02\x46")

    for answer in (alert, lambda connection: connection.close()):
        with hostile(answer) as (url, _):
            done = vxctl("status", url=url)
        assert_clear_error(done, "no controller answers")
        assert "https://" in done.stderr


def test_a_list_without_an_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_MAX_PAGES", 5)
    with hostile(saying(HEAD, b'{"items":[],"next":"x"}')) as (url, asked):
        with pytest.raises(OperatorError, match="does not end"):
            list(client.Client(url).pages("nodes", 10))
        assert len(asked) == 5


@pytest.mark.parametrize("kind", ["pipe", "folder", "zeros"])
def test_a_token_file_that_is_no_file(kind: str, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    file = {"pipe": pipe, "folder": tmp_path, "zeros": Path("/dev/zero")}[kind]
    done = subprocess.run(
        [VXCTL, "status"],
        env=environment() | {"VXLAN_OPERATOR_TOKEN": "", "VXLAN_OPERATOR_TOKEN_FILE": str(file)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == ExitStatus.ERROR
    # Before these it may stand that others may read the file.
    error, hint = done.stderr.splitlines()[-2:]
    problems = {"pipe": "nothing came", "folder": "cannot be read", "zeros": "holds no token"}
    assert problems[kind] in error
    assert hint.startswith("hint: ")


def test_a_token_from_another_program(tmp_path: Path) -> None:
    """As in `vxctl --token-file <(pass show vxctl)`: it comes later."""
    with hostile(saying(HEAD.replace("200 OK", "409 Conflict"), b"{}")) as (url, asked):
        subprocess.run(
            ["bash", "-c", f"{VXCTL} status --token-file <(sleep 1; echo {ADMIN.text})"],
            env={**environment(), "VXLAN_OPERATOR_URL": url},
            timeout=60,
            check=False,
        )
        assert ADMIN.text.encode() in asked[0]
