"""Builds the requests of many runs with three queries: nodes and cluster, networks, rejections.

A person waits for them at a requeue, so the number of queries counts more than the rows.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    Boolean,
    Select,
    String,
    bindparam,
    cast,
    func,
    null,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.orm import Session, load_only

from contract import messages
from contract.messages import (
    MAX_NETWORKS,
    MAX_REJECTIONS,
    Acknowledgement,
    DesiredNetwork,
    NetworkRef,
    ReconcileRequest,
    SwarmReading,
)
from contract.verdicts import Mode
from controller.conditions.facts import network_is_observed
from controller.db.bulk import UNPREPARED
from controller.db.key_models import NodeKey
from controller.db.models import (
    Attachment,
    Cluster,
    Device,
    Network,
    NetworkVni,
    Node,
    Rejection,
    Run,
)
from controller.db.states import NodeKeyState
from controller.db.types import Base
from controller.safety import breaker, modes
from controller.safety.breaker import BreakerLimits
from controller.trust.keyring import Keyring
from controller.workqueue.queue import Claim

CLOCKS_MAY_DIFFER: Final = timedelta(seconds=60)
"""Slack added to the request's deadline, so that a node with a skewed clock still accepts it.

A run after its loss does no harm; one from last week is refused.
"""


_NODE_COLUMNS: Final = (
    Node.generation, Node.journal_id, Node.journal_through, Node.hostname, Node.paused_at,
    Node.paused_by, Node.paused_reason, Node.paused_until, Node.label_ignore, Node.label_mode, Node.mode,
    Node.breaker_tripped_at, Node.breaker_reason,
)  # fmt: skip
_CLUSTER_COLUMNS: Final = (
    Cluster.data_path_port, Cluster.paused_at, Cluster.paused_by, Cluster.paused_reason,
    Cluster.paused_until,
    Cluster.mode, Cluster.breaker_tripped_at, Cluster.breaker_reason,
)  # fmt: skip


def _nodes_statement() -> Select[Node, Cluster, int, str | None]:
    ids: BindParameter[Any] = bindparam("nodes", expanding=True)
    used = breaker.counted(bindparam("since")).where(Node.id.in_(ids)).subquery()
    to_rotate = (
        select(func.max(NodeKey.id))
        .where(
            NodeKey.node_id == Node.id,
            NodeKey.state == NodeKeyState.TRUSTED,
            NodeKey.rotation_asked_at.is_not(None),
        )
        .scalar_subquery()
    )
    return (
        select(Node, Cluster, func.coalesce(used.c.removals, 0), to_rotate)
        .select_from(Node)
        .join(Cluster, true())
        .outerjoin(used, used.c.node_id == Node.id)
        .where(Node.id.in_(ids))
        .options(
            # Most columns are of no use here, and take time to read.
            load_only(*_NODE_COLUMNS, raiseload=True),
            load_only(*_CLUSTER_COLUMNS, raiseload=True),
        )
    )


def _networks_statement() -> Select[str | None, bool | None, str, str, bool, int | None, bool]:
    """Networks by node, with their VNIs; rows without a node: networks in mode observe, for all nodes."""
    ids: BindParameter[Any] = bindparam("nodes", expanding=True)
    attached = select(Attachment.node_id, Attachment.network_id, Attachment.running)
    shown = (
        select(Device.node_id, NetworkVni.network_id, cast(null(), Boolean))
        .join(NetworkVni, NetworkVni.vni == Device.vni)
        .join(Network, Network.id == NetworkVni.network_id)
        .where(Device.node_id.in_(ids), Network.gone_at.is_(None))
        .distinct()
    )
    alone = network_is_observed()
    everywhere = select(cast(null(), String), Network.id, cast(null(), Boolean)).where(alone)
    relevant = union_all(attached.where(Attachment.node_id.in_(ids)), shown, everywhere).subquery()
    return (
        select(
            relevant.c.node_id,
            relevant.c.running,
            Network.id,
            Network.name,
            Network.ingress,
            NetworkVni.vni,
            alone,
        )
        .join(Network, Network.id == relevant.c.network_id)
        .outerjoin(NetworkVni, NetworkVni.network_id == Network.id)
        .order_by(Network.id, NetworkVni.vni)
        .execution_options(**UNPREPARED)
    )


_REJECTIONS: Final = (
    select(
        Rejection.node_id,
        Rejection.task_id,
        Rejection.at,
        Rejection.vni,
        Rejection.cidr,
        Rejection.doubt,
    )
    .where(
        Rejection.node_id.in_(bindparam("nodes", expanding=True)), Rejection.settled_at.is_(None)
    )
    .order_by(Rejection.at.desc())
)

_RUNS: Final = Base.metadata.tables[Run.__tablename__]

# Made once: making a statement takes longer than carrying it out.
_ALLOW: Final = (
    update(_RUNS)
    .where(_RUNS.c.id.in_(bindparam("run_ids", expanding=True)))
    .values(max_removals=bindparam("allowed"))
    .execution_options(**UNPREPARED)
)
_NODES: Final = _nodes_statement()
_NETWORKS: Final = _networks_statement()


@dataclass(frozen=True, slots=True)
class Terms:
    """Common to all requests of this controller."""

    mode: Mode
    """Of the settings."""
    limits: BreakerLimits
    keys: Keyring
    """Of which each request tells the controllers' keys, and the node's own."""
    fence: Callable[[], int]
    """Returns the leader's fence, or raises LeaseLostError."""
    reading: Callable[[str], SwarmReading]
    """Returns the newest reading of the Swarm for a node."""
    next_within: timedelta
    """Maximum time until the next request, whatever becomes of the run."""
    alive_every: Callable[[], float] | None = None
    """Returns the seconds between signs of life; None: nobody reads them."""


class _RelevantNetworks(NamedTuple):
    """The networks of a request, by id."""

    desired: dict[str, bool]
    """Networks that the node should carry; the value is whether a task of it runs there."""
    known: set[str]
    """Others whose VNIs the node has shown.

    An orphan was reported as settling before, so these are all that its worker may have to name.
    """


def build(
    session: Session,
    claims: Sequence[Claim],
    terms: Terms,
    now: datetime,
    *,
    issued_at: datetime,
) -> list[ReconcileRequest]:
    """Build the requests of these runs, in their order.

    Args:
        issued_at: their date, which is later than that of all requests of this leader before.

    Raises:
        LeaseLostError: another controller may lead by now.
    """
    if not claims:
        return []
    ids = [claim.node_id for claim in claims]
    # Before desired state is read, which may so be newer than its reading, and never older.
    readings = {node_id: terms.reading(node_id) for node_id in ids}
    rejections = _rejections(session, ids)
    # Nodes have much in common: each network is built once.
    relevant, networks = _networks(session, ids)
    desired = {
        (id_, running): DesiredNetwork(**dict(networks[id_]), running=running)
        for id_, running in {item for own in relevant.values() for item in own.desired.items()}
    }
    alone = [id_ for id_, network in networks.items() if network.mode is Mode.OBSERVE]
    fence = terms.fence()
    requests = []
    # Node id to node, cluster, the removals that count for the breaker, and the key to be replaced.
    rows = session.execute(_NODES, {"nodes": ids, "since": terms.limits.since(now)})
    nodes = {row[0].id: row for row in rows}
    for claim in claims:
        node, cluster, removals, to_rotate = nodes[claim.node_id]
        own = relevant[claim.node_id]
        others = [
            id_ for id_ in dict.fromkeys((*alone, *sorted(own.known))) if id_ not in own.desired
        ]
        requests.append(
            ReconcileRequest(
                run_id=claim.run_id,
                node_id=node.id,
                generation=node.generation,
                issued_at=issued_at,
                deadline=claim.deadline + CLOCKS_MAY_DIFFER,
                # What cannot be named cannot be spared.
                mode=Mode.OBSERVE
                if len(alone) > MAX_NETWORKS
                else modes.of_node(node, cluster, terms.mode).mode,
                data_path_port=cluster.data_path_port,
                desired=tuple(desired[item] for item in own.desired.items()),
                known=tuple(networks[id_] for id_ in others[:MAX_NETWORKS]),
                acknowledged=None
                if node.journal_id is None
                else Acknowledgement(journal_id=node.journal_id, through=node.journal_through),
                fence=fence,
                next_within=terms.next_within.total_seconds(),
                alive_every=None if terms.alive_every is None else terms.alive_every(),
                max_removals=terms.limits.left(removals),
                reading=readings[node.id],
                rejections=tuple(rejections[node.id][:MAX_REJECTIONS]),
                controller_keys=tuple(terms.keys.controllers),
                node_key=terms.keys.of_node(node.id),
                rotate_key=to_rotate,
            )
        )
    _note_allowance(session, requests)
    return requests


def _note_allowance(session: Session, requests: Sequence[ReconcileRequest]) -> None:
    """Store how many removals each run is allowed: no report is believed to have made more."""
    allowed: defaultdict[int, list[UUID]] = defaultdict(list)
    for request in requests:
        if request.mode is Mode.ENFORCE:
            allowed[request.max_removals].append(request.run_id)
    for removals, run_ids in allowed.items():
        session.execute(_ALLOW, {"allowed": removals, "run_ids": run_ids})


def _rejections(session: Session, ids: Collection[str]) -> Mapping[str, list[messages.Rejection]]:
    """Node id to open rejections, the newest first."""
    found: defaultdict[str, list[messages.Rejection]] = defaultdict(list)
    for node_id, task_id, at, vni, cidr, doubt in session.execute(_REJECTIONS, {"nodes": ids}):
        found[node_id].append(
            messages.Rejection(task_id=task_id, at=at, vni=vni, subnet=cidr, doubt=doubt)
        )
    return found


def _networks(
    session: Session, ids: Collection[str]
) -> tuple[Mapping[str, _RelevantNetworks], Mapping[str, NetworkRef]]:
    """Node id to its networks, and network id to network.

    Networks in mode observe are among them: every worker has to know them, or it would take their orphans
    for orphans of no network.
    """
    relevant: defaultdict[str, _RelevantNetworks] = defaultdict(
        lambda: _RelevantNetworks({}, set())
    )
    vnis: defaultdict[tuple[str, str, bool, bool], dict[int, None]] = defaultdict(dict)
    rows = session.execute(_NETWORKS, {"nodes": ids})
    for node_id, running, id_, name, ingress, vni, alone in rows:
        own = vnis[id_, name, ingress, alone]
        if vni is not None:
            own[vni] = None
        if node_id is None:
            continue
        if running is None:
            relevant[node_id].known.add(id_)
        else:
            relevant[node_id].desired[id_] = running
    networks = {
        id_: NetworkRef(
            id=id_,
            name=name[:255],
            vnis=tuple(own),
            ingress=ingress,
            mode=Mode.OBSERVE if alone else Mode.ENFORCE,
        )
        for (id_, name, ingress, alone), own in vnis.items()
    }
    return relevant, networks
