"""The breaker: when too much is removed at once, nothing more is, until a person has looked.

It counts what was removed, from the run history: a node's removals in the window, and the nodes that
removed anything in it. A node that uses up its own number trips its own breaker; too many nodes at once
trip the cluster's. Tripped, it stays tripped: requests say `observe`, so everything is still judged and
reported. A reset by a person counts from zero.

What is on its way when it trips is still carried out: at most a run a node, each of at most what was
left of the node's own number.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import structlog
from sqlalchemy import BindParameter, Select, func, select
from sqlalchemy.orm import Session

from contract.verdicts import Stage
from controller.audit.append import Entry, append
from controller.db.models import Cluster, Node, Run
from controller.db.states import CONTROLLER
from controller.safety.decisions import Attribution, describe, lock
from controller.workqueue import queue
from controller.workqueue.priorities import Priority

log = structlog.get_logger(__name__)

_MAX_SHOWN: Final = 1_000


class BreakerLimits(NamedTuple):
    """When it trips.

    Attributes:
        window: how far back removals count.
        node_removals: so many removals of one node are allowed in the window.
        nodes_share: the share of the Swarm's nodes, 0 to 1, that may remove something in the window.
        nodes_least: so many nodes may in any case: a small Swarm often has all its leaks at once.
    """

    window: timedelta = timedelta(seconds=600)
    node_removals: int = 200
    max_nodes_share: float = 0.25
    min_nodes: int = 5

    def nodes(self, of: int) -> int:
        """How many nodes of so many may remove something in the window."""
        return max(self.min_nodes, int(of * self.max_nodes_share))

    def since(self, now: datetime) -> datetime:
        """When the window begins that ends now."""
        return now - self.window

    def left(self, removals: int) -> int:
        """How many more removals a node may have after so many in the window."""
        return max(self.node_removals - removals, 0)


DEFAULTS: Final = BreakerLimits()


class NodeCount(NamedTuple):
    """A node that counts, or has tripped."""

    node: Node
    removals: int


class State(NamedTuple):
    """What there is to see of the breaker.

    Attributes:
        removing: how many nodes removed something in the window.
        allowed: how many may.
        nodes: those, and those that have tripped, the most removals first; at most a thousand.
    """

    removing: int
    allowed: int
    nodes: list[NodeCount]


def counted(since: datetime | BindParameter[datetime]) -> Select[str, int]:
    """Node id and `removals` since then, of nodes that removed something, if no reset came after it."""
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
    """Trip what must be; to be asked after each run that removed something.

    In a transaction of its own: whoever stores a report holds rows that come after the cluster's. If it
    fails, the next removal anywhere finds the same rows, and trips.
    """
    cluster = session.get(Cluster, 1)
    if cluster is None:
        return
    span = f"within {limits.window.total_seconds():g} s"
    found: list[tuple[Cluster | Node, str]] = []
    removing, allowed = _nodes(session, cluster, limits, now)
    if removing > allowed:
        reason = f"{removing} nodes removed devices {span}, and no more than {allowed} may"
        found.append((cluster, reason))
    used_up = (
        counted(limits.since(now)).having(func.sum(Run.removed) >= limits.node_removals).subquery()
    )
    for node in session.scalars(select(Node).join(used_up).order_by(Node.id)):
        reason = f"{limits.node_removals} device(s) removed {span}, which is all that a node may"
        found.append((node, reason))
    entries = [entry for row, reason in found for entry in _trip(session, row, reason, now)]
    append(session, entries, now)


def reset(session: Session, node: Node | None, word: Attribution) -> list[str]:
    """Let a node remove again, or with None the cluster and all nodes; return what was reset.

    What has tripped is reset and recorded, and the nodes concerned are looked at. What has not stays
    as it is.
    """
    cluster = session.scalar(_tripped_cluster()) if node is None else None
    nodes = session.scalars(_tripped_nodes(node)).all()
    concerned = (
        [each.id for each in nodes]
        if cluster is None
        else list(session.scalars(select(Node.id).where(Node.gone_at.is_(None))))
    )
    tripped: list[Cluster | Node] = [*nodes] if cluster is None else [cluster, *nodes]
    entries = []
    for row in tripped:
        change = f"{describe(row)}: tripped ({row.breaker_reason}) -> reset"
        entries.append(_entry(row, Stage.BREAKER_RESET, word.actor, word.added_to(change), word.at))
        row.breaker_tripped_at = row.breaker_reason = None
        row.breaker_reset_at = word.at
    reason = f"breaker reset by {word.actor}"
    queue.request(session, concerned, at=word.at, priority=Priority.CHANGE, reason=reason)
    append(session, entries, word.at)
    return [describe(row) for row in tripped]


def state(session: Session, limits: BreakerLimits, now: datetime) -> State:
    """What there is to see."""
    cluster = session.get(Cluster, 1)
    removing, allowed = _nodes(session, cluster, limits, now)
    used = counted(limits.since(now)).subquery()
    removals = func.coalesce(used.c.removals, 0)
    rows = session.execute(
        select(Node, removals)
        .outerjoin(used, used.c.node_id == Node.id)
        .where(used.c.node_id.is_not(None) | Node.breaker_tripped_at.is_not(None))
        .order_by(removals.desc(), Node.hostname, Node.id)
        .limit(_MAX_SHOWN)
    )
    return State(removing, allowed, [NodeCount(node, count) for node, count in rows])


def _nodes(
    session: Session, cluster: Cluster | None, limits: BreakerLimits, now: datetime
) -> tuple[int, int]:
    """How many nodes removed something in the window, and how many may."""
    since = limits.since(now)
    if cluster is not None and cluster.breaker_reset_at is not None:
        since = max(since, cluster.breaker_reset_at)
    removing = session.scalar(
        select(func.count(Run.node_id.distinct())).where(Run.removed > 0, Run.closed_at > since)
    )
    there = session.scalar(select(func.count()).select_from(Node).where(Node.gone_at.is_(None)))
    return removing or 0, limits.nodes(there or 0)


def _trip(session: Session, row: Cluster | Node, reason: str, now: datetime) -> Iterator[Entry]:
    """Trip, unless that is done; yield what is to be recorded."""
    if row.breaker_tripped_at is None:  # Else nobody need wait for the row.
        lock(session, row)
    if row.breaker_tripped_at is not None:
        return
    row.breaker_tripped_at, row.breaker_reason = now, reason
    log.error(
        "THE BREAKER HAS TRIPPED: nothing is removed there until somebody resets it",
        where=describe(row),
        reason=reason,
        remedy="find out why (`vxctl audit`), then `vxctl breaker reset`",
    )
    words = f"{describe(row)}: {reason}"
    yield _entry(row, Stage.BREAKER_TRIPPED, CONTROLLER, words, now)


def _entry(row: Cluster | Node, stage: Stage, actor: str, reason: str, now: datetime) -> Entry:
    node = row if isinstance(row, Node) else None
    return Entry(stage=stage, at=now, actor=actor, reason=reason, node=node)


def _tripped_nodes(node: Node | None) -> Select[Node]:
    every = (
        select(Node)
        .where(Node.breaker_tripped_at.is_not(None))
        .order_by(Node.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    return every if node is None else every.where(Node.id == node.id)


def _tripped_cluster() -> Select[Cluster]:
    return (
        select(Cluster)
        .where(Cluster.breaker_tripped_at.is_not(None))
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
