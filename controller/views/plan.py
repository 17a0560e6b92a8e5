"""What the next run of a node would remove, by which proof, and what is missing or in the way for the rest.

A forecast from the last report and the present decisions: the worker reads the kernel and judges again at the
time of the removal.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from contract.verdicts import HeldBack, Verdict
from controller.conditions.holds import Hold
from controller.db.models import Device, Network, NetworkVni, Node
from controller.safety import breaker
from controller.safety.breaker import BreakerLimits
from controller.safety.holding import Holding

_CONSIDERED: Final = (Verdict.ORPHAN, Verdict.SETTLING, Verdict.CONFLICT)


class Action(StrEnum):
    """What would become of a device."""

    REMOVE = "remove"
    HOLD = "hold"
    """An orphan that something holds back."""
    WAIT = "wait"
    """Its death is not proved: the reason says what is waited for."""
    LEAVE = "leave"
    """Not Docker's: only a person may remove it."""


class Step(NamedTuple):
    """What the next run would do with a device; `holds`: what is in the way of its removal."""

    device: Device
    action: Action
    network_name: str | None
    missing: str | None
    holds: Sequence[Hold]


class Plan(NamedTuple):
    """The plan of a node.

    Attributes:
        looked_at: when the devices were last looked at.
        next_run_at: when the node is due; None: it is down or paused, so no run is requested.
        removals_left: what the breaker lets the node remove before it trips.
        holds: what holds back every removal on the node.
    """

    node: Node
    looked_at: datetime | None
    next_run_at: datetime | None
    removals_left: int
    holds: Sequence[Hold]
    steps: Sequence[Step]


def plan(
    session: Session, node: Node, holding: Holding, *, limits: BreakerLimits, now: datetime
) -> Plan:
    """Return the plan of a node."""
    devices = session.scalars(
        select(Device)
        .where(Device.node_id == node.id, Device.verdict.in_(_CONSIDERED))
        .order_by(Device.netns, Device.ifindex)
    ).all()
    names = _network_names(session, {device.vni for device in devices})
    left = _left(session, node, limits, now)
    steps: list[Step] = []
    removals = 0
    for device in devices:
        name = names.get(device.vni)
        if device.verdict is Verdict.CONFLICT:
            steps.append(Step(device, Action.LEAVE, name, device.reason, ()))
            continue
        in_the_way = holding.once_proved(device, node)
        if device.verdict is Verdict.SETTLING:
            steps.append(Step(device, Action.WAIT, name, device.reason, in_the_way))
        elif in_the_way or removals >= left:
            steps.append(Step(device, Action.HOLD, name, None, in_the_way))
        else:
            removals += 1
            steps.append(Step(device, Action.REMOVE, name, None, ()))
    everywhere = holding.on_node(node)
    asked = node.state != "down" and all(hold.reason is not HeldBack.PAUSE for hold in everywhere)
    due_at = node.due.due_at if asked else None
    return Plan(node, node.looked_at, due_at, left, everywhere, steps)


def _network_names(session: Session, vnis: set[int]) -> dict[int, str]:
    """Return the name of the present network with each VNI; of several, the first by name."""
    query = (
        select(NetworkVni.vni, func.min(Network.name).label("name"))
        .join(Network, Network.id == NetworkVni.network_id)
        .where(NetworkVni.vni.in_(vnis), Network.gone_at.is_(None))
        .group_by(NetworkVni.vni)
    )
    return {row.vni: row.name for row in session.execute(query)}


def _left(session: Session, node: Node, limits: BreakerLimits, now: datetime) -> int:
    used = breaker.counted(limits.since(now)).where(Node.id == node.id).subquery()
    return limits.left(session.scalar(select(used.c.removals)) or 0)


def is_stale(found: Plan, now: datetime, stale_after: timedelta) -> bool:
    """Whether the plan rests on a look that is too old to say anything of the present."""
    return found.looked_at is None or now - found.looked_at > stale_after
