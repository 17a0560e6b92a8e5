"""The outbox: which notices wait for which targets, what is due, and what became of it."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from contract.runtime.text import printable, redacted
from controller.db.notification_models import Delivery, NotificationTarget, OpenProblem
from controller.db.notification_models import Notice as NoticeRow
from controller.db.states import DeliveryState, TargetKind
from controller.notifications.events import TEXTS, Event
from controller.notifications.message import Values
from controller.notifications.send import Parcel

GIVE_UP_AFTER: Final = timedelta(days=1)
KEPT_FOR: Final = timedelta(days=7)
"""Deliveries that are done, for people who ask what was sent."""
MAX_WAITING: Final = 2000
"""For one target; of more, the oldest are given up."""
_FIRST_WAIT: Final = timedelta(seconds=5)
_LONGEST_WAIT: Final = timedelta(hours=1)
_LONGEST_REST: Final = timedelta(minutes=5)
"""Of a target: another notice may fare better than the one that it refuses."""
_MAX_ERROR: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something to tell; see the table's columns."""

    event: Event
    values: Values
    subject: str | None = None
    resolved: bool = False

    @property
    def is_state(self) -> bool:
        """Whether it says that a problem is there, or over."""
        return bool(TEXTS[self.event].over)


def put(
    session: Session,
    notices: Sequence[Notice],
    targets: Sequence[NotificationTarget],
    now: datetime,
) -> int:
    """Store notices with a delivery for each target that wants them; return the number of deliveries."""
    made = 0
    for index, notice in enumerate(notices):
        at = now + timedelta(microseconds=index)  # For their order.
        states = {}
        for target in targets:
            state = _state(session, notice, target, now)
            if state is not None:
                states[target.id] = state
        if not states:
            continue
        row = NoticeRow(
            id=uuid4(),
            created_at=at,
            event=notice.event.value,
            subject=notice.subject,
            resolved=notice.resolved,
            values=dict(notice.values),
        )
        session.add(row)
        session.flush()
        session.add_all(
            Delivery(
                id=uuid4(),
                notice_id=row.id,
                target_id=target_id,
                state=state,
                attempts=0,
                next_at=now,
                give_up_at=now + GIVE_UP_AFTER,
            )
            for target_id, state in states.items()
        )
        made += len(states)
    return made


def _state(
    session: Session, notice: Notice, target: NotificationTarget, now: datetime
) -> DeliveryState | None:
    """Return the state of a notice's delivery to a target; None: it gets none."""
    if not wants(target, notice.event, notice.subject):
        return None
    if notice.resolved and notice.subject is not None and _take_back(session, notice, target):
        return None
    if target.muted_until is None or target.muted_until <= now:
        return DeliveryState.PENDING
    return DeliveryState.HELD if notice.is_state else None


def wants(target: NotificationTarget, event: Event, subject: str | None) -> bool:
    """Whether a target is told of an event: not of what it was not added for, and not that itself fails."""
    if target.kind is TargetKind.HEARTBEAT:
        return False
    if event is Event.TARGET_FAILS and subject == str(target.id):
        return False
    return target.events is None or event.value in target.events


def _take_back(session: Session, notice: Notice, target: NotificationTarget) -> bool:
    """Delete the held notice of a problem that is over; return whether there was one."""
    held = session.scalars(
        select(Delivery.id)
        .join(NoticeRow, NoticeRow.id == Delivery.notice_id)
        .where(
            Delivery.target_id == target.id,
            Delivery.state == DeliveryState.HELD,
            NoticeRow.event == notice.event.value,
            NoticeRow.subject == notice.subject,
            NoticeRow.resolved.is_(False),
        )
    ).all()
    session.execute(delete(Delivery).where(Delivery.id.in_(held)))
    return bool(held)


def to_release(session: Session, now: datetime) -> Sequence[int]:
    """Return the ids of targets that are muted no longer, and have held notices."""
    return session.scalars(
        select(Delivery.target_id)
        .join(NotificationTarget, NotificationTarget.id == Delivery.target_id)
        .where(Delivery.done_at.is_(None), Delivery.state == DeliveryState.HELD, _unmuted(now))
        .distinct()
    ).all()


def release(session: Session, target_ids: Collection[int], now: datetime) -> None:
    """Send what was held, but for problems that are over."""
    is_open = (
        select(OpenProblem.event)
        .where(
            OpenProblem.event == NoticeRow.event,
            or_(OpenProblem.subject == NoticeRow.subject, NoticeRow.subject.is_(None)),
        )
        .exists()
    )
    counts = or_(NoticeRow.resolved, is_open)
    held = and_(Delivery.target_id.in_(target_ids), Delivery.state == DeliveryState.HELD)
    still = (
        select(Delivery.id).join(NoticeRow, NoticeRow.id == Delivery.notice_id).where(held, counts)
    )
    ids = session.scalars(still).all()
    session.execute(
        update(Delivery)
        .where(Delivery.id.in_(ids))
        .values(state=DeliveryState.PENDING, give_up_at=now + GIVE_UP_AFTER)
    )
    session.execute(delete(Delivery).where(held))
    session.execute(
        update(NotificationTarget)
        .where(NotificationTarget.id.in_(target_ids))
        .values(reminded_at=now)
    )


def due(session: Session, now: datetime, busy: Collection[int], limit: int) -> Iterator[Parcel]:
    """Yield what is to be sent now, at most one parcel a target.

    Args:
        busy: ids of targets to which something is on its way.
    """
    waiting = (
        select(Delivery.target_id)
        .where(Delivery.done_at.is_(None), Delivery.state == DeliveryState.PENDING)
        .distinct()
    )
    ready = and_(
        NotificationTarget.id.in_(waiting),
        NotificationTarget.id.not_in(busy),
        _unmuted(now),
        _rested(now),
    )
    # Who waited longest, first: with more targets than threads, each gets its turn.
    order = NotificationTarget.retry_at.asc().nulls_first(), NotificationTarget.id
    for target in session.scalars(select(NotificationTarget).where(ready).order_by(*order)):
        if limit <= 0:
            return
        found = session.execute(
            select(Delivery.id, NoticeRow.id, NoticeRow.created_at, NoticeRow.values)
            .join(NoticeRow, NoticeRow.id == Delivery.notice_id)
            .where(
                Delivery.target_id == target.id,
                Delivery.state == DeliveryState.PENDING,
                Delivery.next_at <= now,
            )
            .order_by(Delivery.next_at, NoticeRow.created_at)
            .limit(1)
        ).one_or_none()
        if found is not None:
            limit -= 1
            id_, notice_id, created_at, values = found
            yield parcel_of(
                target, id_=id_, notice_id=notice_id, created_at=created_at, values=values, now=now
            )


def heartbeats(session: Session, now: datetime, busy: Collection[int]) -> Iterator[Parcel]:
    """Yield the heartbeats that are due."""
    ready = and_(
        NotificationTarget.kind == TargetKind.HEARTBEAT,
        NotificationTarget.id.not_in(busy),
        _rested(now),
    )
    for target in session.scalars(select(NotificationTarget).where(ready)):
        id_ = uuid4()
        yield parcel_of(target, id_=id_, notice_id=id_, created_at=now, values={}, now=now)


def parcel_of(
    target: NotificationTarget,
    *,
    id_: UUID,
    notice_id: UUID,
    created_at: datetime,
    values: Values,
    now: datetime,
) -> Parcel:
    """Return a notice addressed to a target."""
    former = target.former_until is not None and target.former_until > now
    secrets = [target.secret, target.former_secret if former else None]
    return Parcel(
        id=id_,
        notice_id=notice_id,
        target_id=target.id,
        kind=target.kind,
        address=target.address,
        secrets=[secret for secret in secrets if secret is not None],
        template=target.template,
        created_at=created_at,
        values=values,
    )


def _unmuted(now: datetime) -> ColumnElement[bool]:
    until = NotificationTarget.muted_until
    return or_(until.is_(None), until <= now)


def _rested(now: datetime) -> ColumnElement[bool]:
    return or_(NotificationTarget.retry_at.is_(None), NotificationTarget.retry_at <= now)


class Result(NamedTuple):
    """How an attempt ended; `error` None: the target took it."""

    parcel: Parcel
    at: datetime
    error: str | None = None
    retry_after: float | None = None


def record(session: Session, results: Iterable[Result]) -> Mapping[str, int]:
    """Store how attempts ended; return how many were `delivered`, `failed` and `given_up`."""
    counts = {"delivered": 0, "failed": 0, "given_up": 0}
    # In the order in which others lock targets.
    for result in sorted(results, key=lambda result: result.parcel.target_id):
        target = session.get(NotificationTarget, result.parcel.target_id, with_for_update=True)
        delivery = session.get(Delivery, result.parcel.id)
        if target is None:
            continue  # It was removed meanwhile.
        if result.error is None:
            counts["delivered"] += 1
            _succeeded(target, delivery, result.at)
            continue
        given_up = _failed(target, delivery, result)
        counts["given_up" if given_up else "failed"] += 1
    return counts


def _succeeded(target: NotificationTarget, delivery: Delivery | None, at: datetime) -> None:
    if target.failing_since is not None:
        target.reminded_at = at  # It hears only now what was wrong all the time.
    target.delivered_at, target.failures = at, 0
    target.failing_since = target.error = target.retry_at = None
    if target.every_seconds is not None:
        target.retry_at = at + timedelta(seconds=target.every_seconds)
    if delivery is not None:
        delivery.attempts += 1
        delivery.state, delivery.done_at, delivery.error = DeliveryState.DELIVERED, at, None


def _failed(target: NotificationTarget, delivery: Delivery | None, result: Result) -> bool:
    """Note a failure; return whether that was the last attempt."""
    at, error = result.at, printable(redacted(result.error or ""))[:_MAX_ERROR]
    target.failing_since = target.failing_since or at
    target.failures += 1
    target.error = error
    rest = _backoff(target.failures, _LONGEST_REST)
    if target.every_seconds is not None:
        rest = min(rest, timedelta(seconds=target.every_seconds))
    if result.retry_after is not None:
        rest = max(rest, timedelta(seconds=result.retry_after))
    target.retry_at = at + rest
    if delivery is None:
        return False
    delivery.attempts += 1
    delivery.error = error
    delivery.next_at = at + max(rest, _backoff(delivery.attempts, _LONGEST_WAIT))
    if at < delivery.give_up_at:
        return False
    delivery.state, delivery.done_at = DeliveryState.GIVEN_UP, at
    target.given_up += 1
    target.given_up_at = at
    return True


def _backoff(attempts: int, longest: timedelta) -> timedelta:
    return min(_FIRST_WAIT * float(1 << min(attempts - 1, 20)), longest)


def tidy(session: Session, now: datetime) -> None:
    """Give up what is too much for a target, and delete notices that are long done."""
    crowded = session.execute(
        select(Delivery.target_id, func.count())
        .where(Delivery.done_at.is_(None))
        .group_by(Delivery.target_id)
        .having(func.count() > MAX_WAITING)
    ).all()
    for target_id, count in crowded:
        oldest = session.scalars(
            select(Delivery.id)
            .where(Delivery.target_id == target_id, Delivery.done_at.is_(None))
            .order_by(Delivery.next_at)
            .limit(count - MAX_WAITING)
        ).all()
        session.execute(
            update(Delivery)
            .where(Delivery.id.in_(oldest))
            .values(state=DeliveryState.GIVEN_UP, done_at=now, error="too many waited")
        )
        session.execute(
            update(NotificationTarget)
            .where(NotificationTarget.id == target_id)
            .values(given_up=NotificationTarget.given_up + len(oldest), given_up_at=now)
        )
    waits = select(Delivery.id).where(
        Delivery.notice_id == NoticeRow.id, Delivery.done_at.is_(None)
    )
    old = and_(NoticeRow.created_at < now - KEPT_FOR, ~waits.exists())
    session.execute(delete(NoticeRow).where(old))
