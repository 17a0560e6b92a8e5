"""The faults that vxlan-operator mends, made on purpose."""

import json
import signal
import time
from dataclasses import dataclass

from . import command, swarm
from .errors import LabError
from .link_signal import LinkSignal, Moment
from .node import Held, Node
from .spec import IMAGE
from .swarm import LabNetwork
from .wait import wait_until

# Without the symlink /var/run: from outside the node it would lead to the machine's own /run.
_NAMESPACES = "/run/docker/netns"
_LEAK_ATTEMPTS = 5
_LEAVE_TIMEOUT = 90.0
# So long a killed dockerd's peers may take until they know that it is gone. Started again sooner, it
# may meet its former self among them (see `swarm.TASK_TIMEOUT`).
_LEAK_PAUSE = 8.0


@dataclass(frozen=True)
class OrphanDevice:
    """A VXLAN device in a node's own network namespace, left by a dockerd that crashed, or like that."""

    node: Node
    name: str
    vni: int
    ifindex: int

    def exists(self) -> bool:
        shown = self.node.run(["ip", "-json", "link", "show", self.name], check=False)
        return shown.returncode == 0 and json.loads(shown.stdout)[0]["ifindex"] == self.ifindex

    def delete(self) -> None:
        self.node.run(["ip", "link", "delete", self.name])


@dataclass(frozen=True)
class Leak:
    """What Docker itself has left behind, and at which attempt it did."""

    device: OrphanDevice
    attempts: int


@dataclass(frozen=True)
class HiddenDevice:
    """A VXLAN device in a namespace without a name, which somebody outside the node keeps open."""

    node: Node
    network: LabNetwork
    held: Held

    def interfaces(self) -> list[str]:
        """The names of all interfaces in the hidden namespace, the device among them."""
        enter = ["nsenter", f"--net={self.held.path}", "--"]
        shown = command.run([*enter, "ip", "-json", "link", "show"]).stdout
        return [link["ifname"] for link in json.loads(shown)]

    def release(self) -> None:
        """Let go of the namespace: the kernel then removes it, and the device with it."""
        self.held.release()


def plant_orphan(node: Node, network: LabNetwork, port: int) -> OrphanDevice:
    """Make the device that Docker would make for the network's first subnet, and leave it there."""
    vni = network.vnis[0]
    name = f"vx-{vni:06x}-{network.id[:5]}"
    options = ["id", str(vni), "dstport", str(port), "proxy", "l2miss", "l3miss"]
    try:
        node.run(["ip", "link", "add", name, "type", "vxlan", *options])
    except LabError as error:
        raise LabError(
            f"cannot plant an orphan of {network.name} on {node.name}; "
            f"does the node carry the network already, or an orphan of it? {error}"
        ) from error
    shown = node.run(["ip", "-json", "link", "show", name]).stdout
    return OrphanDevice(node=node, name=name, vni=vni, ifindex=json.loads(shown)[0]["ifindex"])


def leak(
    manager: Node,
    node: Node,
    network: LabNetwork,
    service: str | None = None,
    replicas: int = 0,
) -> Leak:
    """Make dockerd leak the network's device: kill it just when it is about to delete that.

    The last task of the network on the node is stopped: dockerd takes the device back into the node's
    own namespace, to delete it there. At that moment it is killed, and some seconds later it is
    started again.

    Args:
        service: has all the tasks of the network on that node, and is scaled to 0; by default one is
            made for it, and removed again.
        replicas: to how many tasks the service is scaled while dockerd is away; 0 on the manager.
    """
    name = service or f"leak-{network.name}"
    if service is None:
        manager.docker(
            *("service", "create", "--detach", "--no-resolve-image", "--name", name),
            *("--network", network.id, "--constraint", f"node.hostname=={node.name}", IMAGE),
        )
    try:
        for attempt in range(1, _LEAK_ATTEMPTS + 1):
            device = _kill_at_return(manager, node, network, name)
            left = device.exists()
            if left and replicas:
                _scale(manager, name, replicas)
            time.sleep(_LEAK_PAUSE)
            node.start_dockerd()
            if left:
                return Leak(device, attempt)
            _scale(manager, name, 1)
    finally:
        if service is None:
            manager.docker("service", "rm", name)
    raise LabError(
        f"{node.name}: dockerd left no device of {network.name} behind, in {_LEAK_ATTEMPTS} attempts"
    )


def _kill_at_return(manager: Node, node: Node, network: LabNetwork, service: str) -> OrphanDevice:
    """Kill dockerd when the network's device is back; return that, which may be deleted already."""
    swarm.await_tasks(manager.api, service, node=node)
    with LinkSignal(node, Moment.VXLAN_IN_HOST, signal.SIGKILL, network.vnis[0]) as trap:
        _scale(manager, service, 0)
        link = trap.wait(_LEAVE_TIMEOUT)
    if link is None:
        raise LabError(
            f"{node.name}: dockerd kept the device of {network.name} for {_LEAVE_TIMEOUT:g} s after "
            f"the last task of {service}: does another one use the network there?"
        )
    node.await_dockerd_end()
    return OrphanDevice(node=node, name=link.name, vni=network.vnis[0], ifindex=link.ifindex)


def _scale(manager: Node, service: str, replicas: int) -> None:
    manager.docker("service", "scale", "--detach", f"{service}={replicas}")


def plant_hidden(node: Node, network: LabNetwork) -> HiddenDevice:
    """Make dockerd forget a network's namespace while somebody outside still keeps it open.

    Monitoring agents do that: they open all namespaces of a host. The node must run a task of the
    network; dockerd is killed and started again, and cannot start another task of it from then on.
    """
    path = sandbox(node, network)
    held = node.hold(path)
    try:
        node.run(["umount", "--lazy", path], inside=True)
        node.run(["rm", path], inside=True)
        node.crash_dockerd()
    except BaseException:
        held.release()
        raise
    return HiddenDevice(node=node, network=network, held=held)


def sandbox(node: Node, network: LabNetwork) -> str:
    """The file, inside the node, of the network's namespace: a counter, a dash, the id's beginning."""

    def find() -> str | None:
        names = node.run(["ls", _NAMESPACES], inside=True, check=False).stdout.split()
        ours = (name for name in names if name.endswith(f"-{network.id[:10]}"))
        return next((f"{_NAMESPACES}/{name}" for name in ours), None)

    return wait_until(
        find, 5, f"{node.name} to carry {network.name}: is a task of it running there"
    )
