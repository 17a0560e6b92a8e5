"""Reads from the rows the facts on which conditions depend."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, and_, bindparam, false, func, not_, or_, select, text, tuple_
from sqlalchemy.orm import Session

from contract.runtime.refusals import Refused
from contract.verdicts import HeldBack, Mode, Urgency, Verdict
from controller.conditions import holds, keys
from controller.conditions.cluster import ClusterFacts, RefusedFacts
from controller.conditions.holds import Hold
from controller.conditions.instant import Instant
from controller.conditions.model import Condition, Reason, Stored, Type
from controller.conditions.node_facts import QUIET, Dropping, Holder, NodeFacts, Rejecting, Sign
from controller.db.key_models import NodeKey
from controller.db.models import NOT_IN_USE, Cluster, Device, DueNode, Network, Node, Rejection

SETTLES_WITHIN: Final = timedelta(seconds=30)
"""A settling device younger than this is no finding: most are removed before."""
_ROWS: Final = 200
"""Nodes whose facts are in memory at a time."""
_COUNTED: Final = {
    Verdict.CONFLICT: "conflicts", Verdict.ORPHAN: "orphans", Verdict.SETTLING: "lookalikes",
}  # fmt: skip
"""Verdict to the field of `NodeFacts` that counts it."""
_NODES: Final = (
    select(
        Node.id, Node.hostname, Node.state, Node.conditions,
        Node.paused_at, Node.paused_by, Node.paused_reason, Node.paused_until, Node.label_ignore,
        Node.worker_seen_at, Node.last_run_state, Node.last_error,
        Node.generation, Node.converged_generation, Node.missing, Node.limitations,
        Node.breaker_tripped_at, Node.breaker_reason, Node.label_mode,
        Node.mode, Node.mode_at, Node.mode_by, Node.mode_reason,
        DueNode.failures, DueNode.run_id,
    )
    .join(DueNode, DueNode.node_id == Node.id)
    .where(Node.gone_at.is_(None))
    .order_by(Node.hostname, Node.id)
    .execution_options(yield_per=_ROWS)
)  # fmt: skip


def network_is_observed() -> ColumnElement[bool]:
    """Return the SQL condition that a network is in the Swarm and its own mode is observe."""
    return and_(
        Network.gone_at.is_(None),
        or_(
            Network.paused_at.is_not(None),
            Network.label_ignore != false(),
            Network.label_mode == Mode.OBSERVE,
            Network.mode == Mode.OBSERVE,
        ),
    )


# Statements are made once: to make them again in each step took longer than to carry them out.
_NODE_NAMES: Final = select(Node.id, Node.hostname).where(Node.gone_at.is_(None))
_ADDRESSES: Final = select(Node.id, Node.hostname, Node.address).where(Node.gone_at.is_(None))
_DOWN: Final = _ADDRESSES.where(Node.state == "down", Node.address != "")
_NOT_DOWN: Final = _ADDRESSES.where(Node.state != "down")
_RESTRICTED: Final = select(Network).where(network_is_observed())
_ORPHANS: Final = (
    select(Device.node_id, Device.vni, Device.held_back, func.count())
    .where(text(NOT_IN_USE), Device.verdict == Verdict.ORPHAN)
    .group_by(Device.node_id, Device.vni, Device.held_back)
)
_SETTLES: Final = and_(
    Device.verdict == Verdict.SETTLING, Device.verdict_at >= bindparam("settled")
)
_FINDINGS: Final = (
    select(
        Device.node_id,
        Device.verdict,
        Device.urgency,
        func.count().filter(not_(_SETTLES)).label("count"),
        func.min(Device.verdict_at).filter(_SETTLES).label("settles"),
    )
    .where(
        text(NOT_IN_USE),
        Device.verdict.in_((Verdict.CONFLICT, Verdict.ORPHAN, Verdict.SETTLING)),
    )
    .group_by(Device.node_id, Device.verdict, Device.urgency)
)
_UNSETTLED: Final = (
    select(Rejection, Network.name)
    .outerjoin(Network, Network.id == Rejection.network_id)
    .where(Rejection.settled_at.is_(None))
    # A node has a few for a VNI (controller.swarm.rejections).
    .order_by(Rejection.at.desc(), Rejection.task_id)
)


def cluster_facts(
    cluster: Cluster,
    mode: Mode,
    instant: Instant,
    max_silence: timedelta,
    *,
    broker: Condition | None = None,
    refused: RefusedFacts | None = None,
    untaken: Sequence[str] = (),
) -> ClusterFacts:
    """Return the facts about the cluster.

    Args:
        mode: of the controller's settings.
        max_silence: after this time a reading of the Swarm is stale.
        broker: why the leader cannot use the broker; None: it can.
    """
    return ClusterFacts(
        synced_at=cluster.synced_at,
        stale=instant.is_past(cluster.synced_at + max_silence),
        sync_reason=cluster.sync_reason if cluster.sync_error is not None else None,
        sync_error=cluster.sync_error,
        manager=cluster.sync_manager,
        away=cluster.managers_away,
        holds=holds.of_cluster(cluster, mode),
        broker=broker,
        refused=refused,
        untaken=untaken,
    )


def node_facts(
    session: Session,
    cluster: Cluster,
    *,
    mode: Mode,
    instant: Instant,
    max_silence: timedelta,
    listening_since: datetime,
    broker: Condition | None = None,
    sign_of: Callable[[str], Sign | None] = lambda _: None,
    dropping: Callable[[str], Dropping | None] = lambda _: None,
) -> Iterator[tuple[str, str, Stored, NodeFacts]]:
    """Yield each node's id, hostname, stored conditions and facts, by hostname.

    Args:
        mode: of the controller's settings.
        max_silence: a worker that last reported longer ago is away.
        listening_since: since when reports could come; before, silence says nothing.
        broker: why the leader cannot use the broker; None: it can.
        sign_of: returns the newest sign of life of a node's worker, by node id.
        dropping: returns which messages of a node are dropped, by node id.
    """
    devices = _devices(session, instant)
    held = orphan_holds(session)
    rejecting = _rejecting(session)
    everywhere = holds.of_cluster(cluster, mode)
    names = node_names(session)
    untrusted, unreplaced = keys.untrusted(session), keys.unreplaced(session, instant)
    before, after = _joined_again(session)
    heard_for_long = instant.is_past(listening_since + max_silence)
    for row in session.execute(_NODES):
        seen_at = row.worker_seen_at
        stale = seen_at is not None and instant.is_past(seen_at + max_silence)
        typed = names.typed(row.id)
        facts = NodeFacts(
            id=row.id,
            typed=typed,
            state=row.state,
            joined_again_as=after.get(row.id),
            served_as=None
            if seen_at is not None and not stale
            else _served(row.id, before.get(row.id, ()), sign_of, instant),
            unread_since=None if cluster.sync_error is None else cluster.synced_at,
            reports=_reports(row.conditions, seen_at),
            seen_at=seen_at,
            broker=broker,
            sign=_news(sign_of(row.id), row.id, seen_at, instant),
            untrusted=[key_id for key_id, _ in untrusted.get(row.id, ())],
            revoked=any(is_revoked for _, is_revoked in untrusted.get(row.id, ())[:1]),
            unreplaced=unreplaced.get(row.id),
            dropped_since=_dropped_since(dropping(row.id), instant),
            stale=stale,
            silent=stale and heard_for_long,
            failures=row.failures,
            last_run=row.last_run_state,
            last_error=row.last_error,
            running=row.run_id is not None,
            generation=row.generation,
            converged_generation=row.converged_generation,
            missing=row.missing,
            limitations=row.limitations,
            holds=[*everywhere, *holds.of_node(row, typed)],
            held=[
                (_of_some(cause, row.hostname, typed), count)
                for cause, count in held.get(row.id, {}).items()
            ],
            rejecting=rejecting.get(row.id, ()),
            **devices[row.id],
        )
        yield row.id, row.hostname, row.conditions, facts


def refused_facts(session: Session, refused: Refused, counts: Mapping[str, int]) -> RefusedFacts:
    """Return what is known of refused messages, with the owner of the newest one's key."""
    owner = None
    if refused.kid is not None:
        node_id = session.scalar(select(NodeKey.node_id).where(NodeKey.id == refused.kid))
        owner = None if node_id is None else node_names(session).typed(node_id)
    return RefusedFacts(
        counts=counts,
        reason=refused.reason,
        detail=refused.detail,
        key=refused.kid,
        owner=owner,
        at=refused.at,
    )


def _dropped_since(found: Dropping | None, instant: Instant) -> datetime | None:
    """Return since when messages of a node are dropped; None: none was lately."""
    return None if found is None or instant.is_past(found.newest_at + QUIET) else found.since


def _news(
    sign: Sign | None, node_id: str, seen_at: datetime | None, instant: Instant
) -> Sign | None:
    """Return a sign of life that is news: the worker ended, is silent, or serves another id."""
    if sign is None:
        return None
    if sign.serves != node_id:
        return None if seen_at is not None and seen_at > sign.since else sign
    if sign.ended:
        return None if seen_at is not None and sign.at is not None and seen_at > sign.at else sign
    heard = sign.since if seen_at is None else max(sign.since, seen_at)
    return sign if instant.is_past(heard + sign.allowed) else None


def _joined_again(session: Session) -> tuple[Mapping[str, Sequence[str]], Mapping[str, str]]:
    """Return each node's former ids, and each former id's new one.

    A worker that cannot ask its dockerd does not know of the new id. A node is down under the former ones,
    and has the hostname and address of one that is not.
    """
    down: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for row in session.execute(_DOWN):
        down[row.hostname, row.address].append(row.id)
    if not down:
        return {}, {}
    before = {
        row.id: down[row.hostname, row.address]
        for row in session.execute(_NOT_DOWN)
        if (row.hostname, row.address) in down
    }
    return before, {old: new for new, former in before.items() for old in former}


def _served(
    node_id: str,
    former: Sequence[str],
    sign_of: Callable[[str], Sign | None],
    instant: Instant,
) -> str | None:
    """Return the former id of a node that a worker serves now; None: none, or its own worker is there."""
    own = sign_of(node_id)
    if own is not None and own.serves == node_id:
        return None
    for other in former:
        sign = sign_of(other)
        if sign is None or sign.at is None or sign.ended or sign.serves != other:
            continue
        if not instant.is_past(sign.since + sign.allowed):
            return other
    return None


def _reports(conditions: Stored, seen_at: datetime | None) -> bool:
    """Whether a worker has reported since its node was first called down."""
    stalled = conditions.get(Type.STALLED, {})
    if seen_at is None or stalled.get("reason") != Reason.NODE_DOWN:
        return False
    return seen_at > datetime.fromisoformat(stalled["since"])


def node_names(session: Session) -> holds.Names:
    """Return the names of the Swarm's nodes as they can be typed."""
    return holds.Names((row.id, row.hostname) for row in session.execute(_NODE_NAMES))


def network_holds(session: Session) -> Mapping[int, list[Hold]]:
    """VNI to what holds back removals of devices with this VNI, for the networks that restrict any."""
    restricted = session.scalars(_RESTRICTED).all()
    found: defaultdict[int, list[Hold]] = defaultdict(list)
    if not restricted:
        return found
    rows = session.execute(select(Network.id, Network.name).where(Network.gone_at.is_(None)))
    names = holds.Names((row.id, row.name) for row in rows)
    for network in restricted:
        own = holds.of_network(network, names.typed(network.id))
        for row in network.vnis:
            found[row.vni] += own
    return found


def orphan_holds(session: Session) -> Mapping[str, Counter[Hold | HeldBack]]:
    """Node id to what holds some of its orphans back, by network or as its worker says, and how many."""
    networks = network_holds(session)
    found: defaultdict[str, Counter[Hold | HeldBack]] = defaultdict(Counter)
    for node_id, vni, reason, count in session.execute(_ORPHANS):
        for hold in networks.get(vni, ()):
            found[node_id][hold] += count
        if reason is not None:
            found[node_id][reason] += count
    return found


def _of_some(cause: Hold | HeldBack, hostname: str, typed: str) -> Hold:
    return cause if isinstance(cause, Hold) else holds.of_worker(cause, hostname, typed, None)


def _devices(session: Session, instant: Instant) -> Mapping[str, Mapping[str, int]]:
    """Count each node's conflicts, orphans, blocking orphans and long-settling devices."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    settled = {"settled": instant.now - SETTLES_WITHIN}
    for node_id, verdict, urgency, count, settles in session.execute(_FINDINGS, settled):
        if settles is not None:
            instant.is_past(settles + SETTLES_WITHIN)
        counts[node_id][_COUNTED[verdict]] += count
        if urgency is Urgency.BLOCKING:
            counts[node_id]["blocking"] += count
    return counts


def _holder(device: Device) -> Holder:
    file = "" if device.netns_file is None else f" ({device.netns_file})"
    name = f"{device.name} in {device.netns}{file}"
    return Holder(name, device.verdict, device.reason, is_in_the_way(device))


def is_in_the_way(device: Device) -> bool:
    """Whether a device keeps Docker from making its own, as far as its worker knows."""
    if device.verdict is Verdict.IN_USE:
        return device.reason.startswith("holds VNI")  # worker.judge: a rejection is because of it.
    return device.verdict is not Verdict.FOREIGN


def _is_made_again(devices: Sequence[Device], rejected: datetime) -> bool:
    """Whether Docker has made its device since a rejection was read, and nothing else is in the way."""
    return not any(map(is_in_the_way, devices)) and any(
        device.verdict is Verdict.IN_USE and device.first_seen_at > rejected for device in devices
    )


def _rejecting(session: Session) -> Mapping[str, list[Rejecting]]:
    """Return each node's networks whose tasks it rejects now, with the devices that have the VNI."""
    newest: dict[tuple[str, int | str | None], tuple[Rejection, str | None]] = {}
    for rejection, name in session.execute(_UNSETTLED):
        key = rejection.cidr if rejection.vni is None else rejection.vni
        newest.setdefault((rejection.node_id, key), (rejection, name))
    keys = [(row.node_id, row.vni) for row, _ in newest.values() if row.vni is not None]
    devices: defaultdict[tuple[str, int], list[Device]] = defaultdict(list)
    if keys:
        holding = select(Device).where(tuple_(Device.node_id, Device.vni).in_(keys))
        for device in session.scalars(holding):
            devices[device.node_id, device.vni].append(device)
    found: defaultdict[str, list[Rejecting]] = defaultdict(list)
    for row, network in newest.values():
        seen = () if row.vni is None else devices[row.node_id, row.vni]
        if _is_made_again(seen, row.seen_at):
            continue
        there = [_holder(device) for device in seen]
        found[row.node_id].append(
            Rejecting(network or row.cidr or "unknown", row.vni, row.at, row.doubt, there)
        )
    return found
