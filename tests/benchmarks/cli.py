"""How soon `vxctl` answers: its help, the first row of a list, one TAB; a real controller with 100 nodes."""

import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from tests.benchmarks.measure import spread
from tests.controller_process import VXCTL, ControllerProcess, environment
from tests.fake_docker import FakeDocker
from tests.fake_swarm import network, snapshot
from tests.servers import RedisServer, await_true

NODES, NETWORKS, TIMES = 100, 60, 9
_SHELL = """\
source "$2"  # As at the start of the shell, so not counted below.
PATH="$(dirname "$1"):$PATH"
COMP_WORDS=(vxctl describe node node-00) COMP_CWORD=3
_vxctl vxctl node-00 node
printf '%s\\n' "${COMPREPLY[@]}"
"""


def main() -> None:
    """Measure, and print."""
    print(f"Python alone: {spread(_python, TIMES)}")
    print(f"vxctl --help: {spread(lambda: _first_row('--help'), TIMES)}")
    nodes = [f"node-{number:03}" for number in range(NODES)]
    networks = [network(f"net{number}", 4096 + number) for number in range(NETWORKS)]
    with (
        tempfile.TemporaryDirectory(prefix="vxlan-operator-cli-") as folder,
        RedisServer(Path(folder)) as redis,
        FakeDocker(Path(folder) / "docker.sock", snapshot(*nodes, networks=networks)) as docker,
        ControllerProcess(Path(folder), broker_url=redis.url, docker_url=docker.url) as controller,
    ):
        await_true(lambda: len(controller.json("get", "nodes")) == NODES, "all nodes")
        url = controller.url
        for words in (("get", "nodes"), ("get", "nodes", "-o", "wide"), ("status",)):
            row = partial(_first_row, *words, url=url)
            print(f"vxctl {' '.join(words)}, first row: {spread(row, TIMES)}")
        script = Path(folder) / "vxctl.bash"
        script.write_text(controller.vxctl("completion", "bash"))
        candidates = _tab(script, url)
        assert candidates == [f"node-00{number}" for number in range(10)], candidates
        print(
            f"TAB after `vxctl describe node node-00`: {spread(partial(_complete, script, url), TIMES)}"
        )


def _python() -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


def _complete(script: Path, url: str) -> None:
    _tab(script, url)


def _first_row(*words: str, url: str = "") -> float:
    """Seconds from the start of `vxctl` until its second line (after a heading), in a pipe."""
    begin = time.perf_counter()
    with subprocess.Popen(
        [VXCTL, *words],
        stdout=subprocess.PIPE,
        env=environment() | {"VXLAN_OPERATOR_URL": url, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        for _ in range(2):
            assert process.stdout.readline()
        taken = time.perf_counter() - begin
        process.stdout.read()
    return taken


def _tab(script: Path, url: str) -> list[str]:
    """Complete as bash does, with the script that `vxctl completion bash` prints."""
    done = subprocess.run(
        ["bash", "-c", _SHELL, "bash", VXCTL, str(script)],
        capture_output=True,
        text=True,
        env=environment() | {"VXLAN_OPERATOR_URL": url},
        timeout=30,
        check=True,
    )
    return done.stdout.split()


if __name__ == "__main__":
    main()
