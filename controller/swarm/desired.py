"""Which networks each node should carry, by what the Swarm says; and what is not to be believed. Pure."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from controller.swarm.model import SwarmNetwork, SwarmTask

INGRESS_REASON: Final = "ingress"
_MAX_REASONS: Final = 20


class Want(NamedTuple):
    """Why a node should carry a network, and whether it must be carrying it by now."""

    reasons: list[str]
    running: bool
    """A task of it runs on the node, as the Swarm knows."""


Wants = Mapping[str, Want]
"""Network id to what is wanted, of one node."""


def desired_state(
    nodes: Collection[str], networks: Iterable[SwarmNetwork], tasks: Iterable[SwarmTask]
) -> Mapping[str, Wants]:
    """Which networks each of these nodes should carry, and why.

    The ingress network belongs on every node. A task needs its networks on its node from being assigned
    to it until the node says that it has ended; so does a `docker run` container that is attached to one.
    """
    known = {network.id: network.ingress for network in networks}
    ingress = [network for network, is_ingress in known.items() if is_ingress]
    reasons: dict[str, dict[str, list[str]]] = {
        node: {network: [INGRESS_REASON] for network in ingress} for node in nodes
    }
    running: defaultdict[str, set[str]] = defaultdict(set)
    for task in sorted(tasks, key=lambda each: each.id):
        if not task.wanted or task.node_id not in reasons:
            continue
        reason = f"{'container' if task.attachment else 'task'} {task.id}"
        if task.ending:
            reason += ", until it has ended"
        # The lists are not read at one moment: what is missing in one is there the next time.
        for network in known.keys() & task.networks:
            reasons[task.node_id].setdefault(network, []).append(reason)
            if task.running:
                running[task.node_id].add(network)
    return {
        node: {
            network: Want(_bounded(why), network in running[node]) for network, why in its.items()
        }
        for node, its in reasons.items()
    }


def of_unknown_networks(
    networks: Collection[str], tasks: Iterable[SwarmTask]
) -> Mapping[str, frozenset[str]]:
    """Node id to networks that its tasks need and the list of networks lacks, where there are any.

    The lists are not read at one moment. What such a node wants is not known whole.
    """
    found: defaultdict[str, set[str]] = defaultdict(set)
    for task in tasks:
        if task.wanted and (missing := set(task.networks).difference(networks)):
            found[task.node_id] |= missing
    return {node: frozenset(missing) for node, missing in found.items()}


def _bounded(reasons: list[str]) -> list[str]:
    extra = len(reasons) - _MAX_REASONS
    return reasons if extra <= 0 else [*reasons[:_MAX_REASONS], f"and {extra} more"]


@dataclass(frozen=True, slots=True)
class Packed:
    """One node's wants in as little memory as they take, in a form that is always the same.

    A quarter of a million of them are held while a Swarm is read.
    """

    count: int
    data: bytes

    @classmethod
    def of(cls, wants: Wants) -> "Packed":
        """Pack them."""
        rows = [[network, want.running, want.reasons] for network, want in sorted(wants.items())]
        return cls(len(rows), json.dumps(rows, separators=(",", ":")).encode())

    def unpack(self) -> Iterator[tuple[str, Want]]:
        """Network ids and what is wanted."""
        for network, running, reasons in json.loads(self.data):
            yield network, Want(reasons, running)

    @property
    def digest(self) -> str:
        """The same for the same wants, and for nothing else."""
        return hashlib.sha256(self.data).hexdigest()
