"""Explains an error line: its network and nodes, recent removals there, and what to do.

Docker's line names a subnet at most. More is known from the text around it (names, ids, a device), and from
tasks that were rejected with the same subnet: their node and network are known.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import exists, or_, select
from sqlalchemy.orm import Session

from contract.verdicts import Mode, Stage, Verdict
from controller.conditions.model import Status, Type, format_time
from controller.db.audit_models import AuditRow
from controller.db.models import Cluster, Device, Network, NetworkVni, Node, Rejection
from controller.safety import modes
from controller.swarm.faults import fault_subnet, is_leak

MAX_LENGTH: Final = 4000
"""Characters of a line; Docker's are a few hundred."""
_MAX_SUBJECTS: Final = 5
"""Nodes or networks of one line."""
_MAX_WORDS: Final = 200
_ROWS_BACK: Final = 100
_LATELY: Final = 10

_WORD: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,254}")
_ID: Final = re.compile(r"\b[0-9a-z]{25}\b")
_DEVICE: Final = re.compile(r"\bvx-([0-9a-f]{6})-[0-9a-z]{5}\b")
_VNI: Final = re.compile(r"\b(?:vni|vxlan[ _-]?id)\W{0,3}([0-9]{1,8})\b", re.IGNORECASE)
_DOCKERS: Final = frozenset(
    _WORD.findall(
        "network sandbox join failed subnet for error creating vxlan interface file exists starting "
        "container creation in to set namespace on link prefunc"
    )
)
"""Words of Docker's own message, which never name a network."""

_SHOWN: Final = frozenset(
    {Stage.APPLIED, Stage.VANISHED, Stage.FAILED, Stage.REFUSED, Stage.LINGERING, Stage.UNCERTAIN}
)
_FAULT: Final = (
    "Docker could not make the VXLAN device of a network, because a device with the same VNI is still "
    "there: it leaked when the network was last removed from the node. Swarm rejects each task of the "
    "network on that node until the device is gone."
)
_NO_FAULT: Final = (
    "This is not the error of a leaked VXLAN device (`error creating vxlan interface: file exists`), "
    "which this operator handles."
)


@dataclass(frozen=True, slots=True)
class Clues:
    """What a line names."""

    ids: frozenset[str]
    vnis: frozenset[int]
    words: frozenset[str]
    subnet: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The meaning of a line; `controller.api.answers.explain` describes the fields."""

    recognised: bool
    meaning: str
    nodes: Sequence[Node]
    networks: Sequence[Network]
    lately: Sequence[AuditRow]
    now: Sequence[tuple[Device, Node]]
    advice: Sequence[str]


def clues(line: str) -> Clues:
    """Find what a line names; the line may be any text. Pure."""
    line = line[:MAX_LENGTH]
    words = [word.rstrip(".") for word in _WORD.findall(line)[:_MAX_WORDS]]
    vnis = {int(digits, 16) for digits in _DEVICE.findall(line)}
    vnis |= {int(digits) for digits in _VNI.findall(line)}
    return Clues(
        ids=frozenset(_ID.findall(line)[:_MAX_WORDS]),
        vnis=frozenset(vni for vni in vnis if vni < 2**24),
        words=frozenset(words) - _DOCKERS,
        subnet=fault_subnet(line),
    )


def explain(session: Session, line: str, configured: Mode) -> Explanation:
    """Explain a line, which may be any text; `configured`: the mode in the controller's settings."""
    found = clues(line)
    recognised = is_leak(line)
    nodes = {node.id: node for node in _nodes(session, found)}
    networks = {network.id: network for network in _networks(session, found)}
    if recognised and found.subnet is not None:
        rejections = _rejections(session, found.subnet, nodes.keys())
        # A line that names a node is about that node, even if others rejected the same subnet.
        nodes = nodes or {node.id: node for node, _ in rejections}
        networks.update({network.id: network for _, network in rejections if network is not None})
    here, these = list(nodes.values())[:_MAX_SUBJECTS], list(networks.values())[:_MAX_SUBJECTS]
    now = _in_the_way(session, here, these)
    lately = _lately(session, here, these)
    advice = [*_advice(session, recognised, here, now, lately, configured)]
    meaning = _FAULT if recognised else _NO_FAULT
    return Explanation(recognised, meaning, here, these, lately, now, advice)


def _nodes(session: Session, found: Clues) -> Sequence[Node]:
    return session.scalars(
        select(Node)
        .where(Node.gone_at.is_(None), or_(Node.id.in_(found.ids), Node.hostname.in_(found.words)))
        .order_by(Node.id)
        .limit(_MAX_SUBJECTS)
    ).all()


def _networks(session: Session, found: Clues) -> Sequence[Network]:
    with_vni = select(NetworkVni.network_id).where(NetworkVni.vni.in_(found.vnis))
    return session.scalars(
        select(Network)
        .where(
            Network.gone_at.is_(None),
            or_(Network.id.in_(found.ids), Network.name.in_(found.words), Network.id.in_(with_vni)),
        )
        .order_by(Network.id)
        .limit(_MAX_SUBJECTS)
    ).all()


def _rejections(
    session: Session, subnet: str, nodes: Collection[str]
) -> Sequence[tuple[Node, Network | None]]:
    """Return nodes that rejected tasks because of a subnet (only `nodes`, if any), with its network."""
    query = (
        select(Node, Network)
        .join(Rejection, Rejection.node_id == Node.id)
        .outerjoin(Network, Network.id == Rejection.network_id)
        .where(Rejection.cidr == subnet, Node.gone_at.is_(None))
        .order_by(Rejection.at.desc())
        .limit(_ROWS_BACK)
    )
    if nodes:
        query = query.where(Node.id.in_(nodes))
    return session.execute(query).all()


def _in_the_way(
    session: Session, nodes: Sequence[Node], networks: Sequence[Network]
) -> Sequence[tuple[Device, Node]]:
    """Return devices of these networks on these nodes that are not alive, or block tasks."""
    if not nodes and not networks:
        return []
    rejected = exists().where(
        Rejection.node_id == Device.node_id,
        Rejection.vni == Device.vni,
        Rejection.settled_at.is_(None),
    )
    query = (
        select(Device, Node)
        .join(Node, Node.id == Device.node_id)
        .where(
            Node.gone_at.is_(None),
            Device.verdict.in_((Verdict.ORPHAN, Verdict.CONFLICT, Verdict.SETTLING)) | rejected,
        )
    )
    if nodes:
        query = query.where(Device.node_id.in_([node.id for node in nodes]))
    if networks:
        vnis = [row.vni for network in networks for row in network.vnis]
        query = query.where(Device.vni.in_(vnis))
    query = query.order_by(Device.node_id, Device.ifindex).limit(_LATELY)
    return session.execute(query).all()


def _lately(
    session: Session, nodes: Sequence[Node], networks: Sequence[Network]
) -> Sequence[AuditRow]:
    """Return what happened to devices of these nodes, or of these networks if no node is known."""
    # A query for each, along its index: a trail may have millions of rows.
    wheres = [AuditRow.node_id == node.id for node in nodes] or [
        AuditRow.network_id == network.id for network in networks
    ]
    wanted = {network.id for network in networks}
    rows: list[AuditRow] = []
    for where in wheres:
        newest = session.scalars(
            select(AuditRow)
            .where(where)
            .order_by(AuditRow.at.desc(), AuditRow.id.desc())
            .limit(_ROWS_BACK)
        )
        rows += [row for row in newest if not wanted or row.network_id in wanted]
    rows = [row for row in rows if row.stage in _SHOWN]
    return sorted(rows, key=lambda row: (row.at, row.id), reverse=True)[:_LATELY]


def _advice(
    session: Session,
    recognised: bool,
    nodes: Sequence[Node],
    now: Sequence[tuple[Device, Node]],
    lately: Sequence[AuditRow],
    configured: Mode,
) -> Iterable[str]:
    for node in nodes:
        ready = node.conditions.get(Type.READY)
        if ready is not None and ready["status"] != Status.TRUE:
            yield f"node {node.hostname} is not ready: {ready['message']}"
    if not recognised:
        yield "Look at Docker's log on the node (`journalctl -u docker`)."
        return
    if now:
        for device, node in now:
            yield from _of_device(session, device, node, configured)
        return
    rejected = session.scalar(
        select(Rejection.at)
        .where(Rejection.node_id.in_([node.id for node in nodes]), Rejection.settled_at.is_(None))
        .order_by(Rejection.at.desc())
    )
    removals = [row.at for row in lately if row.stage in (Stage.APPLIED, Stage.VANISHED)]
    # Both are times of the node's own clock.
    if removals and (rejected is None or removals[0] > rejected):
        yield (
            f"The device was removed at {format_time(removals[0])}, and no task was rejected because of it "
            "since: Swarm's next try, a few seconds later, should work. If not: `vxctl requeue NODE`."
        )
    elif nodes:
        yield (
            "No such device was seen there: `vxctl requeue NODE --wait` runs the node now, and "
            "`vxlan-worker scan` on the node shows everything that the kernel has."
        )
    else:
        yield (
            "The line does not name its node: add the line of `docker service ps --no-trunc`, "
            "or the node's name."
        )


def _of_device(session: Session, device: Device, node: Node, configured: Mode) -> Iterable[str]:
    name = f"{device.name} on {node.hostname}"
    if device.verdict is Verdict.SETTLING:
        yield f"{name} looks dead and is not removed without proof: its reason above says which is missing."
    elif device.verdict is not Verdict.ORPHAN:
        yield f"{name} is not removed by the operator: its reason above says what you can do."
        return
    reasons = _observe_reasons(session, device, node, configured)
    if reasons:
        yield f"{name} is not removed, even if proved dead, in mode observe: {reasons}."
    elif device.verdict is Verdict.ORPHAN:
        yield f"{name} is proved dead: the next run removes it; `vxctl requeue {node.hostname}` starts one."


def _observe_reasons(session: Session, device: Device, node: Node, configured: Mode) -> str:
    """Return why the mode for a device is observe; empty: it is enforce."""
    cluster = session.get(Cluster, 1)
    if cluster is None:
        return ""
    networks = session.scalars(
        select(Network)
        .join(NetworkVni, NetworkVni.network_id == Network.id)
        .where(NetworkVni.vni == device.vni, Network.gone_at.is_(None))
    )
    found = [modes.of_node(node, cluster, configured), *map(modes.of_network, networks)]
    return "; ".join(mode.reason for mode in found if mode.mode is Mode.OBSERVE)
