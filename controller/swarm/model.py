"""The Swarm as values: its identity, nodes, networks, tasks and events, and the protocol to read them."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from contract.verdicts import Mode

UNREADABLE: Final = "SwarmUnreadable"
"""`SwarmError.reason`: an answer is missing or cannot be understood."""

READY: Final = "ready"
"""State of a node whose dockerd the managers hear from."""


class SwarmError(Exception):
    """The Swarm could not be read, or the reading is not plausible: desired state must not change.

    `reason` is one CamelCase word, for the condition.
    """

    def __init__(self, problem: str, reason: str = UNREADABLE) -> None:
        super().__init__(problem)
        self.reason = reason


class SwarmMovedError(SwarmError):
    """A node of the question left the Swarm after the nodes were listed: read everything again."""


@dataclass(frozen=True, slots=True)
class SwarmIdentity:
    """The Swarm that a manager belongs to."""

    swarm_id: str
    data_path_port: int


@dataclass(frozen=True, slots=True)
class SwarmNode:
    """A node; `label_mode` is None without that label."""

    id: str
    hostname: str
    role: str
    availability: str
    state: str
    address: str
    label_mode: Mode | None = None
    label_ignore: bool = False


def normal_cidr(text: object) -> str | None:
    """A subnet in canonical form, `10.0.2.0/24`; None if the text is not a subnet."""
    try:
        return str(ipaddress.ip_network(str(text), strict=False))
    except ValueError:
        return None


class Subnet(NamedTuple):
    """A subnet of a network: VNI and addresses (`10.0.2.0/24`; None: unknown)."""

    vni: int
    cidr: str | None = None


@dataclass(frozen=True, slots=True)
class SwarmNetwork:
    """An overlay network of the Swarm."""

    id: str
    name: str
    ingress: bool
    subnets: tuple[Subnet, ...]
    label_mode: Mode | None = None
    label_ignore: bool = False

    @property
    def vnis(self) -> tuple[int, ...]:
        """The VNIs, one per subnet."""
        return tuple(subnet.vni for subnet in self.subnets)


@dataclass(frozen=True, slots=True)
class SwarmTask:
    """A task of a service, or the attachment of a `docker run` container to a network.

    Attributes:
        networks: ids of the overlay networks that it is attached to.
        service_id: empty for an attachment.
        wanted: it runs, is to start, was just refused, or is to end and has not ended yet.
        running: its node reports that it runs.
        refused: its node rejected or failed it.
        error: the node's error message.
        since: start of its state, by its node's clock; None: not a plausible time.
        ending: it is to end, and has not ended yet.
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
    """A change of a service, network or node (`kind`)."""

    kind: str
    id: str
    at: str
    """By the manager's clock, in the form of its API: seconds and nanoseconds since 1970."""


class Swarm(Protocol):
    """Reads the Swarm. An answer is complete, or a SwarmError is raised."""

    def identity(self) -> SwarmIdentity:
        """The manager's Swarm."""

    def nodes(self, ids: Sequence[str] = ()) -> Sequence[SwarmNode]:
        """All nodes; given ids, the existing ones of these."""

    def networks(self, ids: Sequence[str] = ()) -> Sequence[SwarmNetwork]:
        """All overlay networks; given ids, the existing ones of these."""

    def tasks_of_nodes(self, ids: Sequence[str]) -> Sequence[SwarmTask]:
        """All tasks on these nodes, ended ones too, and attached containers.

        Raises:
            SwarmMovedError: one of the nodes is gone.
        """

    def tasks_of_service(self, service_id: str) -> Sequence[SwarmTask]:
        """All tasks of a service that have a node; none if the service is gone."""

    def restarting(self) -> Sequence[SwarmTask]:
        """The tasks that wait to replace an ended or ending task."""
