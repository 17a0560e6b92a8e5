"""What people ask, answered from the database; each answer is one moment's."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import case, func, select, tuple_
from sqlalchemy.orm import Session, joinedload

from contract.verdicts import Verdict
from controller.conditions.model import Status, Type
from controller.db.models import (
    Attachment,
    Cluster,
    Device,
    Lease,
    Network,
    Node,
    Run,
)
from controller.db.states import RunState

_READY_STATUS: Final = Node.conditions[(Type.READY.value, "status")].as_string()
_READY_REASON: Final = Node.conditions[(Type.READY.value, "reason")].as_string()


class UnknownCursorError(Exception):
    """A page was asked for that follows a row which never was."""


class NoClusterError(Exception):
    """The Swarm has not been read yet."""


def known_cluster(session: Session) -> Cluster:
    """The Swarm.

    Raises:
        NoClusterError: it has not been read yet.
    """
    found = cluster(session)
    if found is None:
        raise NoClusterError("the Swarm has not been read yet")
    return found


def cluster(session: Session) -> Cluster | None:
    """The Swarm, once it has been read."""
    return session.get(Cluster, 1)


def leader(session: Session) -> str | None:
    """The controller that leads; None: there was none yet, or its lease was given back or has expired."""
    # By the clock that the lease's expiry was written by (see `controller.leadership.lease`).
    postgresql = session.get_bind().dialect.name == "postgresql"
    now = func.clock_timestamp() if postgresql else datetime.now(UTC)
    # A lease that was given back keeps its holder, and has expired long ago.
    return session.scalar(select(Lease.holder).where(Lease.holder != "", Lease.expires_at > now))


def nodes(
    session: Session,
    *,
    after: str | None = None,
    ready: Status | None = None,
    limit: int,
) -> Sequence[Node]:
    """Nodes of the Swarm, by hostname.

    Args:
        after: id of the last node of the page before.
        ready: only those whose condition `Ready` has this status.
        limit: how many at most.

    Raises:
        UnknownCursorError: there never was a node `after`.
    """
    query = select(Node).where(Node.gone_at.is_(None)).options(joinedload(Node.due))
    if after is not None:
        last = session.get(Node, after)
        if last is None:
            raise UnknownCursorError(f"after: no node has the id {after!r}")
        query = query.where(tuple_(Node.hostname, Node.id) > (last.hostname, last.id))
    if ready is not None:
        query = query.where(ready.value == _READY_STATUS)
    return session.scalars(query.order_by(Node.hostname, Node.id).limit(limit)).all()


def troubled_first(session: Session, limit: int) -> Sequence[Node]:
    """So many nodes of the Swarm, those that are not ready first."""
    return session.scalars(
        select(Node)
        .where(Node.gone_at.is_(None))
        .options(joinedload(Node.due))
        .order_by(case((Status.TRUE.value == _READY_STATUS, 1), else_=0), Node.hostname, Node.id)
        .limit(limit)
    ).all()


def readiness(session: Session) -> dict[tuple[str, str], int]:
    """Status and reason of the condition `Ready` to how many nodes have it so."""
    status = func.coalesce(_READY_STATUS, Status.UNKNOWN.value)
    reason = func.coalesce(_READY_REASON, "NotJudgedYet")
    return {
        (row[0], row[1]): row[2]
        for row in session.execute(
            select(status, reason, func.count())
            .where(Node.gone_at.is_(None))
            .group_by(status, reason)
        )
    }


def last_errors(session: Session, nodes: Sequence[Node]) -> dict[UUID, str | None]:
    """What went wrong in the last runs of nodes, by run."""
    ids = [node.last_run_id for node in nodes if node.last_run_id is not None]
    rows = session.execute(select(Run.id, Run.error).where(Run.id.in_(ids)))
    return {row.id: row.error for row in rows}


def verdicts(session: Session, nodes: Sequence[Node]) -> dict[str, dict[str, int]]:
    """Node id to how many of its devices have which verdict."""
    counts: dict[str, dict[str, int]] = {}
    for node_id, verdict, count in session.execute(
        select(Device.node_id, Device.verdict, func.count())
        .where(Device.node_id.in_([node.id for node in nodes]))
        .group_by(Device.node_id, Device.verdict)
    ):
        counts.setdefault(node_id, {})[verdict.value] = count
    return counts


def attachments_of_node(session: Session, node: Node) -> Sequence[tuple[Attachment, Network]]:
    """What a node should carry."""
    rows = session.execute(
        select(Attachment, Network)
        .join(Network, Network.id == Attachment.network_id)
        .where(Attachment.node_id == node.id)
        .order_by(Network.name, Network.id)
    )
    return [(attachment, network) for attachment, network in rows]


def attachments_of_network(
    session: Session, network: Network, limit: int
) -> Sequence[tuple[Attachment, Node]]:
    """Which nodes should carry a network."""
    rows = session.execute(
        select(Attachment, Node)
        .join(Node, Node.id == Attachment.node_id)
        .where(Attachment.network_id == network.id, Node.gone_at.is_(None))
        .order_by(Node.hostname, Node.id)
        .limit(limit)
    )
    return [(attachment, node) for attachment, node in rows]


def networks(
    session: Session, *, after: str | None = None, limit: int
) -> Sequence[tuple[Network, int]]:
    """Networks of the Swarm by name, each with the number of nodes that should carry it.

    Raises:
        UnknownCursorError: there never was a network `after`.
    """
    query = select(Network).where(Network.gone_at.is_(None))
    if after is not None:
        last = session.get(Network, after)
        if last is None:
            raise UnknownCursorError(f"after: no network has the id {after!r}")
        query = query.where(tuple_(Network.name, Network.id) > (last.name, last.id))
    page = session.scalars(query.order_by(Network.name, Network.id).limit(limit)).all()
    counts = carriers(session, page)
    return [(network, counts.get(network.id, 0)) for network in page]


def carriers(session: Session, networks: Sequence[Network]) -> dict[str, int]:
    """Network id to how many nodes should carry it."""
    rows = session.execute(
        select(Attachment.network_id, func.count())
        .where(Attachment.network_id.in_([network.id for network in networks]))
        .group_by(Attachment.network_id)
    )
    return {row[0]: row[1] for row in rows}


class DeviceKey(NamedTuple):
    """What tells one device from all others; also their order."""

    node_id: str
    netns: str
    ifindex: int


def devices(
    session: Session,
    *,
    node: Node | None = None,
    network: Network | None = None,
    verdict: Verdict | None = None,
    after: DeviceKey | None = None,
    limit: int,
) -> Sequence[tuple[Device, Node]]:
    """The devices that the last reports showed, node by node; those of a network have a VNI of it."""
    query = select(Device, Node).join(Node, Node.id == Device.node_id)
    if node is not None:
        query = query.where(Device.node_id == node.id)
    if network is not None:
        query = query.where(Device.vni.in_([row.vni for row in network.vnis]))
    if verdict is not None:
        query = query.where(Device.verdict == verdict)
    order = (Device.node_id, Device.netns, Device.ifindex)
    if after is not None:
        query = query.where(tuple_(*order) > after)
    rows = session.execute(query.order_by(*order).limit(limit))
    return [(device, owner) for device, owner in rows]


def runs(
    session: Session,
    *,
    node: Node | None = None,
    state: RunState | None = None,
    before: UUID | None = None,
    limit: int,
) -> Sequence[tuple[Run, Node]]:
    """The newest runs first.

    Raises:
        UnknownCursorError: there is no run `before` (any more).
    """
    query = select(Run, Node).join(Node, Node.id == Run.node_id)
    if node is not None:
        query = query.where(Run.node_id == node.id)
    if state is not None:
        query = query.where(Run.state == state)
    if before is not None:
        last = session.get(Run, before)
        if last is None:
            raise UnknownCursorError(f"before: no run has the id '{before}'")
        query = query.where(tuple_(Run.requested_at, Run.id) < (last.requested_at, last.id))
    rows = session.execute(query.order_by(Run.requested_at.desc(), Run.id.desc()).limit(limit))
    return [(run, owner) for run, owner in rows]
