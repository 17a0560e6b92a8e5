"""A dockerd that stands still in the middle of a join or a leave, where its device looks dead."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab import Lab, LabNetwork, Link, LinkSignal, Moment, Node, wait_until
from tests.servers import await_true
from tests.swarm.services import scale

_ATTEMPTS = 8
_MOMENT_SECONDS = 90.0
_NAMESPACES = "/run/docker/netns"


@dataclass(frozen=True)
class Shown:
    """What the kernel shows of a network on a node.

    Attributes:
        in_host: its device is in the node's own namespace.
        in_sandbox: its device is in the sandbox, UP and on the bridge.
        endpoints: how many veth the sandbox has.
        loose_pairs: whether the node's own namespace has both ends of a veth pair, and no bridge for them.
    """

    in_host: bool
    in_sandbox: bool
    endpoints: int
    loose_pairs: bool


def shown(node: Node, network: LabNetwork) -> Shown:
    """Look at a network on a node."""
    host = _links(node.run([*_IP], inside=True).stdout)
    names = node.run(["ls", _NAMESPACES], inside=True, check=False).stdout.split()
    inside: list[dict[str, Any]] = []
    for name in names:
        if name.endswith(f"-{network.id[:10]}"):
            enter = ["nsenter", f"--net={_NAMESPACES}/{name}", "--"]
            inside += _links(node.run([*enter, *_IP], inside=True).stdout)
    return Shown(
        in_host=any(_vni(link) == network.vnis[0] for link in host),
        in_sandbox=any(
            _vni(link) == network.vnis[0] and "master" in link and "UP" in link["flags"]
            for link in inside
        ),
        endpoints=sum(_kind(link) == "veth" for link in inside),
        # The kernel names the other end by name if it is in the same namespace.
        loose_pairs=any(
            _kind(link) == "veth" and "link" in link and "master" not in link for link in host
        ),
    )


_IP = ("ip", "-json", "-details", "link", "show")


def _links(printed: str) -> list[dict[str, Any]]:
    return [link for link in json.loads(printed) if link]


def _kind(link: dict[str, Any]) -> str:
    kind: str = link.get("linkinfo", {}).get("info_kind", "")
    return kind


def _vni(link: dict[str, Any]) -> int | None:
    vni: int | None = link.get("linkinfo", {}).get("info_data", {}).get("id")
    return vni if _kind(link) == "vxlan" else None


@dataclass(frozen=True)
class Window:
    """Between two steps of dockerd's.

    Attributes:
        moment: with what the kernel tells of, it begins.
        leaving: whether it is in the last leave of a network, or in the first join.
        is_open: whether the kernel shows that dockerd is between these two steps.
    """

    moment: Moment
    leaving: bool
    is_open: Callable[[Shown], bool]


WINDOWS = {
    "device not yet moved": Window(
        Moment.VXLAN_IN_HOST, leaving=False, is_open=lambda now: now.in_host
    ),
    "sandbox without endpoint": Window(
        Moment.VXLAN_IN_SANDBOX,
        leaving=False,
        is_open=lambda now: now.in_sandbox and not now.endpoints and not now.loose_pairs,
    ),
    "endpoint not yet moved": Window(
        Moment.VETH_IN_HOST,
        leaving=False,
        is_open=lambda now: now.in_sandbox and not now.endpoints and now.loose_pairs,
    ),
    "device not yet deleted": Window(
        Moment.VXLAN_IN_HOST, leaving=True, is_open=lambda now: now.in_host
    ),
}


@contextmanager
def held(lab: Lab, node: Node, network: LabNetwork, service: str, window: Window) -> Iterator[Link]:
    """The node's dockerd, stopped in the window; it goes on when the context ends.

    Args:
        service: has all tasks of the network on that node.
    """
    for _ in range(_ATTEMPTS):
        if window.leaving:
            scale(lab, service, 1)
            lab.wait_tasks(service, node=node)
        else:
            scale(lab, service, 0)
            await_gone(node, network)
        try:
            with LinkSignal(node, window.moment, signal.SIGSTOP, network.vnis[0]) as trap:
                scale(lab, service, 0 if window.leaving else 1)
                link = trap.wait(_MOMENT_SECONDS)
            assert link is not None, f"dockerd of {node.name} does not come to this window"
            _await_stopped(node)
            if window.is_open(shown(node, network)):
                yield link
                return
        finally:
            node.signal_dockerd(signal.SIGCONT)
    raise AssertionError(f"dockerd of {node.name} was not stopped in this window once")


@contextmanager
def slow_disk(node: Node, seconds: float) -> Iterator[None]:
    """Let each `fdatasync` of the node's dockerd take so many seconds longer."""
    delay = f"inject=fdatasync:delay_enter={seconds * 1_000_000:.0f}"
    strace = node.popen(
        ["strace", "-f", "-e", delay, "-o", "/dev/null", "-p", str(node.dockerd_pid())],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert strace.stderr is not None
        said = strace.stderr.readline()
        assert "attached" in said, f"strace: {said}"
        yield
    finally:
        # It lets go of dockerd then.
        strace.terminate()
        strace.communicate(timeout=60)


def await_gone(node: Node, network: LabNetwork) -> None:
    """Wait until a node's dockerd has let go of a network."""
    await_true(
        lambda: network.name not in node.docker("network", "ls", "--format", "{{.Name}}").split(),
        f"{node.name} has let go of {network.name}",
    )


def _await_stopped(node: Node) -> None:
    """Wait until no thread of dockerd runs any more: a signal takes a moment to reach all."""
    threads = Path(f"/proc/{node.dockerd_pid()}/task")

    def states() -> set[str]:
        found = set()
        for thread in threads.iterdir():
            with suppress(OSError):  # It has ended meanwhile.
                found.add((thread / "stat").read_text().rpartition(")")[2].split()[0])
        return found

    wait_until(
        lambda: states() == {"T"}, 60, f"dockerd of {node.name} to stand still", state=states
    )
