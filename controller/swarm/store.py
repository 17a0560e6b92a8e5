"""Stores the Swarm: nodes, networks, and desired state.

Only complete answers get here. A node's generation goes up when its set of networks changes, not when only
the reasons do: tasks come and go all day. A node is stored in one transaction; many nodes in several,
so that none is long.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, TypeVar

import structlog
from sqlalchemy import Row, bindparam, delete, insert, select, update
from sqlalchemy.orm import Session

from controller.conditions.model import Reason
from controller.db.engine import Database
from controller.db.models import Attachment, Cluster, DueNode, Network, NetworkVni, Node
from controller.swarm.desired import DesiredAttachment, DesiredState
from controller.swarm.model import READY, Subnet, SwarmError, SwarmIdentity, SwarmNetwork, SwarmNode
from controller.workqueue import queue
from controller.workqueue.priorities import Priority

log = structlog.get_logger(__name__)

_MAX_IDS: Final = 500
"""In one statement."""
_MAX_NODES: Final = 200
"""In one transaction."""

_SWARM: Final = select(Cluster.swarm_id)

T = TypeVar("T")


def check_identity(session: Session, identity: SwarmIdentity) -> None:
    """Raise a SwarmError if the database belongs to another Swarm."""
    known = session.scalar(_SWARM)
    if known is not None and known != identity.swarm_id:
        raise SwarmError(
            f"this database is about Swarm {known}, but the manager is of Swarm "
            f"{identity.swarm_id}: use a database of its own for each Swarm",
            Reason.SWARM_CHANGED,
        )


def store_cluster(
    session: Session,
    identity: SwarmIdentity,
    now: datetime,
    *,
    seconds: float | None = None,
    share: float | None = None,
    managers: tuple[str | None, str | None] = (None, None),
) -> bool:
    """Record a full reading.

    Args:
        seconds: for which it kept the manager busy.
        share: of the last minutes.
        managers: of several, the one that was asked, and the problems of the others.

    Returns:
        Whether more changed than when it was, and how long it took.
    """
    check_identity(session, identity)
    reading = {"synced_at": now, "sync_seconds": seconds, "sync_share": share}
    asked = dict(zip(("sync_manager", "managers_away"), managers, strict=True))
    no_failure = dict.fromkeys(("sync_error", "sync_error_at", "sync_reason"))
    lasting = {**identity._asdict(), **asked, **no_failure}
    row = session.get(Cluster, 1)
    if row is None:
        session.add(Cluster(id=1, **lasting, **reading))
        return True
    changed = any(getattr(row, name) != value for name, value in lasting.items())
    for name, value in (lasting | reading).items():
        setattr(row, name, value)
    return changed


def note_failure(
    session: Session, problem: str, now: datetime, reason: Reason = Reason.SWARM_UNREADABLE
) -> None:
    """Record why the Swarm could not be read; desired state stays as it is."""
    session.execute(
        update(Cluster).values(sync_error=problem, sync_error_at=now, sync_reason=reason)
    )


def store_nodes(
    session: Session, nodes: Iterable[SwarmNode], now: datetime, *, whole: bool
) -> None:
    """Store these nodes; of the whole list, mark all others as gone.

    A node is due at once if it is new, back, or ready again, or if its labels changed.
    """
    new, labelled, due = [], [], defaultdict(list)
    for before, after in _upsert(session, Node, _NODE_COLUMNS, nodes, now, whole=whole):
        if before is None:
            new.append(after["id"])
        elif before.gone_at is not None:
            due["the node is back"].append(after["id"])
        elif after["state"] == READY != before.state:
            due["the node is ready again"].append(after["id"])
        if before is not None and _labels_changed(before, after):
            labelled.append(after["id"])
    if new:
        at = {"due_at": now, "priority": Priority.CHANGE, "reasons": ["new node"]}
        session.execute(insert(DueNode), [{"node_id": id_, **at} for id_ in new])
    for reason, ids in due.items():
        _request(session, ids, now, reason)
    # One of them may say that the node is to be left alone: its worker hears of that.
    _request(session, labelled, now, "the node's labels changed", despite_pause=True)


def store_networks(
    session: Session, networks: Sequence[SwarmNetwork], now: datetime, *, whole: bool
) -> None:
    """Store these networks; of the whole list, mark all others as gone.

    If the labels of a network changed, the nodes that should carry it are due at once.
    """
    changes = _upsert(session, Network, _NETWORK_COLUMNS, networks, now, whole=whole)
    changed = _with_other_subnets(session, networks)
    for batch in batches(changed, _MAX_IDS):
        ids = [network.id for network in batch]
        session.execute(delete(NetworkVni).where(NetworkVni.network_id.in_(ids)))
    rows = [{"network_id": net.id, **subnet._asdict()} for net in changed for subnet in net.subnets]
    if rows:
        session.execute(insert(NetworkVni), rows)
    if labelled := [
        after["id"] for before, after in changes if before and _labels_changed(before, after)
    ]:
        nodes = select(Attachment.node_id).where(Attachment.network_id.in_(labelled)).distinct()
        _request(session, session.scalars(nodes).all(), now, "a network's labels changed")


def is_news(
    session: Session, nodes: Collection[SwarmNode], networks: Sequence[SwarmNetwork]
) -> bool:
    """Whether storing these nodes and networks as the whole lists would change anything."""
    lists: tuple[tuple[type[Node | Network], Sequence[str], Iterable[Any]], ...] = (
        (Node, _NODE_COLUMNS, nodes),
        (Network, _NETWORK_COLUMNS, networks),
    )
    for model, names, values in lists:
        changes, gone = _compare(session, model, names, values)
        if changes or gone:
            return True
    return bool(_with_other_subnets(session, networks))


def _with_other_subnets(
    session: Session, networks: Sequence[SwarmNetwork]
) -> Sequence[SwarmNetwork]:
    """Return the networks that are stored with other subnets."""
    subnets: defaultdict[str, set[Subnet]] = defaultdict(set)
    for row in session.execute(_SUBNETS):
        subnets[row.network_id].add(Subnet(row.vni, row.cidr))
    return [network for network in networks if subnets[network.id] != set(network.subnets)]


_SUBNETS: Final = select(NetworkVni.network_id, NetworkVni.vni, NetworkVni.cidr)
_LABELS: Final = ("label_mode", "label_ignore")
_NODE_COLUMNS: Final = ("id", "hostname", "role", "availability", "state", "address", *_LABELS)
_NETWORK_COLUMNS: Final = ("id", "name", "ingress", *_LABELS)


_Change = tuple[Row[Any] | None, dict[str, Any]]
"""The row before (None: new), and the columns after."""


def _compare(
    session: Session,
    model: type[Node | Network],
    names: Sequence[str],
    values: Iterable[SwarmNode | SwarmNetwork],
) -> tuple[Sequence[_Change], Sequence[str]]:
    """Compare rows by these columns with a list; return the changes, and the ids that it lacks."""
    columns = (*names, "gone_at")
    columns_of = attrgetter(*names)
    after = {value.id: (*columns_of(value), None) for value in values}
    query = select(*(getattr(model, name) for name in columns))
    known = {row.id: row for row in session.execute(query)}
    changes = [
        (known.get(id_), dict(zip(columns, after[id_], strict=True)))
        for id_ in sorted(after)  # locks are taken in the order of ids
        if id_ not in known or tuple(known[id_]) != after[id_]
    ]
    return changes, sorted(
        id_ for id_, row in known.items() if id_ not in after and row.gone_at is None
    )


def _upsert(
    session: Session,
    model: type[Node | Network],
    names: Sequence[str],
    values: Iterable[SwarmNode | SwarmNetwork],
    now: datetime,
    *,
    whole: bool,
) -> Sequence[_Change]:
    """Insert and update rows by these columns, and mark those that are not listed as gone."""
    changes, gone = _compare(session, model, names, values)
    if new := [value for before, value in changes if before is None]:
        session.execute(insert(model), new)
    if updated := [value for before, value in changes if before is not None]:
        session.execute(update(model), updated)
    if whole:
        for ids in batches(gone, _MAX_IDS):
            session.execute(update(model).where(model.id.in_(ids)).values(gone_at=now))
    return changes


def _labels_changed(before: Row[Any], after: Mapping[str, Any]) -> bool:
    return any(getattr(before, name) != after[name] for name in _LABELS)


def store_desired(
    database: Database, desired: DesiredState, utcnow: Callable[[], datetime]
) -> None:
    """Store desired state in as many transactions as it takes; the networks are stored already."""
    with database.read() as session:
        ids = differing(session, desired)
    changed = 0
    for batch in batches(ids, _MAX_NODES):
        with database.write() as session:
            part = {node: desired[node] for node in batch}
            changed += len(store_attachments(session, part, utcnow()))
    if changed:
        log.info("desired state changed", nodes=changed)


def differing(session: Session, desired: DesiredState) -> list[str]:
    """The ids of the nodes that are stored with another desired state, or an unknown one."""
    digests: dict[str, str | None] = {}
    for ids in batches(list(desired), _MAX_IDS):
        query = select(Node.id, Node.desired_digest).where(Node.id.in_(ids))
        digests.update(session.execute(query).all())
    return [node for node, digest in digests.items() if digest != desired[node].digest]


def store_attachments(session: Session, desired: DesiredState, now: datetime) -> frozenset[str]:
    """Store desired state in one transaction; return the nodes whose generation went up."""
    ids = sorted(differing(session, desired))  # locks are taken in the order of ids
    if not ids:
        return frozenset()
    before: dict[str, dict[str, DesiredAttachment]] = {node: {} for node in ids}
    columns = Attachment.node_id, Attachment.network_id, Attachment.reasons, Attachment.running
    for batch in batches(ids, _MAX_IDS):
        query = select(*columns).where(Attachment.node_id.in_(batch))
        for node, network, reasons, running in session.execute(query):
            before[node][network] = DesiredAttachment(reasons, running)
    added, updated, changed = [], [], set()
    for node in ids:
        after = dict(desired[node].unpack())
        if before[node].keys() != after.keys():
            changed.add(node)
        if lost := before[node].keys() - after.keys():
            is_lost = Attachment.node_id == node, Attachment.network_id.in_(lost)
            session.execute(delete(Attachment).where(*is_lost))
        for network, attachment in after.items():
            if network not in before[node]:
                added.append({"node_id": node, "network_id": network, **attachment._asdict()})
            elif before[node][network] != attachment:
                updated.append({"node": node, "network": network, **attachment._asdict()})
    if added:
        session.connection().execute(_INSERT_ATTACHMENT, added)
    if updated:
        session.connection().execute(_UPDATE_ATTACHMENT, updated)
    digests = [{"id": node, "desired_digest": desired[node].digest} for node in ids]
    session.execute(update(Node), digests)
    for batch in batches(sorted(changed), _MAX_IDS):
        raised = update(Node).where(Node.id.in_(batch)).values(generation=Node.generation + 1)
        session.execute(raised)
        _request(session, batch, now, "desired state changed")
    return frozenset(changed)


# Without the ORM, which takes as long again for rows by the ten thousand.
_INSERT_ATTACHMENT: Final = insert(Attachment.__table__)  # type: ignore[arg-type] # a Table, as mapped here
_UPDATE_ATTACHMENT: Final = (
    update(Attachment.__table__)  # type: ignore[arg-type] # a Table, as mapped here
    .where(Attachment.node_id == bindparam("node"), Attachment.network_id == bindparam("network"))
    .values(reasons=bindparam("reasons"), running=bindparam("running"))
)


def batches(items: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    """Parts of a sequence, of at most `size` items."""
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def _request(
    session: Session,
    nodes: Collection[str],
    now: datetime,
    reason: str,
    *,
    despite_pause: bool = False,
) -> None:
    for ids in batches(sorted(nodes), _MAX_IDS):
        queue.request(
            session,
            ids,
            at=now,
            priority=Priority.CHANGE,
            reason=reason,
            despite_pause=despite_pause,
        )
