"""`vxctl explain` as people type it: without quotes, from files and pipes, with and without a controller."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from contract.runtime.exit_status import ExitStatus
from controller.cli.explain import MAX_BYTES
from controller.explain.text import MAX_TEXT
from tests import forked
from tests.controller_process import environment, vxctl
from tests.fake_swarm import swarm_id
from tests.integration.test_cli_views import HOSTILE, url

__all__ = ["url"]

FAULT = (
    'network sandbox join failed: subnet sandbox join failed for "10.0.1.0/24": error creating vxlan '
    "interface: file exists"
)
NOWHERE = "http://127.0.0.1:1"


def explained(
    *arguments: str, given: bytes = b"", at: str = NOWHERE
) -> "subprocess.CompletedProcess[bytes]":
    """Run it with something on standard input."""
    variables = environment() | {"VXLAN_OPERATOR_URL": at}
    return forked.run(["explain", *arguments], variables, 60, given)


@pytest.mark.parametrize(
    "arguments",
    [
        (f"one: {FAULT}",),
        tuple(f"one: {FAULT}".split()),
        (*f"{FAULT} on one --no-trunc".split(),),
        ("-o", "table", *f"{FAULT} on one".split()),
        (*f"{FAULT} on one".split(), "-o", "table"),
    ],
)
def test_a_line_with_or_without_quotes(url: str, arguments: Sequence[str]) -> None:
    done = explained(*arguments, at=url)
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode()
    assert f"It is about node one ({swarm_id('one')})." in said
    assert "On node one" in said
    assert "ip link delete vx-001001-shopz" in said


def test_files_and_standard_input(url: str, tmp_path: Path) -> None:
    log = tmp_path / "docker.log"
    log.write_text(
        "\n".join([f"2026-11-26T10:00:{n:02}Z one dockerd[7]: {FAULT}" for n in range(60)])
    )
    for arguments, given in (
        (("-f", str(log)), b""),
        (("-",), log.read_bytes()),
        ((), log.read_bytes()),
        (("-f", "-"), log.read_bytes()),
        ((), log.read_text().encode("utf-16")),
        (("-f", str(log), "-"), b"more\n"),
    ):
        done = explained(*arguments, "-o", "json", given=given, at=url)
        assert done.returncode == 0, done.stderr
        (found,) = json.loads(done.stdout)["findings"]
        assert found["count"] == 60
        assert [row["name"] for row in found["nodes"]] == ["one"]


def test_the_same_answer_without_a_controller_as_far_as_it_goes(url: str) -> None:
    asked = json.loads(explained(f"{FAULT} on one", "-o", "json", at=url).stdout)
    done = explained(f"{FAULT} on one", "-o", "json")
    offline = json.loads(done.stdout)
    assert offline.keys() == asked.keys()
    assert offline["findings"][0].keys() == asked["findings"][0].keys()
    for name in ("id", "title", "cause", "subnet", "certain", "quote"):
        assert offline["findings"][0][name] == asked["findings"][0][name]
    assert offline["nodes"] == []  # It may be a word as any other: only a controller knows.
    assert done.returncode == ExitStatus.ERROR
    error, hint = done.stderr.decode().splitlines()
    assert error.startswith(
        "error: no controller was asked, so who holds the VNI is not known: no controller"
    )
    assert "--offline" in hint
    done = explained("--offline", f"{FAULT} on one")
    assert done.returncode == 0
    assert b"no controller was asked" in done.stderr
    assert b"on NODE: `vxlan-worker scan --fix`" in done.stdout
    done = explained("--offline", f"{FAULT} on node3")
    assert b"on node3: `vxlan-worker scan --fix`" in done.stdout
    done = explained("--offline", "container 1: endpoint create on GW Network failed")
    assert b"It is about" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "given", "problem"),
    [
        ((), b"", "nothing to explain"),
        (("",), b"", "nothing to explain"),
        (("-",), b" \n", "nothing to explain"),
        (("-f", "/no/such/file"), b"", "cannot be read"),
        (("-f", "/"), b"", "cannot be read"),
        ((), b"x" * (MAX_BYTES + 1), "more than 32 MiB"),
    ],
)
def test_what_cannot_be_explained(arguments: Sequence[str], given: bytes, problem: str) -> None:
    done = explained(*arguments, given=given)
    assert done.returncode == ExitStatus.USAGE
    error, hint = done.stderr.decode().splitlines()
    assert problem in error
    assert hint.startswith("hint: ")
    assert done.stdout == b""


def test_a_long_log_is_made_short_before_it_is_sent(url: str) -> None:
    noise = b"2026-11-26T10:00:00Z one kernel: nothing of note in this line, nor in the next\n"
    given = noise * (2 * MAX_TEXT // len(noise)) + f"one: {FAULT}\n".encode() + noise
    done = explained("-o", "json", given=given, at=url)
    assert done.returncode == 0, done.stderr
    assert b"note: the text is long" in done.stderr
    (found,) = json.loads(done.stdout)["findings"]
    assert [row["name"] for row in found["nodes"]] == ["one"]


def test_bytes_that_are_no_text(url: str) -> None:
    done = explained(given=os.urandom(4_000) + f"\n{FAULT} on one\n".encode(), at=url)
    assert done.returncode == 0, done.stderr
    assert b"On node one" in done.stdout


@pytest.mark.parametrize("offline", [(), ("--offline",)])
def test_hostile_text_never_reaches_the_terminal_as_it_is(url: str, offline: Sequence[str]) -> None:
    text = f"{HOSTILE}: {FAULT} [red]{HOSTILE}[/red] =1+1 {'x' * 5_000}"
    for output in ("table", "json"):
        done = explained(*offline, text, "-o", output, at=url)
        assert done.returncode == 0, done.stderr
        assert b"\x1b" not in done.stdout + done.stderr
        assert "\u202e" not in done.stdout.decode() + done.stderr.decode()


def test_help_says_how() -> None:
    said = vxctl("explain", "--help").stdout
    assert "standard input" in said
    assert "--file" in said
