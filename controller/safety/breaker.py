"""The breakers of nodes and cluster: too many removals at once stop removals until a reset by a person.

They count removals in the run history. A node with its limit of removals in the window trips its breaker; too
many nodes with removals in the window trip the cluster's. While one is tripped, requests say `observe`, so
devices are still judged and reported. After a reset they count from zero.

Runs under way when a breaker trips are completed: at most one for a node, with at most the removals that the
node had left.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import repeat
from typing import Final, NamedTuple, TypeVar
from uuid import UUID, uuid5

import structlog
from sqlalchemy import BindParameter, Select, func, select
from sqlalchemy.orm import Session

from contract.verdicts import Stage
from controller.audit.append import Entry, append
from controller.conditions.holds import typed_name
from controller.db.models import Cluster, Node, Run
from controller.db.states import CONTROLLER
from controller.safety.decisions import Decision, describe, is_recorded, lock
from controller.workqueue import queue
from controller.workqueue.priorities import Priority

log = structlog.get_logger(__name__)

Row = TypeVar("Row", Cluster, Node)


class BreakerLimits(NamedTuple):
    """The limits of the breakers.

    Attributes:
        window: the period in which removals count.
        node_removals: the removals in the window at which a node's breaker trips.
        max_nodes_share: the share of the Swarm's nodes, 0 to 1, that may have removals in the window.
        min_nodes: the number of nodes that may in any case: a small Swarm often has all its leaks at once.
    """

    window: timedelta = timedelta(seconds=600)
    node_removals: int = 200
    max_nodes_share: float = 0.25
    min_nodes: int = 5

    def nodes(self, total: int) -> int:
        """Return the number of nodes that may have removals in the window."""
        return max(self.min_nodes, int(total * self.max_nodes_share))

    def since(self, now: datetime) -> datetime:
        """Return the start of the window that ends now."""
        return now - self.window

    def left(self, removals: int) -> int:
        """Return the removals that a node has left after `removals` in the window."""
        return max(self.node_removals - removals, 0)


DEFAULTS: Final = BreakerLimits()


class BreakerState(NamedTuple):
    """The counts of the breakers.

    Attributes:
        removing: the number of nodes with removals in the window.
        allowed: the number above which the cluster's breaker trips.
        nodes: those nodes with their removals, most first, and nodes with a tripped breaker; at most 1,000.
    """

    removing: int
    allowed: int
    nodes: Sequence[tuple[Node, int]]


def counted(since: datetime | BindParameter[datetime]) -> Select[str, int]:
    """Select node id and `removals` of nodes with removals after `since` and after their last reset."""
    return (
        select(Run.node_id, func.sum(Run.removed).label("removals"))
        .join(Node, Node.id == Run.node_id)
        .where(
            Run.removed > 0,
            Run.closed_at > since,
            Node.breaker_reset_at.is_(None) | (Run.closed_at > Node.breaker_reset_at),
        )
        .group_by(Run.node_id)
    )


def check(session: Session, limits: BreakerLimits, now: datetime) -> None:
    """Trip the breakers whose limits are exceeded; to be called after each run with removals.

    In a transaction of its own: storing a report locks rows that come after the cluster's. If this fails,
    the check after the next removal counts the same rows.
    """
    cluster = session.get(Cluster, 1)
    if cluster is None:
        return
    span = f"within {limits.window.total_seconds():g} s"
    exceeded: list[tuple[Cluster | Node, str]] = []
    removing, allowed = _nodes(session, cluster, limits, now)
    if removing > allowed:
        reason = f"{removing} nodes removed devices {span}; the limit is {allowed}"
        exceeded.append((cluster, reason))
    used_up = (
        counted(limits.since(now)).having(func.sum(Run.removed) >= limits.node_removals).subquery()
    )
    for node in session.scalars(select(Node).join(used_up).order_by(Node.id)):
        reason = f"{limits.node_removals} device(s) removed {span}: the limit of a node"
        exceeded.append((node, reason))
    append(
        session, [entry for row, why in exceeded for entry in _trip(session, row, why, now)], now
    )


def reset(session: Session, node: Node | None, decision: Decision) -> list[str]:
    """Reset the breaker of a node, or with None all breakers; return the names of those that had tripped.

    Resets are recorded, and the nodes concerned are made due. A decision that was carried out before resets
    nothing more. `rows_of` finds the rows of one.
    """
    if is_recorded(session, decision):
        return []
    cluster = session.scalar(_tripped(Cluster)) if node is None else None
    query = _tripped(Node) if node is None else _tripped(Node).where(Node.id == node.id)
    nodes = session.scalars(query).all()
    concerned = (
        [row.id for row in nodes]
        if cluster is None
        else list(session.scalars(select(Node.id).where(Node.gone_at.is_(None))))
    )
    tripped: list[Cluster | Node] = [*nodes] if cluster is None else [cluster, *nodes]
    ids = repeat(None) if decision.id is None else rows_of(decision.id, len(tripped))
    entries = []
    for row, id_ in zip(tripped, ids, strict=False):
        change = f"{describe(row)}: tripped ({row.breaker_reason}) -> reset"
        entries.append(_entry(row, Stage.BREAKER_RESET, decision._replace(id=id_), change))
        row.breaker_tripped_at = row.breaker_reason = None
        row.breaker_reset_at = decision.at
    reason = f"breaker reset by {decision.who}"
    queue.request(session, concerned, at=decision.at, priority=Priority.CHANGE, reason=reason)
    append(session, entries, decision.at)
    return [describe(row) for row in tripped]


def rows_of(decision_id: UUID, limit: int) -> list[UUID]:
    """Return the ids of the first audit rows of a reset, if it makes as many."""
    return [decision_id, *(uuid5(decision_id, str(number)) for number in range(1, limit))]


def state(session: Session, limits: BreakerLimits, now: datetime) -> BreakerState:
    """Return the counts of the breakers."""
    cluster = session.get(Cluster, 1)
    removing, allowed = _nodes(session, cluster, limits, now)
    used = counted(limits.since(now)).subquery()
    removals = func.coalesce(used.c.removals, 0)
    rows = session.execute(
        select(Node, removals)
        .outerjoin(used, used.c.node_id == Node.id)
        .where(
            Node.gone_at.is_(None),
            used.c.node_id.is_not(None) | Node.breaker_tripped_at.is_not(None),
        )
        .order_by(removals.desc(), Node.hostname, Node.id)
        .limit(1_000)
    )
    return BreakerState(removing, allowed, rows.all())


def _nodes(
    session: Session, cluster: Cluster | None, limits: BreakerLimits, now: datetime
) -> tuple[int, int]:
    """Return the number of nodes with removals in the window, and its limit."""
    since = limits.since(now)
    if cluster is not None and cluster.breaker_reset_at is not None:
        since = max(since, cluster.breaker_reset_at)
    removing = session.scalar(
        select(func.count(Run.node_id.distinct())).where(Run.removed > 0, Run.closed_at > since)
    )
    total = session.scalar(select(func.count()).select_from(Node).where(Node.gone_at.is_(None)))
    return removing or 0, limits.nodes(total or 0)


def _trip(session: Session, row: Cluster | Node, reason: str, now: datetime) -> Iterator[Entry]:
    """Trip a breaker unless it has tripped; yield the audit entry."""
    if row.breaker_tripped_at is None:  # Otherwise there is no need to wait for the lock.
        lock(session, row)
    if row.breaker_tripped_at is not None:
        return
    row.breaker_tripped_at, row.breaker_reason = now, reason
    one = f" {typed_name(row.id, row.hostname)}" if isinstance(row, Node) else ""
    log.error(
        "THE BREAKER HAS TRIPPED: nothing is removed there until a person resets it",
        where=describe(row),
        reason=reason,
        hint=f"find out why (`vxctl audit`), then `vxctl breaker reset{one}`",
    )
    change = f"{describe(row)}: {reason}"
    yield _entry(row, Stage.BREAKER_TRIPPED, Decision(CONTROLLER, None, now), change)


def _entry(row: Cluster | Node, stage: Stage, decision: Decision, change: str) -> Entry:
    return Entry(
        id=decision.id,
        stage=stage,
        at=decision.at,
        actor=decision.actor,
        claimed_name=decision.claimed_name,
        reason=decision.describe(change),
        node=row if isinstance(row, Node) else None,
    )


def _tripped(kind: type[Row]) -> Select[Row]:
    """Select and lock the rows whose breaker has tripped."""
    return (
        select(kind)
        .where(kind.breaker_tripped_at.is_not(None))
        .order_by(kind.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
