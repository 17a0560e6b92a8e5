"""What people decide: to pause, to resume, to set a mode; recorded, and followed by a look.

Deciding what is decided already changes nothing and records nothing.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from contract.verdicts import Mode, Stage
from controller.audit.append import Entry, append
from controller.db.models import (
    Cluster,
    Device,
    Network,
    Node,
)
from controller.workqueue import queue
from controller.workqueue.priorities import Priority

Target = Cluster | Node | Network
"""What a decision is about."""

_DEFAULT: Final = "default"


class Attribution(NamedTuple):
    """On whose word something is done, why, and when."""

    actor: str
    reason: str | None
    at: datetime

    def added_to(self, change: str) -> str:
        """A change, with the reason for it if one was given."""
        return change if self.reason is None else f"{change}: {self.reason}"


def pause(session: Session, target: Target, word: Attribution) -> bool:
    """Leave a node, the devices of a network, or everything alone; return whether that is new."""
    lock(session, target)
    if target.paused_at is not None:
        return False
    target.paused_at, target.paused_by, target.paused_reason = word.at, word.actor, word.reason
    _record(session, target, Stage.PAUSED, "not paused -> paused", word)
    return True


def resume(session: Session, target: Target, word: Attribution) -> bool:
    """Undo a pause, and look at the nodes concerned at once; return whether there was one."""
    lock(session, target)
    if target.paused_at is None:
        return False
    said = f", {target.paused_reason}" if target.paused_reason else ""
    change = f"paused by {target.paused_by}{said} -> not paused"
    target.paused_at = target.paused_by = target.paused_reason = None
    _look(session, target, f"resumed by {word.actor}", word)
    _record(session, target, Stage.RESUMED, change, word)
    return True


def set_mode(session: Session, target: Target, word: Attribution, *, mode: Mode | None) -> bool:
    """Set a mode, or with None leave it to the others, and look; return whether that is new."""
    lock(session, target)
    if target.mode is mode:
        return False
    change = f"mode {target.mode or _DEFAULT} -> {mode or _DEFAULT}"
    target.mode = mode
    _look(session, target, f"{change} by {word.actor}", word)
    _record(session, target, Stage.MODE_CHANGED, change, word)
    return True


def lock(session: Session, target: Target) -> None:
    """Keep others from deciding about it until the session ends, and read what they decided before.

    Who locks several rows goes from the cluster to its nodes, their due rows, and the audit trail.
    """
    kind = type(target)
    session.execute(
        select(kind)
        .where(kind.id == target.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one()


def describe(target: Target) -> str:
    """What a target is called."""
    if isinstance(target, Node):
        return f"node {target.hostname}"
    return "the cluster" if isinstance(target, Cluster) else f"network {target.name}"


def _look(session: Session, target: Target, reason: str, word: Attribution) -> None:
    concerned = _concerned(session, target)
    queue.request(session, concerned, at=word.at, priority=Priority.CHANGE, reason=reason)


def _concerned(session: Session, target: Target) -> Sequence[str]:
    """The nodes for which the decision may change something."""
    if isinstance(target, Node):
        return [target.id]
    if isinstance(target, Cluster):
        return session.scalars(select(Node.id).where(Node.gone_at.is_(None))).all()
    vnis = [row.vni for row in target.vnis]
    return session.scalars(
        select(Device.node_id)
        .join(Node, Node.id == Device.node_id)
        .where(Device.vni.in_(vnis), Node.gone_at.is_(None))
        .distinct()
    ).all()


def _record(session: Session, target: Target, stage: Stage, change: str, word: Attribution) -> None:
    entry = Entry(
        stage=stage,
        at=word.at,
        actor=word.actor,
        reason=word.added_to(f"{describe(target)}: {change}"),
        node=target if isinstance(target, Node) else None,
        network=target if isinstance(target, Network) else None,
    )
    append(session, [entry], word.at)
