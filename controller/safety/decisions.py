"""Decisions of people: pause, resume and set a mode; recorded in the audit trail.

A decision that changes nothing is not recorded.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from contract.verdicts import Mode, Stage
from controller.audit.append import Entry, append
from controller.db.audit_models import AuditRow
from controller.db.models import Cluster, Device, Network, Node
from controller.db.pauses import describe_pause, format_end
from controller.db.sql_functions import database_time
from controller.db.states import CONTROLLER, with_claim
from controller.workqueue import queue
from controller.workqueue.priorities import Priority

Kind = TypeVar("Kind", Cluster, Node, Network)
Target = Cluster | Node | Network
"""What a decision is about."""

_DEFAULT: Final = "default"


class Decision(NamedTuple):
    """Who decides, the reason, and when.

    Attributes:
        claimed_name: for whom the actor says to act.
        id: of its audit row; the same decision twice changes and records nothing more. None: it comes once.
    """

    actor: str
    reason: str | None
    at: datetime
    claimed_name: str | None = None
    id: UUID | None = None

    @property
    def who(self) -> str:
        """The actor with the claimed name, for people."""
        return with_claim(self.actor, self.claimed_name)

    def describe(self, change: str) -> str:
        """Return a change with the decision's reason."""
        return change if self.reason is None else f"{change}: {self.reason}"


def pause(
    session: Session, target: Target, decision: Decision, *, until: datetime | None = None
) -> bool:
    """Pause a node, a network or the cluster, of which the workers hear; return False if nothing changes.

    Nothing does if it was paused with the same end, or the decision was carried out before.

    Args:
        until: when the pause ends by itself; None: a person ends it.
    """
    lock(session, target)
    same = target.paused_at is not None and target.paused_until == until
    if same or is_recorded(session, decision):
        return False
    before = describe_pause(target) or "not paused"
    if target.paused_at is None:
        target.paused_at, target.paused_by = decision.at, decision.who
        target.paused_reason = decision.reason
        _make_due(session, target, f"paused by {decision.who}", decision, despite_pause=True)
    target.paused_until = until
    after = "paused" if until is None else f"paused until {format_end(until)}"
    _record(session, target, Stage.PAUSED, f"{before} -> {after}", decision)
    return True


def resume(session: Session, target: Target, decision: Decision) -> bool:
    """End a pause, and make the nodes concerned due; return False if nothing changes, as `pause` does."""
    lock(session, target)
    pause = describe_pause(target)
    if pause is None or is_recorded(session, decision):
        return False
    _clear_pause(target)
    _make_due(session, target, f"resumed by {decision.who}", decision)
    _record(session, target, Stage.RESUMED, f"{pause} -> not paused", decision)
    return True


def end_pause(session: Session) -> bool:
    """End the first pause whose time is over, as `resume` does; return whether there was one.

    By the clock of the database. One in a transaction: the audit trail is its last lock.
    """
    now = database_time(session)
    target = (
        _over(session, Cluster, now) or _over(session, Node, now) or _over(session, Network, now)
    )
    if target is None:
        return False
    decision = Decision(CONTROLLER, None, now)
    change = f"{describe_pause(target)} -> not paused: its time is over"
    _clear_pause(target)
    _make_due(session, target, "the pause has ended", decision)
    _record(session, target, Stage.RESUMED, change, decision)
    return True


def set_mode(session: Session, target: Target, decision: Decision, *, mode: Mode | None) -> bool:
    """Set a mode (None: remove it), and make the nodes concerned due; return False if nothing changes."""
    lock(session, target)
    if target.mode is mode or is_recorded(session, decision):
        return False
    change = f"mode {target.mode or _DEFAULT} -> {mode or _DEFAULT}"
    target.mode = mode
    target.mode_at, target.mode_by = decision.at, decision.who
    target.mode_reason = decision.reason
    _make_due(session, target, f"{change} by {decision.who}", decision)
    _record(session, target, Stage.MODE_CHANGED, change, decision)
    return True


def lock(session: Session, target: Target) -> None:
    """Lock a target's row for the rest of the transaction, and read its current values.

    The order of locks is: the cluster, nodes, due rows, the audit trail.
    """
    kind = type(target)
    session.execute(
        select(kind)
        .where(kind.id == target.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one()


def is_recorded(session: Session, decision: Decision) -> bool:
    """Whether the decision was carried out before; to be asked while its target is locked."""
    if decision.id is None:
        return False
    row = select(AuditRow.id).where(AuditRow.entry_id == decision.id)
    return session.scalar(row) is not None


def describe(target: Target) -> str:
    """Return a target's name with its kind: `node one`."""
    if isinstance(target, Node):
        return f"node {target.hostname}"
    return "the cluster" if isinstance(target, Cluster) else f"network {target.name}"


def _over(session: Session, kind: type[Kind], now: datetime) -> Kind | None:
    """Return one whose pause should have ended, locked."""
    over = select(kind).where(kind.paused_until <= now).order_by(kind.id).limit(1)
    return session.scalar(over.with_for_update(key_share=True, skip_locked=True))


def _clear_pause(target: Target) -> None:
    target.paused_at = target.paused_until = None
    target.paused_by = target.paused_reason = None


def _make_due(
    session: Session,
    target: Target,
    reason: str,
    decision: Decision,
    *,
    despite_pause: bool = False,
) -> None:
    concerned = _concerned(session, target)
    queue.request(
        session,
        concerned,
        at=decision.at,
        priority=Priority.CHANGE,
        reason=reason,
        despite_pause=despite_pause,
    )


def _concerned(session: Session, target: Target) -> Sequence[str]:
    """Return the ids of the nodes for which the decision may change something."""
    if isinstance(target, Node):
        return [target.id]
    if isinstance(target, Cluster):
        return session.scalars(select(Node.id).where(Node.gone_at.is_(None))).all()
    return session.scalars(
        select(Device.node_id)
        .join(Node, Node.id == Device.node_id)
        .where(Device.vni.in_([row.vni for row in target.vnis]), Node.gone_at.is_(None))
        .distinct()
    ).all()


def _record(
    session: Session, target: Target, stage: Stage, change: str, decision: Decision
) -> None:
    entry = Entry(
        id=decision.id,
        stage=stage,
        at=decision.at,
        actor=decision.actor,
        claimed_name=decision.claimed_name,
        reason=decision.describe(f"{describe(target)}: {change}"),
        node=target if isinstance(target, Node) else None,
        network=target if isinstance(target, Network) else None,
    )
    append(session, [entry], decision.at)
