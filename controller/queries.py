"""What people ask, answered from the database; each answer is one moment's."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from controller.models import Attachment, AuditRow, Cluster, Device, Lease, Network, Node, Run


class UnknownNodeError(Exception):
    """No node of the Swarm is meant by what was given."""


class AmbiguousNodeError(Exception):
    """Several nodes could be meant by what was given."""


class UnknownNetworkError(Exception):
    """No network of the Swarm is meant by what was given."""


class AmbiguousNetworkError(Exception):
    """Several networks could be meant by what was given."""


class NoClusterError(Exception):
    """The Swarm has not been read yet."""


def find_node(session: Session, given: str) -> Node:
    """The node with this id, unique id prefix or hostname.

    Raises:
        UnknownNodeError: there is none.
        AmbiguousNodeError: there are several.
    """
    unknown = UnknownNodeError(f"no node has the id, id prefix or hostname {given!r}")
    if not given or "\0" in given:  # which PostgreSQL cannot even compare with
        raise unknown
    nodes = select(Node).where(Node.gone_at.is_(None)).options(joinedload(Node.due))
    exact = session.scalar(nodes.where(Node.id == given))
    if exact is not None:
        return exact
    matches = session.scalars(
        # Not LIKE, which ignores case on SQLite.
        nodes.where(
            (Node.hostname == given) | (func.substr(Node.id, 1, len(given)) == given)
        ).limit(5)
    ).all()
    if not matches:
        raise unknown
    if len(matches) > 1:
        names = ", ".join(f"{node.hostname} ({node.id})" for node in matches)
        raise AmbiguousNodeError(f"{given!r} could mean {names}")
    return matches[0]


def maybe_node(session: Session, given: str | None) -> Node | None:
    """The node that is meant, or None where none is given; raises as `find_node` does."""
    return None if given is None else find_node(session, given)


def find_network(session: Session, given: str) -> Network:
    """The network with this id, unique id prefix or name.

    Raises:
        UnknownNetworkError: there is none.
        AmbiguousNetworkError: there are several: Swarm lets networks share a name.
    """
    unknown = UnknownNetworkError(f"no network has the id, id prefix or name {given!r}")
    if not given or "\0" in given:
        raise unknown
    networks = select(Network).where(Network.gone_at.is_(None))
    exact = session.scalar(networks.where(Network.id == given))
    if exact is not None:
        return exact
    matches = session.scalars(
        networks.where((Network.name == given) | (func.substr(Network.id, 1, len(given)) == given))
        .order_by(Network.id)
        .limit(5)
    ).all()
    if not matches:
        raise unknown
    if len(matches) > 1:
        names = ", ".join(f"{network.name} ({network.id})" for network in matches)
        raise AmbiguousNetworkError(f"{given!r} could mean {names}")
    return matches[0]


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
    """The controller that led last, and still does as far as is known."""
    lease = session.scalar(select(Lease))
    return None if lease is None else lease.holder or None


def nodes(session: Session) -> Sequence[Node]:
    """The nodes of the Swarm."""
    return session.scalars(
        select(Node)
        .where(Node.gone_at.is_(None))
        .options(joinedload(Node.due))
        .order_by(Node.hostname, Node.id)
    ).all()


def verdicts(session: Session) -> dict[str, dict[str, int]]:
    """Node id to how many of its devices have which verdict."""
    counts: dict[str, dict[str, int]] = {}
    for node_id, verdict, count in session.execute(
        select(Device.node_id, Device.verdict, func.count()).group_by(
            Device.node_id, Device.verdict
        )
    ):
        counts.setdefault(node_id, {})[verdict.value] = count
    return counts


def networks(session: Session) -> Sequence[tuple[Network, int]]:
    """The networks of the Swarm, each with the number of nodes that should carry it."""
    carrying = (
        select(Attachment.network_id, func.count().label("nodes"))
        .group_by(Attachment.network_id)
        .subquery()
    )
    rows = session.execute(
        select(Network, func.coalesce(carrying.c.nodes, 0))
        .outerjoin(carrying, carrying.c.network_id == Network.id)
        .where(Network.gone_at.is_(None))
        .order_by(Network.name, Network.id)
    )
    return [(network, count) for network, count in rows]


def devices(session: Session, node: Node | None, limit: int) -> Sequence[tuple[Device, Node]]:
    """The devices that the last reports showed."""
    query = select(Device, Node).join(Node, Node.id == Device.node_id)
    if node is not None:
        query = query.where(Device.node_id == node.id)
    rows = session.execute(query.order_by(Node.hostname, Device.place, Device.ifindex).limit(limit))
    return [(device, owner) for device, owner in rows]


def runs(session: Session, node: Node | None, limit: int) -> Sequence[tuple[Run, Node]]:
    """The newest runs first."""
    query = select(Run, Node).join(Node, Node.id == Run.node_id)
    if node is not None:
        query = query.where(Run.node_id == node.id)
    rows = session.execute(query.order_by(Run.requested_at.desc(), Run.id).limit(limit))
    return [(run, owner) for run, owner in rows]


def audit(
    session: Session, *, node: Node | None, before: int | None, limit: int
) -> Sequence[AuditRow]:
    """The newest rows first; `before` is the id of the last row of the page before."""
    query = select(AuditRow)
    if node is not None:
        query = query.where(AuditRow.node_id == node.id)
    if before is not None:
        query = query.where(AuditRow.id < before)
    return session.scalars(query.order_by(AuditRow.id.desc()).limit(limit)).all()
