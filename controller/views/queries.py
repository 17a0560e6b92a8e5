"""Questions about the cluster, nodes, networks, devices and runs, answered from the database."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Select, case, false, func, select, true, tuple_
from sqlalchemy.orm import Session, joinedload, undefer

from contract.verdicts import Verdict
from controller.conditions.age import Age
from controller.conditions.model import Reason, Status, Type
from controller.db.lookup import UnknownError
from controller.db.models import Attachment, Cluster, Device, Lease, Network, Node, Requeue, Run
from controller.db.states import RunState
from controller.safety.suppressed import DeviceKey


def _of_condition(type_: Type, field: str) -> Any:
    return Node.conditions[(type_.value, field)].as_string()


_READY_STATUS: Final = _of_condition(Type.READY, "status")
_READY_REASON: Final = _of_condition(Type.READY, "reason")
_LEFT: Final = case(
    *(
        (_of_condition(type_, "status") != Status.FALSE.value, _of_condition(type_, "reason"))
        for type_ in (Type.DEGRADED, Type.STALLED, Type.PAUSED)
    )
)
"""The reason of the first condition of a node that should be False and is not; NULL: all are."""
_NEVER_DERIVED: Final = "NotJudgedYet"


class NoClusterError(Exception):
    """The Swarm has not been read yet."""


class NameKey(NamedTuple):
    """The sort key of nodes and networks."""

    name: str
    id: str


class RunKey(NamedTuple):
    """The sort key of runs."""

    requested_at: datetime
    id: UUID


def known_cluster(session: Session) -> Cluster:
    """Return the Swarm, or raise NoClusterError."""
    found = session.get(Cluster, 1)
    if found is None:
        raise NoClusterError("the Swarm has not been read yet")
    return found


def age(cluster: Cluster | None) -> Age:
    """Return when the stored conditions of everything were last derived."""
    if cluster is None:
        return Age(None, None)
    return Age(cluster.conditions_at, cluster.conditions_until)


def leader(session: Session) -> str | None:
    """Return the controller that leads; None: none does."""
    # By the clock that wrote the lease's expiry (see `controller.leadership.lease`).
    postgresql = session.get_bind().dialect.name == "postgresql"
    now = func.clock_timestamp() if postgresql else datetime.now(UTC)
    # A lease that was given back keeps its holder, and has expired long ago.
    return session.scalar(select(Lease.holder).where(Lease.holder != "", Lease.expires_at > now))


def requeue(session: Session, token: str) -> Requeue:
    """Return the requeue with a token, or raise UnknownError."""
    found = session.get(Requeue, token)
    if found is None:
        raise UnknownError(
            f"no request has the token {token!r}", "requests are kept as long as the run history"
        )
    return found


def nodes(
    session: Session,
    *,
    after: NameKey | None = None,
    ready: Status | None = None,
    stale: bool = False,
    limit: int,
) -> Sequence[Node]:
    """Return nodes of the Swarm by hostname, only those after `after`.

    Args:
        ready: only nodes with this status of `Ready`; None: all.
        stale: whether the stored conditions are, so that all are Unknown.
    """
    query = nodes_query(ready, stale=stale).options(joinedload(Node.due))
    if after is not None:
        query = query.where(tuple_(Node.hostname, Node.id) > after)
    return session.scalars(query.order_by(Node.hostname, Node.id).limit(limit)).all()


def nodes_query(ready: Status | None = None, *, stale: bool = False) -> Select[Node]:
    """Return the query of nodes of the Swarm; the arguments are those of `nodes`."""
    query = select(Node).where(Node.gone_at.is_(None))
    if ready is not None and stale:
        return query.where(true() if ready is Status.UNKNOWN else false())
    return query if ready is None else query.where(ready.value == _READY_STATUS)


class NodeReady(NamedTuple):
    """The condition `Ready` of a node, as stored, and what is left although it is ready."""

    id: str
    hostname: str
    status: str
    reason: str
    left: str | None
    """Why a node that is ready is degraded, stalled or paused; None: it is not, or is not ready."""


def ready_of_all(session: Session) -> Sequence[NodeReady]:
    """Return the stored condition `Ready` of every node of the Swarm, by hostname.

    Once for the count and the order of the nodes: PostgreSQL parses the conditions of every node for it.
    """
    status = func.coalesce(_READY_STATUS, Status.UNKNOWN.value)
    reason = func.coalesce(_READY_REASON, _NEVER_DERIVED)
    left = case((status == Status.TRUE.value, _LEFT))
    query = nodes_query().with_only_columns(Node.id, Node.hostname, status, reason, left)
    rows = session.execute(query.order_by(Node.hostname, Node.id))
    return [NodeReady(*row) for row in rows]


def worst_first(session: Session, found: Sequence[NodeReady], limit: int) -> Sequence[Node]:
    """Return at most `limit` of these nodes: not ready, then ready with something left, then the others."""
    ordered = sorted(found, key=lambda node: (node.status == Status.TRUE.value, node.left is None))
    ids = [node.id for node in ordered[:limit]]
    query = nodes_query().options(joinedload(Node.due)).where(Node.id.in_(ids))
    rows = {node.id: node for node in session.scalars(query)}
    return [rows[id_] for id_ in ids if id_ in rows]


def readiness(
    found: Sequence[NodeReady], *, stale: bool = False
) -> Mapping[str, Mapping[str, int]]:
    """Return the number of nodes by status and reason of the condition `Ready`.

    Args:
        stale: whether the stored conditions are, so that all are Unknown.
    """
    counts: dict[str, dict[str, int]] = {}
    for (status, reason), count in Counter((node.status, node.reason) for node in found).items():
        counts.setdefault(status, {})[reason] = count
    if stale and counts:
        new = counts.get(Status.UNKNOWN.value, {}).get(_NEVER_DERIVED, 0)
        known = sum(sum(causes.values()) for causes in counts.values()) - new
        both = {_NEVER_DERIVED: new, Reason.CONDITIONS_STALE.value: known}
        return {Status.UNKNOWN.value: {cause: count for cause, count in both.items() if count}}
    return counts


def left_on_ready(found: Sequence[NodeReady], *, stale: bool = False) -> Mapping[str, int]:
    """Return the number of nodes that are ready and on which something is left, by its reason.

    Args:
        stale: whether the stored conditions are, so that no node is known to be ready.
    """
    return {} if stale else Counter(node.left for node in found if node.left is not None)


def oldest_look(session: Session) -> datetime | None:
    """Return when the node was looked at that nobody has looked at for longest; None: no node yet.

    Without the nodes of which nobody expects it: that are down, paused, or taken out by a label; and without
    those that were never looked at.
    """
    query = select(func.min(Node.worker_seen_at)).where(
        Node.gone_at.is_(None),
        Node.label_ignore.is_(False),
        Node.paused_at.is_(None),
        Node.state != "down",
    )
    return session.scalar(query)


def worker_versions(session: Session) -> Sequence[tuple[str | None, int]]:
    """Return the number of nodes by the version of their worker, the most frequent first."""
    count = func.count()
    query = select(Node.worker_version, count).where(Node.gone_at.is_(None))
    by_version = query.group_by(Node.worker_version).order_by(count.desc(), Node.worker_version)
    return session.execute(by_version).all()


def shared_hostnames(session: Session, hostnames: Iterable[str], *, gone: bool = False) -> set[str]:
    """Return those of these hostnames that several nodes of the Swarm have; with `gone`, or had."""
    query = (
        select(Node.hostname)
        .where(Node.hostname.in_({*hostnames}), true() if gone else Node.gone_at.is_(None))
        .group_by(Node.hostname)
        .having(func.count() > 1)
    )
    return set(session.scalars(query))


def last_errors(session: Session, nodes: Sequence[Node]) -> dict[UUID, str | None]:
    """Return the errors of the nodes' last runs, by run id."""
    ids = [node.last_run_id for node in nodes if node.last_run_id is not None]
    query = select(Run.id, Run.error).where(Run.id.in_(ids))
    return dict(session.execute(query).all())


def verdicts(session: Session, nodes: Sequence[Node]) -> dict[str, dict[str, int]]:
    """Return the number of devices by node id and verdict."""
    counts: dict[str, dict[str, int]] = {}
    for node_id, verdict, count in session.execute(
        select(Device.node_id, Device.verdict, func.count())
        .where(Device.node_id.in_([node.id for node in nodes]))
        .group_by(Device.node_id, Device.verdict)
    ):
        counts.setdefault(node_id, {})[verdict.value] = count
    return counts


def attachments_of_node(session: Session, node: Node) -> Sequence[tuple[Attachment, Network]]:
    """Return the networks that a node should have."""
    query = (
        select(Attachment, Network)
        .join(Network, Network.id == Attachment.network_id)
        .where(Attachment.node_id == node.id)
        .order_by(Network.name, Network.id)
    )
    return session.execute(query).all()


def attachments_of_network(
    session: Session, network: Network, limit: int
) -> Sequence[tuple[Attachment, Node]]:
    """Return the nodes that should have a network."""
    query = (
        select(Attachment, Node)
        .join(Node, Node.id == Attachment.node_id)
        .where(Attachment.network_id == network.id, Node.gone_at.is_(None))
        .order_by(Node.hostname, Node.id)
        .limit(limit)
    )
    return session.execute(query).all()


def networks(session: Session, *, after: NameKey | None = None, limit: int) -> Sequence[Network]:
    """Return networks of the Swarm by name, only those after `after`."""
    query = select(Network).where(Network.gone_at.is_(None))
    if after is not None:
        query = query.where(tuple_(Network.name, Network.id) > after)
    return session.scalars(query.order_by(Network.name, Network.id).limit(limit)).all()


def carriers(session: Session, networks: Sequence[Network]) -> dict[str, int]:
    """Return the number of nodes that should have a network, by network id."""
    query = (
        select(Attachment.network_id, func.count())
        .join(Node, Node.id == Attachment.node_id)
        .where(
            Node.gone_at.is_(None), Attachment.network_id.in_([network.id for network in networks])
        )
        .group_by(Attachment.network_id)
    )
    return dict(session.execute(query).all())


def devices(
    session: Session,
    *,
    node: Node | None = None,
    network: Network | None = None,
    verdict: Verdict | None = None,
    after: DeviceKey | None = None,
    limit: int,
) -> Sequence[tuple[Device, Node]]:
    """Return devices of the last reports of the Swarm's nodes, node by node.

    Those of a network have one of its VNIs.
    """
    query = devices_query(node, network, verdict)
    order = (Device.node_id, Device.netns, Device.ifindex)
    if after is not None:
        query = query.where(tuple_(*order) > after)
    return session.execute(query.order_by(*order).limit(limit)).all()


def devices_query(
    node: Node | None, network: Network | None, verdict: Verdict | None
) -> Select[Device, Node]:
    """Return the query of devices, with their nodes; None: of any node or network, with any verdict."""
    query = (
        select(Device, Node)
        .join(Node, Node.id == Device.node_id)
        .where(Node.gone_at.is_(None))
        .options(undefer(Device.network_name))
    )
    if node is not None:
        query = query.where(Device.node_id == node.id)
    if network is not None:
        query = query.where(Device.vni.in_([row.vni for row in network.vnis]))
    return query if verdict is None else query.where(Device.verdict == verdict)


def runs(
    session: Session,
    *,
    node: Node | None = None,
    state: RunState | None = None,
    before: RunKey | None = None,
    limit: int,
) -> Sequence[tuple[Run, Node]]:
    """Return runs of nodes of the Swarm, the newest first; only those requested before `before`."""
    query = runs_query(node, state)
    if before is not None:
        query = query.where(tuple_(Run.requested_at, Run.id) < before)
    newest_first = query.order_by(Run.requested_at.desc(), Run.id.desc())
    return session.execute(newest_first.limit(limit)).all()


def runs_query(node: Node | None, state: RunState | None) -> Select[Run, Node]:
    """Return the query of runs, with their nodes; None: of any node, in any state."""
    query = select(Run, Node).join(Node, Node.id == Run.node_id).where(Node.gone_at.is_(None))
    if node is not None:
        query = query.where(Run.node_id == node.id)
    return query if state is None else query.where(Run.state == state)
