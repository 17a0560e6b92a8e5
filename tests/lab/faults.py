"""The faults that vxlan-operator mends, made on purpose."""

import json
from dataclasses import dataclass

from . import command
from .errors import LabError
from .node import Held, Node
from .swarm import LabNetwork
from .wait import wait_until

# Without the symlink /var/run: from outside the node it would lead to the machine's own /run.
_NAMESPACES = "/run/docker/netns"


@dataclass(frozen=True)
class PlantedDevice:
    """A VXLAN device in a node's own network namespace, as a dockerd that crashed leaves one."""

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


def plant_orphan(node: Node, network: LabNetwork, port: int) -> PlantedDevice:
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
    return PlantedDevice(node=node, name=name, vni=vni, ifindex=json.loads(shown)[0]["ifindex"])


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
