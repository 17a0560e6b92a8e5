"""A process that starts itself anew."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from contract.runtime.restart import failures_before
from tests.controller_process import free_port

HEAD = """
import os, socket, sys, threading
from contract.runtime import restart
from contract.runtime.errors import OperatorError
restart._RETRY_SECONDS = 0.01
"""
TAIL = """
restart.persist(run)
"""


def ran(tmp_path: Path, program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """What becomes of a program that persists."""
    path = tmp_path / "program.py"
    path.write_text(HEAD + program + TAIL)
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, str(path), *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | {"PYTHONPATH": root},
    )


def test_it_keeps_its_pid_and_its_arguments_counts_and_lets_go_of_everything(
    tmp_path: Path,
) -> None:
    program = """
def run():
    count = restart.failures_before()
    print(os.getpid(), sys.argv[1:], count, flush=True)
    listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
    if count < 3:
        anew = lambda: restart.restart("why", failures=count + 1)
        threading.Thread(target=anew).start()  # While the main thread hangs.
        threading.Event().wait()
"""
    port = str(free_port())
    done = ran(tmp_path, program, "one two", port)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if "one two" in line]
    pid = said[0].split()[0]
    assert said == [f"{pid} ['one two', '{port}'] {count}" for count in range(4)]
    assert done.stdout.count("starting anew") == 3


def test_what_is_missing_ends_the_first_start(tmp_path: Path) -> None:
    program = """
def run():
    print("once")
    raise OperatorError("away", "wait")
"""
    done = ran(tmp_path, program)
    assert done.returncode == 1
    assert "OperatorError: away" in done.stderr
    assert done.stdout == "once\n"


def test_what_is_missing_does_not_end_one_that_was_started_anew(tmp_path: Path) -> None:
    program = """
def run():
    tries = len(os.listdir(sys.argv[1]))
    open(os.path.join(sys.argv[1], str(tries)), "w").close()
    if tries == 0:
        restart.restart("why", failures=7)
    if tries < 3:
        raise OperatorError("away", "wait")
    print("done", restart.failures_before())
"""
    folder = tmp_path / "tries"
    folder.mkdir()
    done = ran(tmp_path, program, str(folder))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "done 7"


def test_a_program_that_is_gone_from_the_disk_ends(tmp_path: Path) -> None:
    program = """
def run():
    sys.executable = "/nonexistent/python"
    restart.restart("why")
"""
    done = ran(tmp_path, program)
    assert done.returncode == 1
    assert "cannot start anew" in done.stdout


@pytest.mark.parametrize("value", ["", "-1", "x", "1" * 5000, "1.5", "²"])
def test_a_count_that_is_none_is_zero(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("VXLAN_OPERATOR_STARTED_ANEW", value)
    assert failures_before() == 0
