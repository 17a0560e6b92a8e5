"""One node of a lab: its dockerd, its docker client, and commands in its namespaces."""

import signal
import subprocess
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from .api import Api
from .command import TIMEOUT, Argument
from .control import Control
from .entry import Entry
from .errors import LabError
from .folder import Folder
from .prerequisites import docker_client
from .spec import NodeSpec, Spec
from .wait import wait_until

_START_TIMEOUT = 90.0
# dockerd gives its containers 15 s, then stops its containerd.
_STOP_TIMEOUT = 90.0
_LOG_LINES = 15
# As in Docker's unit file for systemd (RestartSec). A killed dockerd that is back sooner always
# meets its former self among its peers (see `swarm.TASK_TIMEOUT`); after this pause, half the time.
_RESTART_PAUSE = 2.0


class Node:
    def __init__(
        self, node: NodeSpec, holder: int, spec: Spec, folder: Folder, control: Control
    ) -> None:
        self.name = node.name
        self.address = node.address
        self.socket = folder.socket(node.name)
        self.log = folder.log(node.name)
        self.api = Api(self.socket)
        self._hub_port = node.hub_port
        self._engine = spec.engine
        self._client_config = folder.client_config
        self._control = control
        self._start_after = 0.0
        pids = control.namespace("pid")
        self._hub = Entry.network(control.namespace("net"), pids)
        net, mnt, uts = (control.namespace(kind, holder) for kind in ("net", "mnt", "uts"))
        self._network = Entry.network(net, pids)
        self._inside = Entry(
            ["nsenter", f"--net={net}", f"--mount={mnt}", f"--uts={uts}", f"--pid={pids}", "--"],
            pids,
        )

    def __repr__(self) -> str:
        return f"<Node {self.name} {self.address}>"

    @property
    def docker_host(self) -> str:
        return f"unix://{self.socket}"

    @cached_property
    def swarm_id(self) -> str:
        """The node's id in the Swarm; known also while dockerd is down, if asked for before."""
        found: str = self.api.get("/info")["Swarm"]["NodeID"]
        return found

    # Commands

    def docker(self, *args: str, timeout: float = TIMEOUT) -> str:
        """Run the docker client on this node's dockerd; returns what it printed."""
        return self._client_entry().run(self._client(*args), timeout=timeout).stdout

    def docker_command(self, *args: str) -> list[str]:
        """The whole command that `docker` runs, for a caller that wants to run it in its own way."""
        return self._client_entry().command(self._client(*args))

    def _client_entry(self) -> Entry:
        # Another engine brings its own client, which needs the libraries of its root folder.
        return self.entry(inside=self._engine is not None)

    def _client(self, *args: str) -> list[str]:
        client = docker_client() if self._engine is None else "docker"
        # An empty configuration, not that of whoever runs this: it may name another engine.
        return [client, f"--config={self._client_config}", f"--host={self.docker_host}", *args]

    def entry(self, *, inside: bool = False) -> Entry:
        """The node's network namespace, or with `inside` all its namespaces and its engine's root.

        Not inside, a command sees the machine's own files and process ids.
        """
        return self._inside if inside else self._network

    def run(
        self,
        args: Sequence[Argument],
        *,
        check: bool = True,
        timeout: float = TIMEOUT,
        inside: bool = False,
        stdin: str = "",
    ) -> subprocess.CompletedProcess[str]:
        return self.entry(inside=inside).run(args, check=check, timeout=timeout, stdin=stdin)

    def popen(self, args: Sequence[Argument], **options: Any) -> subprocess.Popen[Any]:
        """Start a long process in the node's network namespace; see `Entry.popen`."""
        return self._network.popen(args, **options)

    # The engine

    def start_dockerd(self) -> None:
        """Start it; if it was killed just now, after a pause such as service managers make."""
        time.sleep(max(0.0, self._start_after - time.monotonic()))
        self._control.ask("start", node=self.name)
        self.await_dockerd()

    def stop_dockerd(self) -> None:
        """Stop it as a service manager does, with SIGTERM."""
        self._end_dockerd(signal.SIGTERM)

    def kill_dockerd(self) -> None:
        self._end_dockerd(signal.SIGKILL)
        self._start_after = time.monotonic() + _RESTART_PAUSE

    def restart_dockerd(self) -> None:
        self.stop_dockerd()
        self.start_dockerd()

    def crash_dockerd(self) -> None:
        """Kill it and start it again, as after a crash a service manager does."""
        self.kill_dockerd()
        self.start_dockerd()

    def await_dockerd(self) -> None:
        """Wait until dockerd answers; LabError with the end of its log if it does not."""
        wait_until(
            self._answers, _START_TIMEOUT, f"{self.name}: dockerd to answer", state=self._said
        )

    def await_dockerd_end(self) -> None:
        """Wait until dockerd has ended, after a signal."""
        wait_until(
            lambda: self.dockerd_exit_status() is not None,
            _STOP_TIMEOUT,
            f"{self.name}: dockerd to end",
            state=self._said,
        )

    def signal_dockerd(self, number: signal.Signals) -> None:
        """Send it a signal, without waiting for what comes of it."""
        self._control.ask("signal", node=self.name, signal=int(number))

    def dockerd_pid(self) -> int:
        """Its process id as this process sees it, and not as the lab does."""
        return self.api.pid()

    def dockerd_exit_status(self) -> int | None:
        """None while dockerd runs; minus the number of the signal that killed it."""
        status: int | None = self._control.ask("status")["dockerds"][self.name]["exit_status"]
        return status

    def _answers(self) -> bool:
        status = self.dockerd_exit_status()
        if status is not None:
            raise LabError(f"{self.name}: dockerd ended with status {status}: {self._said()}")
        return self.api.is_up()

    def _end_dockerd(self, number: signal.Signals) -> None:
        self.signal_dockerd(number)
        self.await_dockerd_end()

    def _said(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        return "\n".join([f"the end of {self.log}:", *lines])

    # The cable

    def cut(self) -> None:
        """Cut the node off from the hub and thereby from all other nodes."""
        self._hub.run(["ip", "link", "set", self._hub_port, "down"])

    def reconnect(self) -> None:
        self._hub.run(["ip", "link", "set", self._hub_port, "up"])

    # Holding the node's files open, from outside the node

    def hold(self, path: str) -> "Held":
        return Held(
            self._control, self._control.ask("hold", node=self.name, path=path)["descriptor"]
        )

    def close(self) -> None:
        """End what `popen` started."""
        for entry in (self._network, self._inside, self._hub):
            entry.close()


class Held:
    """A file of a node's that the lab's init keeps open, as a monitoring agent on a host would."""

    def __init__(self, control: Control, descriptor: int) -> None:
        self._control = control
        self._descriptor = descriptor

    @property
    def path(self) -> Path:
        """The open file, for a process outside the lab."""
        return self._control.held(self._descriptor)

    def release(self) -> None:
        self._control.ask("release", descriptor=self._descriptor)
