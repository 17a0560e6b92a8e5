"""Storing what the Swarm says: nodes, networks, and which network belongs on which node.

Only answers that were read whole ever come here. A node's generation goes up when the set of networks
that it should carry changes, and not when only the reasons do: tasks come and go all day. A node is
always stored whole, in one transaction; many nodes in several, so that none is long.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.orm import Session

from controller.db.models import (
    Attachment,
    Cluster,
    DueNode,
    Network,
    NetworkVni,
    Node,
)
from controller.swarm.desired import Packed, Want
from controller.swarm.model import (
    UNREADABLE,
    Subnet,
    SwarmError,
    SwarmIdentity,
    SwarmNetwork,
    SwarmNode,
)
from controller.workqueue import queue
from controller.workqueue.priorities import Priority

CHANGED: Final = "SwarmChanged"
"""`SwarmError.reason` of a manager of another Swarm than the database is about."""

READY: Final = "ready"
"""The state of a node whose dockerd the managers hear of."""
_AT_ONCE: Final = 500
"""Ids in one statement."""


class Stored(NamedTuple):
    """What the database holds of a Swarm."""

    nodes: frozenset[str]
    """Not those that are gone; nor below."""
    networks: frozenset[str]
    attachments: int


def stored(session: Session) -> Stored:
    """Count what is stored, to compare a reading with."""
    return Stored(
        frozenset(session.scalars(select(Node.id).where(Node.gone_at.is_(None)))),
        frozenset(session.scalars(select(Network.id).where(Network.gone_at.is_(None)))),
        session.scalar(select(func.count()).select_from(Attachment)) or 0,
    )


def check_identity(session: Session, identity: SwarmIdentity) -> None:
    """Make sure that this is the database's Swarm.

    Raises:
        SwarmError: it is another one.
    """
    known = session.scalar(select(Cluster.swarm_id))
    if known is not None and known != identity.swarm_id:
        raise SwarmError(
            f"this database is about Swarm {known}, but the manager is of Swarm "
            f"{identity.swarm_id}: use a database of its own for each Swarm",
            CHANGED,
        )


def store_cluster(
    session: Session,
    identity: SwarmIdentity,
    now: datetime,
    *,
    seconds: float | None = None,
    share: float | None = None,
) -> None:
    """Record that the Swarm was read whole.

    Args:
        session: in which to write.
        identity: of the Swarm.
        now: the time of day.
        seconds: how long the manager was asked for it.
        share: of the time the manager was asked, lately.

    Raises:
        SwarmError: it is another Swarm than the database's; nothing was changed.
    """
    check_identity(session, identity)
    cluster = session.get(Cluster, 1)
    if cluster is None:
        cluster = Cluster(id=1, swarm_id=identity.swarm_id)
        session.add(cluster)
    cluster.data_path_port = identity.data_path_port
    cluster.synced_at = now
    cluster.sync_seconds = seconds
    cluster.sync_share = share
    cluster.sync_error = cluster.sync_error_at = cluster.sync_reason = None
    session.flush()


def note_failure(session: Session, problem: str, now: datetime, reason: str = UNREADABLE) -> None:
    """Record why the Swarm's state could not be read; desired state stays as it is."""
    session.execute(
        update(Cluster).values(sync_error=problem, sync_error_at=now, sync_reason=reason)
    )


def store_nodes(
    session: Session, nodes: Iterable[SwarmNode], now: datetime, *, whole: bool
) -> None:
    """Make the database know these nodes as they are; given the whole list, others are gone.

    A node that is new, back, or ready again is due at once, as is one whose labels changed.
    """
    known = {row.id: row for row in session.execute(_KNOWN_NODES)}
    seen, new, changes, woken = set(), [], [], defaultdict(list)
    for each in sorted(nodes, key=lambda node: node.id):  # the order in which everybody locks
        seen.add(each.id)
        values = {
            "hostname": each.hostname,
            "role": each.role,
            "availability": each.availability,
            "state": each.state,
            "address": each.address,
            "label_mode": each.mode,
            "label_ignore": each.ignore,
        }
        before = known.get(each.id)
        if before is None:
            new.append({"id": each.id, **values})
            continue
        if before.gone_at is None and all(
            getattr(before, name) == value for name, value in values.items()
        ):
            continue
        changes.append({"id": each.id, "gone_at": None, **values})
        if before.gone_at is not None:
            woken["the node is back"].append(each.id)
        elif each.state == READY != before.state:
            woken["the node is ready again"].append(each.id)
        if (before.label_mode, before.label_ignore) != (each.mode, each.ignore):
            woken["the node's labels changed"].append(each.id)
    if new:
        session.execute(insert(Node), new)
        session.execute(
            insert(DueNode),
            [
                {
                    "node_id": each["id"],
                    "due_at": now,
                    "priority": Priority.CHANGE,
                    "reasons": ["new node"],
                }
                for each in new
            ],
        )
    if changes:
        session.execute(update(Node), changes)
    if whole:
        gone = [id_ for id_, row in known.items() if id_ not in seen and row.gone_at is None]
        for ids in _portions(sorted(gone)):
            session.execute(update(Node).where(Node.id.in_(ids)).values(gone_at=now))
    for reason, ids in woken.items():
        _ask(session, ids, now, reason)


_KNOWN_NODES: Final = select(
    Node.id,
    Node.gone_at,
    Node.hostname,
    Node.role,
    Node.availability,
    Node.state,
    Node.address,
    Node.label_mode,
    Node.label_ignore,
)


def store_networks(
    session: Session, networks: Iterable[SwarmNetwork], now: datetime, *, whole: bool
) -> None:
    """Make the database know these networks as they are; given the whole list, others are gone.

    The nodes that should carry a network whose labels changed are due at once.
    """
    subnets: defaultdict[str, set[Subnet]] = defaultdict(set)
    for network_id, vni, cidr in session.execute(
        select(NetworkVni.network_id, NetworkVni.vni, NetworkVni.cidr)
    ):
        subnets[network_id].add(Subnet(vni, cidr))
    known = {
        row.id: row
        for row in session.execute(
            select(
                Network.id,
                Network.name,
                Network.ingress,
                Network.gone_at,
                Network.label_mode,
                Network.label_ignore,
            )
        )
    }
    seen, new, changes, numbered, labelled = set(), [], [], {}, []
    for each in networks:
        seen.add(each.id)
        values = {
            "id": each.id,
            "name": each.name,
            "ingress": each.ingress,
            "gone_at": None,
            "label_mode": each.mode,
            "label_ignore": each.ignore,
        }
        before = known.get(each.id)
        if before is None:
            new.append(values)
        else:
            if any(getattr(before, name) != value for name, value in values.items()):
                changes.append(values)
            if (before.label_mode, before.label_ignore) != (each.mode, each.ignore):
                labelled.append(each.id)
        if subnets[each.id] != set(each.subnets):
            numbered[each.id] = each.subnets
    if new:
        session.execute(insert(Network), new)
    for change in changes:
        session.execute(update(Network).where(Network.id == change.pop("id")).values(**change))
    if whole:
        gone = [id_ for id_, row in known.items() if id_ not in seen and row.gone_at is None]
        for ids in _portions(gone):
            session.execute(update(Network).where(Network.id.in_(ids)).values(gone_at=now))
    for ids in _portions(list(numbered)):
        session.execute(delete(NetworkVni).where(NetworkVni.network_id.in_(ids)))
    rows = [
        {"network_id": id_, **subnet._asdict()} for id_, each in numbered.items() for subnet in each
    ]
    if rows:
        session.execute(insert(NetworkVni), rows)
    if labelled:
        carriers = session.scalars(
            select(Attachment.node_id).where(Attachment.network_id.in_(labelled)).distinct()
        ).all()
        _ask(session, carriers, now, "a network's labels changed")


def differing(session: Session, wanted: Mapping[str, Packed]) -> list[str]:
    """Which of these nodes are stored with other wants than these, or with nobody knows which."""
    digests: dict[str, str | None] = {}
    for ids in _portions(list(wanted)):
        digests.update(
            session.execute(select(Node.id, Node.desired_digest).where(Node.id.in_(ids))).all()
        )
    return [node for node, digest in digests.items() if digest != wanted[node].digest]


def store_wants(session: Session, wanted: Mapping[str, Packed], now: datetime) -> frozenset[str]:
    """Make the database say what these nodes should carry; return those whose generation went up.

    Only rows of nodes that differ are read. The networks are stored already.
    """
    ids = sorted(differing(session, wanted))  # the order in which everybody locks
    if not ids:
        return frozenset()
    before: dict[str, dict[str, Want]] = {node: {} for node in ids}
    for portion in _portions(ids):
        for node, network, reasons, running in session.execute(
            select(
                Attachment.node_id, Attachment.network_id, Attachment.reasons, Attachment.running
            ).where(Attachment.node_id.in_(portion))
        ):
            before[node][network] = Want(reasons, running)
    added, updated, changed = [], [], set()
    for node in ids:
        after = dict(wanted[node].unpack())
        if before[node].keys() != after.keys():
            changed.add(node)
        lost = before[node].keys() - after.keys()
        if lost:
            session.execute(
                delete(Attachment).where(
                    Attachment.node_id == node, Attachment.network_id.in_(lost)
                )
            )
        for network, want in after.items():
            if network not in before[node]:
                added.append({"node_id": node, "network_id": network, **want._asdict()})
            elif before[node][network] != want:
                updated.append({"node": node, "network": network, **want._asdict()})
    if added:
        session.connection().execute(_INSERT_WANT, added)
    if updated:
        session.connection().execute(_UPDATE_WANT, updated)
    session.execute(
        update(Node), [{"id": node, "desired_digest": wanted[node].digest} for node in ids]
    )
    for portion in _portions(sorted(changed)):
        session.execute(
            update(Node).where(Node.id.in_(portion)).values(generation=Node.generation + 1)
        )
        _ask(session, portion, now, "desired state changed")
    return frozenset(changed)


# Without the ORM, which takes as long again for rows by the ten thousand.
_INSERT_WANT: Final = insert(Attachment.__table__)  # type: ignore[arg-type] # a Table, as mapped here
_UPDATE_WANT: Final = (
    update(Attachment.__table__)  # type: ignore[arg-type] # a Table, as mapped here
    .where(Attachment.node_id == bindparam("node"), Attachment.network_id == bindparam("network"))
    .values(reasons=bindparam("reasons"), running=bindparam("running"))
)


def _ask(session: Session, nodes: Collection[str], now: datetime, reason: str) -> None:
    for ids in _portions(sorted(nodes)):
        queue.request(session, ids, at=now, priority=Priority.CHANGE, reason=reason)


def _portions(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    for begin in range(0, len(ids), _AT_ONCE):
        yield ids[begin : begin + _AT_ONCE]
