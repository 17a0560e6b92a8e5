"""A lab: some real dockerds on this machine that form one Swarm."""

import subprocess
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from . import faults, prerequisites, swarm
from . import folder as folders
from .command import TIMEOUT, Argument
from .control import Control
from .entry import Entry
from .errors import LabError
from .faults import HiddenDevice, Leak, OrphanDevice
from .folder import Folder
from .launch import await_built, end, launch
from .node import Node
from .spec import HUB_ADDRESS, Spec
from .swarm import LabNetwork, Task

_OWNED_LIFETIME = timedelta(minutes=30)
_KEPT_LIFETIME = timedelta(hours=4)
_EXIT_TIMEOUT = 60.0


class Lab:
    """Make one with `Lab.create`, or with `Lab.attach` take up one that another process keeps."""

    def __init__(self, folder: Folder, spec: Spec, control: Control) -> None:
        self.name = spec.name
        self.spec = spec
        self.folder = folder.path
        self.hub_address = HUB_ADDRESS
        self.hub = Entry.network(control.namespace("net"), control.namespace("pid"))
        holders = control.holders()
        self.nodes = [Node(node, holders[node.name], spec, folder, control) for node in spec.nodes]
        self._folder = folder
        self._control = control
        self._destroyed = False
        # What waits for the init, when that is our child: to be collected at the end.
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def create(
        cls,
        name: str,
        *,
        nodes: int = 3,
        engine: Path | None = None,
        keep: bool = False,
        lifetime: timedelta | None = None,
        data_path_port: int = 4789,
    ) -> Self:
        """Boot a lab and form its Swarm; the image `bb:1` (busybox) is on every node.

        It ends with this process at the latest, or with `keep` after its lifetime, which is 30
        minutes unless told otherwise, and 4 hours for a kept lab.
        """
        prerequisites.check(engine)
        spec = Spec(
            name=name,
            node_count=nodes,
            engine=None if engine is None else str(engine.resolve()),
            keep=keep,
            lifetime=(lifetime or (_KEPT_LIFETIME if keep else _OWNED_LIFETIME)).total_seconds(),
            data_path_port=data_path_port,
            cgroup=f"/vxlan-lab-{name}",
        )
        folder, lock = folders.claim(spec)
        process = launch(spec, folder, lock)
        try:
            lab = cls(folder, spec, await_built(process, folder))
            lab._process = process
            swarm.form(lab.nodes, data_path_port)
        except BaseException:
            # Also at Ctrl-C: half a lab is of no use to anyone.
            end(folder)
            process.wait(_EXIT_TIMEOUT)
            raise
        return lab

    @classmethod
    def attach(cls, name: str) -> Self:
        """Take up a lab that runs already."""
        folder = Folder(name)
        if not folder.is_alive():
            running = ", ".join(other.path.name for other in folders.alive()) or "none"
            raise LabError(f"no lab named {name!r} is running; running: {running}")
        return cls(folder, folder.spec(), Control(folder))

    @property
    def manager(self) -> Node:
        return self.nodes[0]

    def node(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise LabError(f"no node {name!r}; there are {', '.join(node.name for node in self.nodes)}")

    @property
    def init_pid(self) -> int:
        """The process of the lab's init, as seen from outside; if it dies, all the lab dies."""
        return self._control.init_pid

    def seconds_left(self) -> float:
        """How long the lab may still live."""
        left: float = self._control.ask("status")["seconds_left"]
        return left

    def docker_tls(self, node: Node) -> tuple[Path, Path, Path]:
        """Where CA, certificate and key may be put: from its next start on, dockerd listens with TLS, too."""
        return self._folder.tls(node.name)

    # Processes in the hub's network namespace, which reaches all nodes: a broker, a database, ...

    def hub_run(
        self, args: Sequence[Argument], *, check: bool = True, timeout: float = TIMEOUT
    ) -> subprocess.CompletedProcess[str]:
        return self.hub.run(args, check=check, timeout=timeout)

    def hub_popen(self, args: Sequence[Argument], **options: Any) -> subprocess.Popen[Any]:
        """Start a long process in the hub; see `Entry.popen`."""
        return self.hub.popen(args, **options)

    # The Swarm, as the manager tells it

    def network(self, name_or_id: str) -> LabNetwork:
        return swarm.network(self.manager.api, name_or_id)

    def tasks(self, service: str) -> list[Task]:
        return swarm.tasks(self.manager.api, service)

    def task_errors(self, service: str) -> list[str]:
        return [task.error for task in self.tasks(service) if task.error]

    def wait_tasks(
        self,
        service: str,
        state: str = "running",
        count: int = 1,
        timeout: float = swarm.TASK_TIMEOUT,
        node: Node | None = None,
    ) -> list[Task]:
        """See `swarm.await_tasks`."""
        return swarm.await_tasks(self.manager.api, service, state, count, node, timeout)

    def wait_ready(self, timeout: float = TIMEOUT) -> None:
        """Wait until all nodes are ready, such as after a restart of dockerd."""
        swarm.await_ready(self.manager.api, len(self.nodes), timeout)

    # Faults

    def plant_orphan(self, node: Node, network: LabNetwork) -> OrphanDevice:
        """See `faults.plant_orphan`."""
        return faults.plant_orphan(node, network, self.spec.data_path_port)

    def plant_hidden(self, node: Node, network: LabNetwork) -> HiddenDevice:
        """See `faults.plant_hidden`."""
        return faults.plant_hidden(node, network)

    def leak(
        self, node: Node, network: LabNetwork, service: str | None = None, replicas: int = 0
    ) -> Leak:
        """See `faults.leak`."""
        leaked = faults.leak(self.manager, node, network, service, replicas)
        self.wait_ready()
        return leaked

    # The end

    def destroy(self) -> None:
        """End the lab, whoever created it; returns when nothing of it is left."""
        if self._destroyed:
            return
        self.release()
        end(self._folder)
        if self._process is not None:
            self._process.wait(_EXIT_TIMEOUT)
        self._destroyed = True

    def release(self) -> None:
        """End the processes that this object started, and leave the lab as it is."""
        self.hub.close()
        for node in self.nodes:
            node.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Destroy the lab if it is ours alone; one that is kept, or another's, is let go."""
        if self._process is not None and not self.spec.keep:
            self.destroy()
        else:
            self.release()
