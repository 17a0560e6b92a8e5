"""What the Swarm says, as values: which Swarm it is, its nodes, networks, tasks and events."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from contract.verdicts import Mode

UNREADABLE: Final = "SwarmUnreadable"
"""`SwarmError.reason` of what could not be read, or makes no sense."""


class SwarmError(Exception):
    """The Swarm's state could not be read, or is not to be believed: nothing may be changed.

    Attributes:
        reason: the same as one CamelCase word.
    """

    def __init__(self, problem: str, reason: str = UNREADABLE) -> None:
        super().__init__(problem)
        self.reason = reason


class SwarmMovedError(SwarmError):
    """A node was asked about that went away since the nodes were listed: read anew."""


@dataclass(frozen=True, slots=True)
class SwarmIdentity:
    """Which Swarm answers."""

    swarm_id: str
    data_path_port: int


@dataclass(frozen=True, slots=True)
class SwarmNode:
    """A node as the Swarm describes it.

    Attributes:
        mode: by its label; None where it has none.
        ignore: by its label.
    """

    id: str
    hostname: str
    role: str
    availability: str
    state: str
    address: str
    mode: Mode | None = None
    ignore: bool = False


def normal_cidr(text: object) -> str | None:
    """A subnet in the form in which equal ones are equal; None if it is none."""
    try:
        return str(ipaddress.ip_network(str(text), strict=False))
    except ValueError:
        return None


class Subnet(NamedTuple):
    """A subnet of a network: its VNI, and its addresses (`10.0.2.0/24`) as far as that can be told."""

    vni: int
    cidr: str | None = None


@dataclass(frozen=True, slots=True)
class SwarmNetwork:
    """An overlay network of the Swarm; its labels as a node's."""

    id: str
    name: str
    ingress: bool
    subnets: tuple[Subnet, ...]
    mode: Mode | None = None
    ignore: bool = False

    @property
    def vnis(self) -> tuple[int, ...]:
        """Its VNIs, one a subnet."""
        return tuple(subnet.vni for subnet in self.subnets)


@dataclass(frozen=True, slots=True)
class SwarmTask:
    """A task: a service's, or the attachment of a `docker run` container to a network.

    Attributes:
        networks: ids of the overlay networks that it is attached to.
        service_id: empty for an attachment.
        wanted: it is on its node, or is to be: whether it runs, is about to, was just refused, or is to end
            and its node has not said that it has.
        running: it runs, says its node.
        refused: its node rejected or failed it.
        error: what the node said then.
        since: when it came into its state, by its node's clock; None: that makes no sense.
        ending: it is only waited for its end.
    """

    id: str
    node_id: str
    networks: tuple[str, ...]
    attachment: bool
    wanted: bool
    running: bool
    error: str
    service_id: str = ""
    since: datetime | None = None
    ending: bool = False
    refused: bool = False


@dataclass(frozen=True, slots=True)
class SwarmEvent:
    """Something happened to a service, network or node (`kind`)."""

    kind: str
    id: str
    at: str
    """By the manager's clock, as its API takes it: seconds and nanoseconds since 1970."""


class Swarm(Protocol):
    """Where the controller reads the Swarm's state. Each answer is whole, or a SwarmError is raised."""

    def identity(self) -> SwarmIdentity:
        """Which Swarm this is, from a manager of it."""

    def nodes(self, ids: Sequence[str] = ()) -> Sequence[SwarmNode]:
        """All nodes; given ids, those of them that there are."""

    def networks(self, ids: Sequence[str] = ()) -> Sequence[SwarmNetwork]:
        """All overlay networks; given ids, those of them that there are."""

    def tasks_of_nodes(self, ids: Sequence[str]) -> Sequence[SwarmTask]:
        """All tasks on these nodes, ended ones too, and containers that are attached to networks.

        Raises:
            SwarmMovedError: one of the nodes is gone.
        """

    def tasks_of_service(self, service_id: str) -> Sequence[SwarmTask]:
        """All tasks of a service that have a node; none of a service that is gone."""

    def restarting(self) -> Sequence[SwarmTask]:
        """The tasks that wait to be started, each in place of one that ended or is about to."""
