"""What may be done where, and on whose word: modes and pauses of the cluster, its nodes and networks.

Settings, Swarm labels, people and the breaker each have a say, and can only take away: the strictest
wins. Paused is stricter than observe: a paused node is not even looked at. A network cannot be paused
apart from its node, so its devices are judged and reported then, and not removed.

A network that is gone has no say: what it left behind belongs to nobody, and would stay for ever.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, false, or_

from contract.verdicts import Mode
from controller.db.models import Cluster, Network, Node
from controller.safety.labels import IGNORE_LABEL, MODE_LABEL


class Effective(NamedTuple):
    """What may be done, all considered.

    Attributes:
        mode: what a worker is told.
        paused: a node is not asked at all; for a network, the mode is observe.
        reasons: in words, who says so; empty where nobody says anything.
    """

    mode: Mode
    paused: bool
    reasons: tuple[str, ...]

    @property
    def because(self) -> str:
        """The reasons as one line."""
        return "; ".join(self.reasons)


def of_cluster(cluster: Cluster, configured: Mode) -> Effective:
    """What may be done anywhere; `configured` is what the controller's settings say."""
    said = (
        ("the controller's settings say", configured)
        if cluster.mode is None
        else ("set by hand for the cluster:", cluster.mode)
    )
    return _effective(
        pauses=[*_paused(cluster, "the cluster")],
        tripped=_tripped(cluster, "the cluster"),
        modes=[said],
    )


def of_node(node: Node, cluster: Cluster, configured: Mode) -> Effective:
    """What may be done on a node."""
    own = _effective(
        pauses=[*_paused(node, f"node {node.hostname}"), *_ignored(node, f"node {node.hostname}")],
        tripped=_tripped(node, f"node {node.hostname}"),
        modes=_modes(node, f"node {node.hostname}"),
    )
    return _strictest(of_cluster(cluster, configured), own)


def of_network(network: Network) -> Effective:
    """What a network itself allows; what its nodes and the cluster allow comes on top."""
    name = f"network {network.name}"
    return _effective(
        pauses=[*_paused(network, name), *_ignored(network, name)],
        tripped=[],
        modes=_modes(network, name),
    )


def of_network_anywhere(network: Network, cluster: Cluster, configured: Mode) -> Effective:
    """What may be done about a network on a node that has nothing to say itself."""
    return _strictest(of_cluster(cluster, configured), of_network(network))


def network_is_observed() -> ColumnElement[bool]:
    """In SQL: whether a network is of the Swarm, and itself allows no more than to observe."""
    return and_(
        Network.gone_at.is_(None),
        or_(
            Network.paused_at.is_not(None),
            Network.label_ignore != false(),
            Network.label_mode == Mode.OBSERVE,
            Network.mode == Mode.OBSERVE,
        ),
    )


def _effective(
    *, pauses: Sequence[str], tripped: Sequence[str], modes: Sequence[tuple[str, Mode]]
) -> Effective:
    observing = [f"{who} {mode}" for who, mode in modes if mode is Mode.OBSERVE]
    held = (*pauses, *tripped, *observing)
    if held:
        return Effective(Mode.OBSERVE, bool(pauses), held)
    return Effective(Mode.ENFORCE, False, tuple(f"{who} {mode}" for who, mode in modes))


def _strictest(outer: Effective, own: Effective) -> Effective:
    """Both together; the reasons are those for what comes out."""
    held = [each for each in (outer, own) if each.mode is Mode.OBSERVE]
    reasons = tuple(
        reason
        for each in sorted(held or (outer, own), key=lambda each: not each.paused)
        for reason in each.reasons
    )
    return Effective(
        Mode.OBSERVE if held else Mode.ENFORCE, any(each.paused for each in held), reasons
    )


def _paused(row: Cluster | Node | Network, name: str) -> Iterator[str]:
    if row.paused_at is not None:
        why = f": {row.paused_reason}" if row.paused_reason else ""
        yield f"{name} was paused by {row.paused_by}{why}"


def _ignored(row: Node | Network, name: str) -> Iterator[str]:
    if row.label_ignore:
        yield f"{name} has the Swarm label {IGNORE_LABEL}"


def _tripped(row: Cluster | Node, name: str) -> list[str]:
    if row.breaker_tripped_at is None:
        return []
    return [f"the breaker of {name} has tripped: {row.breaker_reason} (`vxctl breaker`)"]


def _modes(row: Node | Network, name: str) -> list[tuple[str, Mode]]:
    said = (
        (f"the Swarm label {MODE_LABEL} of {name} says", row.label_mode),
        (f"set by hand for {name}:", row.mode),
    )
    return [(who, mode) for who, mode in said if mode is not None]
