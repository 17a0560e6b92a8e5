"""Desired state: which networks each node should carry, from a snapshot of the Swarm, and storing it.

Only a snapshot that was read whole ever comes here. A node's generation goes up when the set of
networks that it should carry changes, and not when only the reasons do: tasks come and go all day.
"""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from controller import due
from controller.models import Attachment, Cluster, DueNode, Network, NetworkVni, Node
from controller.states import Priority
from controller.swarm import Snapshot, SwarmError

INGRESS_REASON: Final = "ingress"
_MOST_REASONS: Final = 20


class Want(NamedTuple):
    """Why a node should carry a network, and whether it must be carrying it by now."""

    reasons: list[str]
    running: bool
    """A task of it runs on the node, as the Swarm knows."""


Desired = Mapping[str, Mapping[str, Want]]
"""Node id to network id to what is wanted."""


def desired_state(snapshot: Snapshot) -> Desired:
    """Which networks each node should carry, and why. Pure.

    The ingress network belongs on every node. A task that is to run, or runs, needs its networks on
    its node; so does a `docker run` container that is attached to one.
    """
    networks = {network.id for network in snapshot.networks}
    ingress = [network.id for network in snapshot.networks if network.ingress]
    wanted = {
        node.id: {network: Want([INGRESS_REASON], running=False) for network in ingress}
        for node in snapshot.nodes
    }
    for task in sorted(snapshot.tasks, key=lambda each: each.id):
        if not task.wanted or task.node_id not in wanted:
            continue
        # The lists are not read at one moment: what is missing in one is there the next time.
        for network in networks.intersection(task.networks):
            want = wanted[task.node_id].get(network, Want([], running=False))
            reason = f"{'container' if task.attachment else 'task'} {task.id}"
            wanted[task.node_id][network] = Want(
                [*want.reasons, reason], want.running or task.running
            )
    return {
        node: {network: Want(_bounded(want.reasons), want.running) for network, want in its.items()}
        for node, its in wanted.items()
    }


def store(session: Session, snapshot: Snapshot, now: datetime) -> frozenset[str]:
    """Make the database say what the snapshot says; return the nodes whose generation went up.

    Raises:
        SwarmError: the snapshot is of another Swarm; nothing was changed.
    """
    _store_cluster(session, snapshot, now)
    _store_nodes(session, snapshot, now)
    _store_networks(session, snapshot, now)
    changed = _store_attachments(session, desired_state(snapshot))
    if changed:
        session.execute(
            update(Node).where(Node.id.in_(changed)).values(generation=Node.generation + 1)
        )
        due.request(
            session, changed, at=now, priority=Priority.CHANGE, reason="desired state changed"
        )
    return changed


def note_failure(session: Session, problem: str, now: datetime) -> None:
    """Record why the Swarm's state could not be read; desired state stays as it is."""
    session.execute(update(Cluster).values(sync_error=problem, sync_error_at=now))


def _bounded(reasons: list[str]) -> list[str]:
    extra = len(reasons) - _MOST_REASONS
    return reasons if extra <= 0 else [*reasons[:_MOST_REASONS], f"and {extra} more"]


def _store_cluster(session: Session, snapshot: Snapshot, now: datetime) -> None:
    cluster = session.get(Cluster, 1)
    if cluster is None:
        cluster = Cluster(id=1, swarm_id=snapshot.swarm_id)
        session.add(cluster)
    elif cluster.swarm_id != snapshot.swarm_id:
        raise SwarmError(
            f"this database is about Swarm {cluster.swarm_id}, but the manager is of Swarm "
            f"{snapshot.swarm_id}: use a database of its own for each Swarm"
        )
    cluster.data_path_port = snapshot.data_path_port
    cluster.synced_at = now
    cluster.sync_error = None
    cluster.sync_error_at = None


def _store_nodes(session: Session, snapshot: Snapshot, now: datetime) -> None:
    stored = {node.id: node for node in session.scalars(select(Node))}
    for each in snapshot.nodes:
        node = stored.pop(each.id, None)
        if node is None:
            node = Node(id=each.id)
            node.due = DueNode(due_at=now, priority=Priority.CHANGE, reasons=["new node"])
            session.add(node)
        node.hostname = each.hostname
        node.role = each.role
        node.availability = each.availability
        node.state = each.state
        node.address = each.address
        node.gone_at = None
    for node in stored.values():
        if node.gone_at is None:
            node.gone_at = now
    session.flush()


def _store_networks(session: Session, snapshot: Snapshot, now: datetime) -> None:
    stored = {network.id: network for network in session.scalars(select(Network))}
    for each in snapshot.networks:
        network = stored.pop(each.id, None)
        if network is None:
            network = Network(id=each.id)
            session.add(network)
        network.name = each.name
        network.ingress = each.ingress
        network.gone_at = None
        if tuple(row.vni for row in network.vnis) != each.vnis:
            kept = {row.vni: row for row in network.vnis}
            network.vnis = [kept.get(vni) or NetworkVni(vni=vni) for vni in each.vnis]
    for network in stored.values():
        if network.gone_at is None:
            network.gone_at = now
    session.flush()


def _store_attachments(session: Session, wanted: Desired) -> frozenset[str]:
    """Store the difference; return the nodes whose set of networks is another one now."""
    stored: defaultdict[str, dict[str, Want]] = defaultdict(dict)
    for row in session.scalars(select(Attachment)):
        stored[row.node_id][row.network_id] = Want(row.reasons, row.running)

    added, changed = [], set()
    for node_id in wanted.keys() | stored.keys():
        before, after = stored.get(node_id, {}), wanted.get(node_id, {})
        if before.keys() != after.keys():
            changed.add(node_id)
        lost = before.keys() - after.keys()
        if lost:
            session.execute(
                delete(Attachment).where(
                    Attachment.node_id == node_id, Attachment.network_id.in_(lost)
                )
            )
        for network_id, want in after.items():
            if network_id not in before:
                added.append({"node_id": node_id, "network_id": network_id, **want._asdict()})
            elif before[network_id] != want:
                session.execute(
                    update(Attachment)
                    .where(Attachment.node_id == node_id, Attachment.network_id == network_id)
                    .values(want._asdict())
                )
    if added:
        session.execute(insert(Attachment), added)
    return frozenset(changed)
