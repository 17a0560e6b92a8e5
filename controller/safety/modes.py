"""Effective modes and pauses of the cluster, its nodes and networks.

Settings, Swarm labels, people and breakers can only restrict: the strictest wins. Paused is stricter than
observe: a paused node is not run at all. A network cannot be paused apart from its nodes, so its devices are
then judged and reported, and not removed.

A removed network restricts nothing: its devices belong to no network, and would stay for ever.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from contract.verdicts import Mode
from controller.db.models import Cluster, Network, Node
from controller.db.pauses import describe_pause
from controller.safety.labels import IGNORE_LABEL, MODE_LABEL


class EffectiveMode(NamedTuple):
    """The mode that results from all settings, labels, decisions and breakers.

    Attributes:
        mode: what a request tells the worker.
        paused: a node is not run at all; for a network, the mode is observe.
        reasons: where the mode comes from; empty: nothing sets it.
    """

    mode: Mode
    paused: bool
    reasons: tuple[str, ...]

    @property
    def reason(self) -> str:
        """The reasons in one line."""
        return "; ".join(self.reasons)


def of_cluster(cluster: Cluster, configured: Mode) -> EffectiveMode:
    """Return the effective mode of the cluster; `configured`: in the controller's settings."""
    mode = (
        ("set in the controller's settings", configured)
        if cluster.mode is None
        else ("set manually on the cluster", cluster.mode)
    )
    return _combine(
        pauses=[*_paused(cluster, "the cluster")],
        tripped=[*_tripped(cluster, "the cluster")],
        modes=[mode],
    )


def of_node(node: Node, cluster: Cluster, configured: Mode) -> EffectiveMode:
    """Return the effective mode of a node."""
    name = f"node {node.hostname}"
    own = _combine(
        pauses=[*_paused(node, name), *_ignored(node, name)],
        tripped=[*_tripped(node, name)],
        modes=[*_modes(node, name)],
    )
    return _strictest(of_cluster(cluster, configured), own)


def of_network(network: Network) -> EffectiveMode:
    """Return the mode of a network without regard to its nodes and the cluster."""
    name = f"network {network.name}"
    return _combine(
        pauses=[*_paused(network, name), *_ignored(network, name)],
        tripped=[],
        modes=[*_modes(network, name)],
    )


def of_target(
    target: Cluster | Node | Network, cluster: Cluster, configured: Mode
) -> EffectiveMode:
    """Return the effective mode of a target; of a network: on a node that has none of its own."""
    if isinstance(target, Cluster):
        return of_cluster(target, configured)
    if isinstance(target, Node):
        return of_node(target, cluster, configured)
    return _strictest(of_cluster(cluster, configured), of_network(target))


def _combine(
    *, pauses: Sequence[str], tripped: Sequence[str], modes: Sequence[tuple[str, Mode]]
) -> EffectiveMode:
    observing = [reason for reason, mode in modes if mode is Mode.OBSERVE]
    restricting = (*pauses, *tripped, *observing)
    if restricting:
        return EffectiveMode(Mode.OBSERVE, bool(pauses), restricting)
    return EffectiveMode(Mode.ENFORCE, False, tuple(reason for reason, _ in modes))


def _strictest(outer: EffectiveMode, own: EffectiveMode) -> EffectiveMode:
    """Combine two modes; the reasons are those of the resulting mode, pauses first."""
    observing = [mode for mode in (outer, own) if mode.mode is Mode.OBSERVE]
    deciding = sorted(observing or (outer, own), key=lambda mode: not mode.paused)
    return EffectiveMode(
        Mode.OBSERVE if observing else Mode.ENFORCE,
        any(mode.paused for mode in observing),
        tuple(reason for mode in deciding for reason in mode.reasons),
    )


def _paused(row: Cluster | Node | Network, name: str) -> Iterator[str]:
    pause = describe_pause(row)
    if pause is not None:
        yield f"{name} is {pause}"


def _ignored(row: Node | Network, name: str) -> Iterator[str]:
    if row.label_ignore:
        yield f"Swarm label {IGNORE_LABEL} on {name}"


def _tripped(row: Cluster | Node, name: str) -> Iterator[str]:
    if row.breaker_tripped_at is not None:
        yield f"the breaker of {name} tripped: {row.breaker_reason}; see `vxctl breaker`"


def _modes(row: Node | Network, name: str) -> Iterator[tuple[str, Mode]]:
    if row.label_mode is not None:
        yield f"Swarm label {MODE_LABEL} on {name}", row.label_mode
    if row.mode is not None:
        yield f"set manually on {name}", row.mode
