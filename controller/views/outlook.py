"""What is known of a VNI on a node: who holds it, what was done, what will be done, and how by hand.

Nothing is called gone unless a look that began after the error, and after the last rejection, showed it. Both
are times of the node's own clock. Nothing is called "removed next" while something holds it back.
"""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from contract.runtime.text import with_file
from contract.verdicts import HeldBack, Mode, Stage, Verdict
from controller.conditions import holds
from controller.conditions.facts import is_in_the_way
from controller.conditions.holds import Hold
from controller.conditions.model import Reason, Status, Type, format_time
from controller.db.audit_models import AuditRow
from controller.db.models import Device, DueNode, Network, Node, Rejection, Run
from controller.safety.holding import Holding

_SHOWN: Final = frozenset(
    {Stage.APPLIED, Stage.VANISHED, Stage.FAILED, Stage.REFUSED, Stage.LINGERING, Stage.UNCERTAIN}
)
_REMOVALS: Final = (Stage.APPLIED, Stage.VANISHED)
_MAX_DONE: Final = 5
_MAX_DEVICES: Final = 10
_LEFT_ALONE: Final = (Reason.PAUSED, Reason.CLUSTER_PAUSED, Reason.IGNORED_BY_LABEL)
"""Reasons that are holds too, and told as such."""


class State(StrEnum):
    """What the last look at a node says of a VNI there."""

    HELD = "held"
    """A device has it, and keeps Docker from making its own."""
    FREE = "free"
    """A look after the error showed no device with it."""
    IN_USE = "in_use"
    """A look after the error showed Docker's living device."""
    UNSEEN = "unseen"
    """No device with it was seen; but the look was before the error, or the error has no time."""
    UNKNOWN = "unknown"
    """No look is known, or no VNI."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What an answer depends on besides the database.

    Attributes:
        mode: in the controller's settings.
        stale_after: the silence after which a worker is away.
    """

    now: datetime
    mode: Mode
    stale_after: timedelta


@dataclass(frozen=True, slots=True)
class Question:
    """Which VNIs of which networks are asked about.

    Attributes:
        subnet: of the error, in canonical form.
        error_at: the latest time at which the error may have been written, by the node's clock; None:
            unknown.
        device: if no VNI is known, devices of this name.
    """

    networks: Sequence[Network]
    vnis: Sequence[int]
    subnet: str | None = None
    error_at: datetime | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True)
class NodeOutlook:
    """A VNI on a node; `controller.api.answers.explain` describes the fields."""

    node: Node
    state: State
    verdict: str
    devices: Sequence[Device]
    held: Sequence[Sequence[Hold]]
    """What holds the removal of each device back."""
    done: Sequence[AuditRow]
    outlook: Sequence[str]
    by_hand: Sequence[str]
    look_for: Sequence[str]
    looked_at: datetime | None
    error_at: datetime | None


def node_outlook(
    session: Session,
    node: Node,
    question: Question,
    situation: Situation,
    holding: Holding,
    typed: str,
) -> NodeOutlook:
    """Return what is known; `typed`: the node's name as it can be typed."""
    vnis = list(question.vnis)
    rejected_at = _rejected_at(session, node, question)
    error_at = max(filter(None, (question.error_at, rejected_at)), default=None)
    look = _last_look(session, node)
    began = None if look is None else look.started_at
    fresh = None not in (began, error_at) and began > error_at  # type: ignore[operator]
    devices = _devices(session, node, question)
    done = _done(session, node, question)
    # A removal that the kernel confirmed after the error is a look too, though its run may have begun before.
    fresh = fresh or any(
        row.stage is Stage.APPLIED and error_at is not None and row.at > error_at for row in done
    )
    state = _state(devices, known=look is not None and bool(vnis or devices), fresh=fresh)
    seen = _Seen(node, typed, look, error_at, fresh)
    held = [holding.of(device, node) for device in devices]
    return NodeOutlook(
        node=node,
        state=state,
        verdict=" ".join(_verdict(state, devices, done, seen, question)),
        devices=devices,
        held=held,
        done=done,
        outlook=[*_outlook(session, state, devices, seen, question, situation, holding=holding)],
        by_hand=_by_hand(state, devices),
        look_for=look_for(question.networks, vnis),
        looked_at=None if look is None else look.closed_at,
        error_at=error_at,
    )


def look_for(networks: Sequence[Network], vnis: Sequence[int]) -> list[str]:
    """Return where a leaked device of these networks is, as a person finds it on the node."""
    return [
        f"vx-{row.vni:06x}-{network.id[:5]} in the host namespace, or a vxlan device with VNI {row.vni} in "
        f"/run/docker/netns/1-{network.id[:10]}"
        for network in networks
        for row in network.vnis
        if not vnis or row.vni in vnis
    ]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A node, the last look at it, and whether that began after the error."""

    node: Node
    typed: str
    look: Run | None
    error_at: datetime | None
    fresh: bool

    @property
    def when(self) -> str:
        return "never" if self.look is None else format_time(self.look.closed_at)  # type: ignore[arg-type]


def _last_look(session: Session, node: Node) -> Run | None:
    """Return the run whose report has the node's stored devices."""
    if node.looked_at is None:
        return None
    return session.scalar(
        select(Run)
        .where(Run.node_id == node.id, Run.closed_at == node.looked_at, Run.started_at.is_not(None))
        .order_by(Run.requested_at.desc())
        .limit(1)
    )


def _rejected_at(session: Session, node: Node, question: Question) -> datetime | None:
    """Return when a task was last rejected there because of these VNIs or the subnet."""
    same: list[ColumnElement[bool]] = [Rejection.vni.in_(question.vnis)]
    if question.subnet is not None:
        same.append(Rejection.cidr == question.subnet)
    return session.scalar(
        select(Rejection.at)
        .where(Rejection.node_id == node.id, or_(*same))
        .order_by(Rejection.at.desc())
        .limit(1)
    )


def _devices(session: Session, node: Node, question: Question) -> Sequence[Device]:
    query = select(Device).where(Device.node_id == node.id)
    if question.vnis:
        # Whatever its name is: vx-001001-shopz of the host namespace is vxlan0 in the sandbox.
        query = query.where(Device.vni.in_(question.vnis))
    elif question.device is not None:
        query = query.where(Device.name == question.device)
    else:
        query = query.where(
            Device.verdict.in_((Verdict.ORPHAN, Verdict.CONFLICT, Verdict.SETTLING))
        )
    order = (Device.netns, Device.ifindex)
    return session.scalars(query.order_by(*order).limit(_MAX_DEVICES)).all()


def _done(session: Session, node: Node, question: Question) -> Sequence[AuditRow]:
    """Return what was done about these VNIs on the node, the newest first."""
    rows: list[AuditRow] = []
    # A query for each, along its index: a trail may have millions of rows.
    for vni in question.vnis:
        rows += session.scalars(
            select(AuditRow)
            .where(AuditRow.vni == vni, AuditRow.node_id == node.id, AuditRow.stage.in_(_SHOWN))
            .order_by(AuditRow.at.desc(), AuditRow.id.desc())
            .limit(_MAX_DONE)
        )
    return sorted(rows, key=lambda row: (row.at, row.id), reverse=True)[:_MAX_DONE]


def _state(devices: Sequence[Device], *, known: bool, fresh: bool) -> State:
    if any(map(is_in_the_way, devices)):
        return State.HELD
    if not known:
        return State.UNKNOWN
    if not fresh:
        return State.UNSEEN
    in_use = any(device.verdict is Verdict.IN_USE for device in devices)
    return State.IN_USE if in_use else State.FREE


def _verdict(
    state: State,
    devices: Sequence[Device],
    done: Sequence[AuditRow],
    seen: _Seen,
    question: Question,
) -> Iterator[str]:
    vnis, device = question.vnis, question.device
    vni = f"VNI {', '.join(map(str, vnis))}" if vnis else "the VNI"
    node = f"node {seen.node.hostname}"
    for row in devices:
        netns = with_file(row.netns, row.netns_file)
        yield (
            f"{row.name} (ifindex {row.ifindex}) in {netns} has VNI {row.vni}, {row.verdict}: "
            f"{row.reason}."
        )
    if state is State.UNKNOWN:
        if seen.look is None:
            yield f"No report of {node} has said yet which devices are there."
        elif device is not None:
            yield f"The last report of {node} ({seen.when}) has no device {device}."
        return
    error_at = "" if seen.error_at is None else f" ({format_time(seen.error_at)})"
    if state is State.FREE:
        removed = next((row for row in done if row.stage in _REMOVALS), None)
        if removed is not None:
            yield f"The operator removed {removed.name} at {format_time(removed.at)}."
        yield (
            f"No device had {vni} when {node} was looked at ({seen.when}), after the error{error_at}: "
            "it is gone, and Swarm's next try should work."
        )
    elif state is State.IN_USE:
        yield (
            f"{node.capitalize()} was looked at ({seen.when}) after the error{error_at}: Docker had made the "
            "device again, and used it."
        )
    elif state is State.UNSEEN:
        found = "only a device in use had" if devices else "no device had"
        before = (
            "The line has no time, so whether that was before or after the error is unknown."
            if seen.error_at is None
            else f"That was before the error{error_at} or may have been, so it says nothing of it."
        )
        yield f"When {node} was last looked at ({seen.when}), {found} {vni}. {before}"
    elif not seen.fresh:
        yield f"This is as {node} was at the last look ({seen.when})."


def _outlook(
    session: Session,
    state: State,
    devices: Sequence[Device],
    seen: _Seen,
    question: Question,
    situation: Situation,
    *,
    holding: Holding,
) -> Iterator[str]:
    """Yield what the operator will do, and what keeps it from that."""
    node, typed = seen.node, seen.typed
    trouble = _trouble(node, situation)
    if trouble is not None:
        yield f"Node {node.hostname} is not looked at now: {trouble}."
    if state in (State.FREE, State.IN_USE):
        if trouble is None:
            yield "The operator has nothing to do about it."
        return
    if state in (State.UNSEEN, State.UNKNOWN):
        own = [row.vni for network in question.networks for row in network.vnis]
        paused = [hold for hold in holding.on_node(node, own) if hold.reason is HeldBack.PAUSE]
        if paused:
            yield f"Not looked at while paused{holds.listed([('', hold) for hold in paused])}."
        elif trouble is None:
            yield (
                f"`vxctl requeue {typed} --wait` looks at the node now; if tasks are still rejected after "
                "that, the device is in a netns that the worker does not see: run `vxlan-worker scan` there, "
                "as root."
            )
        return
    for device in devices:
        yield from _of_device(session, device, holding.once_proved(device, node), seen, trouble)


def _of_device(
    session: Session, device: Device, held: Sequence[Hold], seen: _Seen, trouble: str | None
) -> Iterator[str]:
    if device.verdict not in (Verdict.ORPHAN, Verdict.SETTLING):
        if is_in_the_way(device):
            yield f"The operator does not remove {device.name}: the reason says what you can do."
        return
    if device.verdict is Verdict.SETTLING:
        yield f"{device.name} is removed only once it is proved dead: its reason says which proof is missing."
    if held:
        even = ", even if proved dead" if device.verdict is Verdict.SETTLING else ""
        for hold in holds.ordered(held):
            yield f"{device.name} is not removed{even}: {hold} ({hold.until})."
    elif device.verdict is Verdict.ORPHAN and trouble is None:
        yield f"{device.name} is proved dead: the next run removes it{_due(session, seen)}."


def _due(session: Session, seen: _Seen) -> str:
    due = session.get(DueNode, seen.node.id)
    if due is not None and due.run_id is not None:
        return ", which is under way"
    at = "" if due is None or due.due_at is None else f", due at {format_time(due.due_at)}"
    return f"{at}; `vxctl requeue {seen.typed} --wait` starts it now"


def _trouble(node: Node, situation: Situation) -> str | None:
    """Return why nobody looks at a node now; None: nothing is known to be wrong."""
    if node.gone_at is not None:
        return f"it left the Swarm at {format_time(node.gone_at)}"
    ready = node.conditions.get(Type.READY)
    if (
        ready is not None
        and (ready["status"] == Status.UNKNOWN or ready["reason"] == Reason.RUN_FAILED)
        and ready["reason"] not in _LEFT_ALONE
    ):
        return str(ready["message"])
    if node.worker_seen_at is None:
        return "no worker has ever reported from it: start vxlan-worker there"
    if situation.now - node.worker_seen_at > situation.stale_after:
        return (
            f"its worker has reported nothing since {format_time(node.worker_seen_at)}: check that "
            "vxlan-worker runs there, that its clock is right, that the broker answers, and that "
            "`vxlan-worker key` there shows the controllers' key of `vxctl keys`"
        )
    return None


def _by_hand(state: State, devices: Sequence[Device]) -> list[str]:
    """Return commands to be typed on the node, as root."""
    if state in (State.FREE, State.IN_USE):
        return []
    commands = []
    for device in devices:
        name, netns = shlex.quote(device.name), device.netns
        if device.verdict in (Verdict.CONFLICT, Verdict.FOREIGN):
            commands.append(f"ip -d link show {name}")
        elif not is_in_the_way(device):
            continue
        elif netns == "host":
            commands.append(f"ip link delete {name}")
        elif device.netns_file is not None:
            commands.append(f"nsenter --net={shlex.quote(device.netns_file)} ip link delete {name}")
        else:
            commands.append(f"vxlan-worker scan --remove {netns}#{device.ifindex}")
    return commands or ["vxlan-worker scan"]
