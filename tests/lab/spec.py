"""What one lab consists of: decided when it is created, never changed afterwards."""

import re
from dataclasses import dataclass

from .errors import LabError

HUB_ADDRESS = "10.231.0.254"
HUB_BRIDGE = "hub"
NODE_INTERFACE = "eth0"
IMAGE = "bb:1"
MAX_NODES = 200

# Short: the name is part of the path of a unix socket, which may have 107 characters.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


@dataclass(frozen=True)
class NodeSpec:
    """One node: all its names follow from its number."""

    number: int

    @property
    def name(self) -> str:
        return f"node{self.number}"

    @property
    def address(self) -> str:
        return f"10.231.0.{self.number}"

    @property
    def hub_port(self) -> str:
        """The name of the hub's end of the cable to this node."""
        return f"port{self.number}"


@dataclass(frozen=True)
class Spec:
    name: str
    node_count: int
    engine: str | None
    """The root folder of another engine, which its nodes have as root; None is this machine's own engine."""
    keep: bool
    """Whether the lab outlives the process that created it."""
    lifetime: float
    """Seconds after which the lab ends itself, whatever happens."""
    data_path_port: int
    cgroup: str
    """The cgroup, in every hierarchy, below which all the lab's containers are."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise LabError(
                f"{self.name!r} cannot name a lab: use up to 40 lower-case letters, digits and '-'"
            )
        if not 1 <= self.node_count <= MAX_NODES:
            raise LabError(f"a lab has 1 to {MAX_NODES} nodes, not {self.node_count}")
        if self.lifetime <= 0:
            raise LabError(f"a lab needs a lifetime above zero, not {self.lifetime:g} s")

    @property
    def nodes(self) -> list[NodeSpec]:
        return [NodeSpec(number) for number in range(1, self.node_count + 1)]
