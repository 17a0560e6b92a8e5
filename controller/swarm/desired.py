"""Desired state: the networks that each node should carry, derived from tasks. Pure."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from controller.swarm.model import SwarmError, SwarmNetwork, SwarmTask

_MAX_REASONS: Final = 20

ServiceNodes = dict[str, tuple[str, ...]]
"""Service id to the ids of the nodes with its tasks. A set takes ten times the memory of a tuple."""


class DesiredAttachment(NamedTuple):
    """Why a node should carry a network, and whether a task of the network runs on the node."""

    reasons: list[str]
    running: bool


NodeAttachments = Mapping[str, DesiredAttachment]
"""Network id to attachment, of one node."""


def desired_state(
    nodes: Collection[str], networks: Iterable[SwarmNetwork], tasks: Iterable[SwarmTask]
) -> Mapping[str, NodeAttachments]:
    """The attachments of these nodes.

    The ingress network belongs on every node. A task needs its networks on its node from its assignment
    until the node reports its end; so does a `docker run` container that is attached to a network.
    """
    known = {network.id: network.ingress for network in networks}
    ingress = [network for network, is_ingress in known.items() if is_ingress]
    reasons: dict[str, dict[str, list[str]]] = {
        node: {network: ["ingress"] for network in ingress} for node in nodes
    }
    running: defaultdict[str, set[str]] = defaultdict(set)
    for task in sorted(tasks, key=lambda task: task.id):
        if not task.wanted or task.node_id not in reasons:
            continue
        reason = f"{'container' if task.attachment else 'task'} {task.id}"
        if task.ending:
            reason += ", until it has ended"
        # The lists are not read at one time: a network missing in one is in the next.
        for network in known.keys() & task.networks:
            reasons[task.node_id].setdefault(network, []).append(reason)
            if task.running:
                running[task.node_id].add(network)
    return {
        node: {
            network: DesiredAttachment(_bounded(texts), network in running[node])
            for network, texts in by_network.items()
        }
        for node, by_network in reasons.items()
    }


def _bounded(reasons: list[str]) -> list[str]:
    extra = len(reasons) - _MAX_REASONS
    return reasons if extra <= 0 else [*reasons[:_MAX_REASONS], f"and {extra} more"]


def unknown_networks(networks: Collection[str], tasks: Iterable[SwarmTask]) -> dict[str, set[str]]:
    """Node id to the networks of its tasks that are newer than the list: its state is incomplete."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for task in tasks:
        if task.wanted and (missing := set(task.networks).difference(networks)):
            found[task.node_id] |= missing
    return found


@dataclass(frozen=True, slots=True)
class PackedAttachments:
    """One node's attachments in canonical form and little memory: a reading holds 250,000."""

    count: int
    data: bytes

    @classmethod
    def of(cls, attachments: NodeAttachments) -> "PackedAttachments":
        """Pack attachments."""
        rows = [[id_, found.running, found.reasons] for id_, found in sorted(attachments.items())]
        return cls(len(rows), json.dumps(rows, separators=(",", ":")).encode())

    def unpack(self) -> Iterator[tuple[str, DesiredAttachment]]:
        """Network ids and attachments."""
        for network, running, reasons in json.loads(self.data):
            yield network, DesiredAttachment(reasons, running)

    @property
    def digest(self) -> str:
        """Equal for equal attachments only."""
        return hashlib.sha256(self.data).hexdigest()


DesiredState = dict[str, PackedAttachments]
"""Node id to its attachments."""


@dataclass(slots=True)
class TaskReading:
    """Desired state as it is collected from the task lists of some nodes after another."""

    service_nodes: ServiceNodes = field(default_factory=dict)
    desired: DesiredState = field(default_factory=dict)
    complete: list[str] = field(default_factory=list)
    """Nodes whose tasks use listed networks with known VNIs only."""

    def add(
        self, nodes: Sequence[str], networks: Mapping[str, SwarmNetwork], tasks: Sequence[SwarmTask]
    ) -> None:
        """Add all tasks of these nodes; raise a SwarmError if they use networks and none is listed."""
        if not networks and any(task.networks for task in tasks):
            raise SwarmError("the manager listed no overlay networks, though tasks use some")
        for node, attachments in desired_state(nodes, networks.values(), tasks).items():
            self.desired[node] = PackedAttachments.of(attachments)
        names = {node: node for node in nodes}  # one string per node, however many tasks name it
        seen: defaultdict[str, set[str]] = defaultdict(set)
        for task in tasks:
            if task.wanted and task.service_id:
                seen[task.service_id].add(names[task.node_id])
        for service, service_nodes in seen.items():
            add_nodes(self.service_nodes, service, service_nodes)
        unknown = unknown_networks({id_ for id_ in networks if networks[id_].vnis}, tasks)
        self.complete += [id_ for id_ in nodes if id_ not in unknown]


def add_nodes(service_nodes: ServiceNodes, service: str, nodes: set[str]) -> None:
    """Add nodes to those of a service."""
    known = service_nodes.get(service, ())
    service_nodes[service] = (*known, *nodes.difference(known))
