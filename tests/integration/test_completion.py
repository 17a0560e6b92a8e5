"""`vxctl completion`: a real bash, names that mean harm, controllers that hang or are not there."""

import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from controller.db.engine import Database
from tests.controller_process import VXCTL, environment, free_port, vxctl
from tests.fake_swarm import INGRESS, SHOP, network, node, snapshot, swarm_id
from tests.integration.test_verbs import Operator, listening, operator  # noqa: F401 -- fixtures
from tests.servers import await_true
from tests.stored import put

EVIL = "$(touch owned);`touch owned`\x1b[2J\n* 'x"
SWARM = snapshot(
    "one",
    "other",
    replace(node("evil"), hostname=EVIL),
    networks=[INGRESS, SHOP, replace(network("evilnet", 5003), name=EVIL)],
)

_BASH = """
source <("$1" completion bash)
shift
COMP_WORDS=(vxctl "$@"); COMP_CWORD=$#
_vxctl
printf '%s\\n' "${COMPREPLY[@]}"
"""


def complete(*words: str, url: str = "", folder: Path | None = None) -> list[str]:
    """What bash offers for the last word."""
    path = f"{Path(VXCTL).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["setpriv", "--pdeathsig", "KILL", "--", "bash", "--norc", "-c", _BASH, "-", VXCTL, *words],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env=environment() | {"PATH": path} | ({"VXLAN_OPERATOR_URL": url} if url else {}),
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def await_offer(expected: set[str], *words: str, url: str, folder: Path | None = None) -> None:
    """Wait until bash offers these names: who presses Tab waits a second for them, and no longer."""
    await_true(
        lambda: set(complete(*words, url=url, folder=folder)) == expected,
        f"{' '.join(words)!r} is completed by {expected}",
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ev"], ["events"]),
        (["get", "n"], ["nodes", "networks"]),
        (["get", "nodes", "--rea"], ["--ready"]),
        (["get", "nodes", "--ready", "T"], ["True"]),
        (["mode", "o"], ["observe"]),
        (["events", "f"], ["for"]),
        (["events", "for", "n"], ["node", "network"]),
        (["nosuch", "x"], []),
        (["get", "nodes", "--nosuch", "x"], []),
        (["completion", "f"], ["fish"]),
    ],
)
def test_verbs_options_and_values(words: Sequence[str], expected: list[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert complete(*words, url=url) == expected


def test_names_of_nodes_and_networks(
    listening: Operator,  # noqa: F811
    database: Database,
    tmp_path: Path,
) -> None:
    put(database, SWARM)
    url = listening.url
    evil = swarm_id("evil")
    for words in (["describe", "node"], ["plan"], ["events", "for", "node"], ["audit", "--node"]):
        await_offer({"one", "other", evil}, *words, "", url=url, folder=tmp_path)
    await_offer({"one", "other", evil}, "get", "nodes", "", url=url)
    await_offer({"other"}, "get", "nodes", "one", "oth", url=url)
    await_offer({"one"}, "diff", "on", url=url)
    assert complete("describe", "node", "on", "--url", url, "") == []
    for words in (["tree", "network"], ["pause", "--network"]):
        networks = {"shop", "ingress", swarm_id("evilnet")}
        await_offer(networks, *words, "", url=url, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


_TYPED = {
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        "bind 'set bell-style none'; source <(vxctl completion bash)\n",
    ),
    "zsh": (
        ["zsh", "-f", "-i"],
        "autoload -U compinit; compinit -u -D; source <(vxctl completion zsh)\n",
    ),
    "fish": (["fish", "--no-config", "-i"], "vxctl completion fish | source\n"),
}
"""How each shell is started, and what is in its start-up file, as `vxctl completion --help` says."""


@pytest.mark.parametrize("shell", _TYPED)
def test_a_tab_completes_in_a_real_shell(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    command, begin = _TYPED[shell]
    variables = {
        "PATH": f"{Path(VXCTL).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "TERM": "xterm",
        "VXLAN_OPERATOR_URL": f"http://127.0.0.1:{free_port()}",
    }
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, environment() | variables)  # noqa: S606 -- a shell
    try:
        _type(terminal, f"{begin}echo re''ady\n", "ready")
        # What is completed is run: the screen alone may show what was typed.
        _type(terminal, "vxctl compl\tb\t --help\n", "Print the completion of a shell")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def _type(terminal: int, keys: str, expected: str) -> None:
    """Type, and wait for what the screen shows then."""
    os.write(terminal, keys.encode())
    screen = ""
    deadline = time.monotonic() + 60
    while expected not in screen:
        assert time.monotonic() < deadline, screen
        ready, _, _ = select.select([terminal], [], [], 1)
        if ready:
            screen += os.read(terminal, 65536).decode(errors="replace")


@pytest.fixture
def hanging() -> Iterator[str]:
    """A server that accepts, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_without_a_controller_there_are_no_names(hanging: str) -> None:
    for url in (hanging, f"http://127.0.0.1:{free_port()}", "nonsense://", "http://[", "\x00"[1:]):
        assert complete("describe", "node", "", url=url) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_print(shell: str) -> None:
    done = vxctl("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert "_VXCTL_COMPLETE=1 vxctl" in done.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=True, timeout=60)
