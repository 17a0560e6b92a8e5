"""What is said of decisions and of the breaker."""

from datetime import datetime
from typing import Self

from contract.verdicts import Mode
from controller.api.answers.base import Answer
from controller.db.models import Cluster, Network, Node
from controller.safety.breaker import BreakerLimits, State
from controller.safety.decisions import describe
from controller.safety.modes import Effective


class DecisionAnswer(Answer):
    """What holds for a node, a network or the cluster after somebody decided."""

    id: str
    name: str
    """With its kind, as people say it: `node one`."""
    changed: bool
    """False: it was so before; nothing was changed or recorded."""
    paused_at: datetime | None
    paused_by: str | None
    paused_reason: str | None
    mode: Mode | None
    """Set by hand; null: as the others say."""
    effective_mode: Mode
    """All considered; of a network, on a node that says nothing itself."""
    paused: bool
    """Paused, it itself or the cluster, or ignored by a Swarm label."""
    reasons: list[str]
    """Who says so."""

    @classmethod
    def of(cls, target: Cluster | Node | Network, effective: Effective, *, changed: bool) -> Self:
        """From the row, and what holds for it."""
        return cls(
            id=target.swarm_id if isinstance(target, Cluster) else target.id,
            name=describe(target),
            changed=changed,
            paused_at=target.paused_at,
            paused_by=target.paused_by,
            paused_reason=target.paused_reason,
            mode=target.mode,
            effective_mode=effective.mode,
            paused=effective.paused,
            reasons=list(effective.reasons),
        )


class BreakerNodeAnswer(Answer):
    """A node that removed something lately, or whose breaker has tripped."""

    id: str
    hostname: str
    removals: int
    """In the window, and since the last reset."""
    tripped_at: datetime | None
    reason: str | None


class BreakerAnswer(Answer):
    """The breaker: what counts against which limit, and what has tripped."""

    window_seconds: float
    node_removals: int
    """So many removals of one node are allowed in the window."""
    nodes_removing: int
    """How many nodes removed something in the window."""
    nodes_allowed: int
    """How many may."""
    tripped_at: datetime | None
    """Of the cluster: then nothing is removed anywhere."""
    reason: str | None
    reset_at: datetime | None
    nodes: list[BreakerNodeAnswer]
    """The most removals first; at most a thousand."""

    @classmethod
    def of(cls, cluster: Cluster | None, state: State, limits: BreakerLimits) -> Self:
        """From the rows."""
        return cls(
            window_seconds=limits.window.total_seconds(),
            node_removals=limits.node_removals,
            nodes_removing=state.removing,
            nodes_allowed=state.allowed,
            tripped_at=None if cluster is None else cluster.breaker_tripped_at,
            reason=None if cluster is None else cluster.breaker_reason,
            reset_at=None if cluster is None else cluster.breaker_reset_at,
            nodes=[
                BreakerNodeAnswer(
                    id=node.id,
                    hostname=node.hostname,
                    removals=removals,
                    tripped_at=node.breaker_tripped_at,
                    reason=node.breaker_reason,
                )
                for node, removals in state.nodes
            ],
        )


class BreakerResetAnswer(Answer):
    """What a reset did."""

    reset: list[str]
    """What had tripped, and has been reset; empty: nothing had."""
    breaker: BreakerAnswer
    """As it is now."""
