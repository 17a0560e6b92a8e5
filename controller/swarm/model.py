"""The Swarm as values: its identity, nodes, networks, tasks and events."""

import ipaddress
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from contract.verdicts import Mode
from controller.conditions.model import Reason

READY: Final = "ready"
"""State of a node whose dockerd the managers hear from."""


class SwarmError(Exception):
    """The Swarm could not be read, or the reading is not plausible: desired state must not change.

    Attributes:
        elsewhere: whether another manager is asked next, of which no failure is known.
    """

    def __init__(
        self,
        problem: str,
        reason: Reason = Reason.SWARM_UNREADABLE,
        *,
        elsewhere: bool = False,
    ) -> None:
        super().__init__(problem)
        self.reason = reason
        self.elsewhere = elsewhere


class SwarmMovedError(SwarmError):
    """A node of the question left the Swarm after the nodes were listed: read everything again."""


class SwarmIdentity(NamedTuple):
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
        return tuple(subnet.vni for subnet in self.subnets)


@dataclass(frozen=True, slots=True)
class SwarmTask:
    """A task of a service, or the attachment of a `docker run` container to a network (no `service_id`).

    Attributes:
        networks: ids of the overlay networks.
        wanted: it runs, is to start, was just refused, or is to end and has not ended yet.
        since: start of its state, by its node's clock; None: not a plausible time.
        ending: it is to end, and has not ended yet.
        refused: its node rejected or failed it.
        slot: number of the replica, which its successors keep; 0: of a global service, or of none.
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
    slot: int = 0


class SwarmEvent(NamedTuple):
    """A change of a service, network or node (`kind`)."""

    kind: str
    id: str
    at: str
    """By the manager's clock, in the form of its API: seconds and nanoseconds since 1970."""
