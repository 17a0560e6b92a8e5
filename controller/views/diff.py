"""Desired state against what the last run saw, node by node.

Never "same" where it is not known: after a run that failed or was lost, while desired state is newer than the
look, or once the look is too old, the answer is `unknown` with the reasons, and the differences seen last.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from contract.messages import ORPHANS_LEFT
from contract.verdicts import Verdict
from controller.conditions.model import format_time, quoted
from controller.db.models import Attachment, Cluster, Device, Network, Node
from controller.db.pauses import describe_pause
from controller.db.states import RunState


class Kind(StrEnum):
    """How a device differs from desired state."""

    MISSING = "missing"
    """A task of the network runs here, and the network has no device."""
    CONFLICT = "conflict"
    """Other software holds a VNI that a network of this node needs."""
    ORPHAN = "orphan"
    """Docker's, and proved dead."""
    SETTLING = "settling"
    """Docker's and idle; whether it is dead is not proved."""
    UNWANTED = "unwanted"
    """Docker's and in use, although no network with its VNI is wanted here."""


class State(StrEnum):
    """The result for a node."""

    SAME = "same"
    DIFFERS = "differs"
    UNKNOWN = "unknown"


class Difference(NamedTuple):
    """A difference; `device`, `netns` and `ifindex` are None where a device is missing."""

    kind: Kind
    network_id: str | None
    network_name: str | None
    vni: int | None
    device: str | None
    netns: str | None
    ifindex: int | None
    since: datetime | None
    reason: str


class NodeDiff(NamedTuple):
    """The differences of a node.

    Attributes:
        why_unknown: why what was seen is not what is there now; empty unless `state` is UNKNOWN.
        looked_at: when a run last looked at the node.
        read_at: when the Swarm was last read in full.
    """

    node: Node
    state: State
    why_unknown: Sequence[str]
    looked_at: datetime | None
    read_at: datetime
    differences: Sequence[Difference]


_BY_VERDICT: Final = {
    Verdict.CONFLICT: Kind.CONFLICT,
    Verdict.ORPHAN: Kind.ORPHAN,
    Verdict.SETTLING: Kind.SETTLING,
}
_ENDED_BADLY: Final = (RunState.FAILED, RunState.LOST, RunState.REFUSED)


def diff(
    session: Session,
    cluster: Cluster,
    nodes: Sequence[Node],
    *,
    now: datetime,
    stale_after: timedelta,
) -> list[NodeDiff]:
    """Compare nodes with what their last runs saw.

    Args:
        stale_after: the age at which a look, and a reading of the Swarm, says nothing of the present.
    """
    ids = [node.id for node in nodes]
    wanted: defaultdict[str, list[tuple[Network, bool]]] = defaultdict(list)
    attached = (
        select(Attachment.node_id, Attachment.running, Network)
        .join(Network, Network.id == Attachment.network_id)
        .where(Attachment.node_id.in_(ids))
        .order_by(Network.name, Network.id)
    )
    for node_id, running, network in session.execute(attached):
        wanted[node_id].append((network, running))
    seen: defaultdict[str, list[Device]] = defaultdict(list)
    order = (Device.node_id, Device.netns, Device.ifindex)
    for device in session.scalars(select(Device).where(Device.node_id.in_(ids)).order_by(*order)):
        seen[device.node_id].append(device)
    names = _names(session, seen)
    found = []
    for node in nodes:
        differences = [*_present(wanted[node.id], seen[node.id], names)]
        if node.looked_at is not None:
            differences += _missing(wanted[node.id], seen[node.id])
        why = [*_why_unknown(node, cluster, now, stale_after)]
        state = State.UNKNOWN if why else State.DIFFERS if differences else State.SAME
        found.append(NodeDiff(node, state, why, node.looked_at, cluster.synced_at, differences))
    return found


def _names(session: Session, seen: Mapping[str, Sequence[Device]]) -> Mapping[str, str]:
    """Return the names of the networks of devices, by id."""
    ids = {device.network_id for devices in seen.values() for device in devices}
    query = select(Network.id, Network.name).where(Network.id.in_(ids - {None}))
    return dict(session.execute(query).all())


def _missing(
    wanted: Sequence[tuple[Network, bool]], seen: Sequence[Device]
) -> Iterator[Difference]:
    used = {device.vni for device in seen if device.verdict is Verdict.IN_USE}
    for network, running in wanted:
        vnis = [row.vni for row in network.vnis]
        # A network has a device for each subnet with an endpoint here: one will do.
        if running and vnis and not used.intersection(vnis):
            reason = "its tasks run here, and no device with its VNI is in use"
            yield Difference(
                Kind.MISSING, network.id, network.name, vnis[0], None, None, None, None, reason
            )


def _present(
    wanted: Sequence[tuple[Network, bool]], seen: Sequence[Device], names: Mapping[str, str]
) -> Iterator[Difference]:
    by_vni = {row.vni: network for network, _ in wanted for row in network.vnis}
    for device in seen:
        network = by_vni.get(device.vni)
        kind = _BY_VERDICT.get(device.verdict)
        if kind is None and device.verdict is Verdict.FOREIGN and network is not None:
            kind = Kind.CONFLICT  # Wanted since the device was judged.
        if kind is None and device.verdict is Verdict.IN_USE and network is None:
            kind = Kind.UNWANTED
        if kind is None:
            continue
        network_id = network.id if network is not None else device.network_id
        name = network.name if network is not None else names.get(device.network_id or "")
        yield Difference(
            kind,
            network_id,
            name,
            device.vni,
            device.name,
            device.netns,
            device.ifindex,
            device.verdict_at,
            device.reason,
        )


def _why_unknown(
    node: Node, cluster: Cluster, now: datetime, stale_after: timedelta
) -> Iterator[str]:
    """Yield why what was seen need not be there now."""
    if node.looked_at is None:
        yield "no run has looked at the node yet"
    elif now - node.looked_at > stale_after:
        yield f"the node was last looked at {format_time(node.looked_at)}"
    if node.state == "down":
        yield "the Swarm reports the node as down"
    for row, name in ((cluster, "the cluster"), (node, "the node")):
        if (pause := describe_pause(row)) is not None:
            yield f"{name} is {quoted(pause)}"
    if node.label_ignore:
        yield "the node has the Swarm label vxlan-operator.ignore"
    if node.last_run_state in _ENDED_BADLY:
        error = f": {quoted(node.last_error)}" if node.last_error else ""
        yield f"the state of the last run is {node.last_run_state.value}{error}"
    if node.looked_at is not None and node.converged_generation < node.generation:
        yield "desired state has changed since the node was looked at"
    if unseen := [text for text in node.limitations if ORPHANS_LEFT not in text]:
        yield f"its worker cannot see everything: {quoted('; '.join(unseen))}"
    if cluster.sync_error is not None:
        yield f"the Swarm cannot be read: {quoted(cluster.sync_error)}"
    elif now - cluster.synced_at > stale_after:
        yield f"the Swarm was last read {format_time(cluster.synced_at)}"
