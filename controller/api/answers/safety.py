"""Answers about decisions (pause, mode) and the breaker."""

from datetime import datetime
from typing import Self

from contract.verdicts import Mode
from controller.api.answers.base import Answer
from controller.db.models import Cluster, Network, Node
from controller.safety.breaker import BreakerLimits, BreakerState
from controller.safety.decisions import describe
from controller.safety.modes import EffectiveMode


class DecisionAnswer(Answer):
    """A node, network or the cluster after a decision."""

    id: str
    name: str
    """With its kind: `node one`."""
    changed: bool
    """False: it was so before, and nothing was changed or recorded."""
    paused_at: datetime | None
    paused_by: str | None
    paused_reason: str | None
    paused_until: datetime | None
    """When the pause ends by itself; null: when it is resumed."""
    mode: Mode | None
    """Set by a person; null: not set."""
    effective_mode: Mode
    """The strictest of all modes; of a network: on a node that has none of its own."""
    paused: bool
    """Whether it or the cluster is paused, or a Swarm label excludes it."""
    reasons: list[str]
    """Where the effective mode comes from."""

    @classmethod
    def of(
        cls, target: Cluster | Node | Network, effective: EffectiveMode, *, changed: bool
    ) -> Self:
        return cls.from_row(
            target,
            id=target.swarm_id if isinstance(target, Cluster) else target.id,
            name=describe(target),
            changed=changed,
            effective_mode=effective.mode,
            paused=effective.paused,
            reasons=list(effective.reasons),
        )


class BreakerNodeAnswer(Answer):
    """A node with removals in the window, or with a tripped breaker."""

    id: str
    hostname: str
    removals: int
    """In the window and since the last reset."""
    tripped_at: datetime | None
    reason: str | None

    @classmethod
    def of(cls, node: Node, removals: int) -> Self:
        tripped_at, reason = node.breaker_tripped_at, node.breaker_reason
        return cls.from_row(node, removals=removals, tripped_at=tripped_at, reason=reason)


class BreakerAnswer(Answer):
    """The removals that count, the limits, and the breakers that have tripped."""

    window_seconds: float
    node_removals: int
    """The removals in the window at which a node's breaker trips."""
    nodes_removing: int
    """The number of nodes with removals in the window."""
    nodes_allowed: int
    """The number of such nodes above which the cluster's breaker trips."""
    tripped_at: datetime | None
    """Of the cluster's breaker: then nothing is removed on any node."""
    reason: str | None
    reset_at: datetime | None
    nodes: list[BreakerNodeAnswer]
    """Those with the most removals first; at most a thousand."""

    @classmethod
    def of(cls, cluster: Cluster | None, state: BreakerState, limits: BreakerLimits) -> Self:
        return cls(
            window_seconds=limits.window.total_seconds(),
            node_removals=limits.node_removals,
            nodes_removing=state.removing,
            nodes_allowed=state.allowed,
            tripped_at=None if cluster is None else cluster.breaker_tripped_at,
            reason=None if cluster is None else cluster.breaker_reason,
            reset_at=None if cluster is None else cluster.breaker_reset_at,
            nodes=[BreakerNodeAnswer.of(*row) for row in state.nodes],
        )


class BreakerResetAnswer(Answer):
    """The effect of a reset."""

    reset: list[str]
    """The names of the breakers that had tripped and are reset."""
    breaker: BreakerAnswer
    """The breaker after the reset."""
