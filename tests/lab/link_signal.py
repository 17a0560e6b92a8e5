"""Signals a node's dockerd at the moment the kernel tells of a link: between two steps of its work.

    with LinkSignal(node, Moment.VXLAN_IN_HOST, signal.SIGKILL, vni) as trap:
        ...  # what makes dockerd come to that moment
        link = trap.wait(30.0)

The work is done by a process in the node's network namespace: see `signaller`.
"""

import enum
import json
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from .errors import LabError
from .node import Node

READY = "ready"
_IMPORT_ROOT = Path(__file__).resolve().parents[2]
_READY_TIMEOUT = 60.0
_END_TIMEOUT = 60.0


class Moment(enum.Enum):
    """What the kernel tells of."""

    VXLAN_IN_HOST = "vxlan-in-host"
    """A network's VXLAN device in the node's own namespace: just made there, or moved back there."""
    VXLAN_IN_SANDBOX = "vxlan-in-sandbox"
    """A network's VXLAN device has been set UP in another namespace."""
    VETH_IN_HOST = "veth-in-host"
    """A veth pair is made in the node's own namespace."""


@dataclass(frozen=True)
class Link:
    """A link as the kernel tells of it; `nsid` is None in the listener's own namespace."""

    name: str
    ifindex: int
    kind: str
    vni: int | None
    up: bool
    nsid: int | None


class LinkSignal:
    """While the context lasts, dockerd gets the signal at the next such moment, once."""

    def __init__(
        self, node: Node, moment: Moment, number: signal.Signals, vni: int | None = None
    ) -> None:
        self._node = node
        self._arguments = [moment.value, str(int(number)), *([] if vni is None else [str(vni)])]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        program = [sys.executable, "-m", f"{__package__}.signaller", str(self._node.dockerd_pid())]
        self._process = self._node.popen(
            [*program, *self._arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Else a line that came with another would wait in a buffer, where no select sees it.
            bufsize=0,
            env={"PYTHONPATH": str(_IMPORT_ROOT)},
        )
        if self._line(_READY_TIMEOUT) != READY:
            self._end()
            raise LabError(f"{self._node.name}: listening to its links takes too long to begin")
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def wait(self, timeout: float) -> Link | None:
        """The link at whose message dockerd got the signal; None if there was none in that time."""
        line = self._line(timeout)
        return None if line is None else Link(**json.loads(line))

    def _line(self, timeout: float) -> str | None:
        """What the process says next; None if it says nothing in that time."""
        assert self._process is not None
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], timeout)
        if not readable:
            return None
        line = self._process.stdout.readline().decode().strip()
        if not line:
            raise LabError(f"{self._node.name}: listening to its links failed: {self._end()}")
        return line

    def _end(self) -> str:
        """End the process, which then leaves dockerd's threads to all processors again."""
        assert self._process is not None
        self._process.terminate()
        return self._process.communicate(timeout=_END_TIMEOUT)[1].decode()
