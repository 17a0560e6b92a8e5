"""What people do with targets: add, list, mute, unmute, rotate the secret, remove; all in the audit trail."""

import base64
import re
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import uuid4

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.orm import Session

from contract.verdicts import Stage
from controller.access.store import By
from controller.access.tokens import NAME_PATTERN
from controller.audit.append import Entry, append, head_of
from controller.db.models import Cluster
from controller.db.notification_models import (
    Delivery,
    Gathering,
    Notice,
    NotificationPosition,
    NotificationTarget,
    OpenProblem,
)
from controller.db.states import DeliveryState, TargetKind
from controller.notifications import mail, third_party
from controller.notifications.addresses import endpoint_of
from controller.notifications.errors import TargetError
from controller.notifications.events import TEST, Event
from controller.notifications.message import check_template, iso, values_of
from controller.notifications.outbox import parcel_of
from controller.notifications.send import Outgoing, Parcel

MAX_TARGETS: Final = 50
MAX_MUTE: Final = timedelta(days=30)
ROTATION: Final = timedelta(days=1)
"""For so long the former secret signs beside the new one."""
HEARTBEAT_SECONDS: Final = 60.0
REMIND: Final = timedelta(days=1)
"""Unless the target says otherwise: who was called and forgot it is called again, and nobody every night."""
MIN_REMIND: Final = timedelta(minutes=10)
MAX_REMIND: Final = timedelta(days=30)
_LOCK: Final = 0x7678_6E6F_74
"""PostgreSQL's advisory lock of those that add a target."""
_MAX_RECIPIENTS: Final = 20
_MAIL: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}")
_SIGNED: Final = frozenset({TargetKind.WEBHOOK})


class TargetTakenError(Exception):
    """There is a target with this name."""

    hint = "choose another name, or remove it first: `vxctl notify remove NAME`"


class NoTargetError(Exception):
    """There is no target with this name."""

    hint = "`vxctl notify list` shows all targets"


class New(NamedTuple):
    """A target as it is to be added; see the table's columns."""

    name: str
    kind: TargetKind
    address: str
    events: Sequence[Event] | None = None
    template: str | None = None
    every_seconds: float | None = None
    remind_seconds: float | None = None
    """None: as usual; 0: never."""


def checked(new: New, outgoing: Outgoing) -> New:
    """Return a target with its address in the form that is stored; takes up to seconds for apprise.

    Raises:
        TargetError: it cannot be as it is given.
    """
    address = _stored_address(new, outgoing)
    if new.template is not None:
        check_template(new.template)
    return new._replace(address=address)


def add(session: Session, new: New, by: By, *, reason: str | None = None) -> NotificationTarget:
    """Add a target, with a secret if its kind signs.

    Args:
        new: `checked`, before the transaction, which other writers wait for.

    Raises:
        TargetError: there are too many.
        TargetTakenError: there is one with this name.
    """
    if session.get_bind().dialect.name == "postgresql":
        # Else two at once would not see each other: their name, their number, or that one is the first.
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    if _is_taken(session, new.name):
        raise TargetTakenError(f"there is a target {new.name!r} already")
    if (session.scalar(select(func.count(NotificationTarget.id))) or 0) >= MAX_TARGETS:
        raise TargetError(
            f"there are {MAX_TARGETS} targets already", "remove one that nobody needs"
        )
    heartbeat = new.kind is TargetKind.HEARTBEAT
    if not heartbeat and not _has_others(session):
        _begin_here(session)
    row = NotificationTarget(
        name=new.name,
        kind=new.kind,
        address=new.address,
        events=None if new.events is None else sorted({event.value for event in new.events}),
        template=new.template,
        secret=_secret() if new.kind in _SIGNED else None,
        every_seconds=(new.every_seconds or HEARTBEAT_SECONDS) if heartbeat else None,
        remind_seconds=None if heartbeat else _remind_seconds(new),
        created_at=by.at,
        created_by=by.actor,
        failures=0,
        given_up=0,
    )
    session.add(row)
    _record(session, f"{describe(row)} added{_why(reason)}", by)
    return row


def _stored_address(new: New, outgoing: Outgoing) -> str:
    """Return the address in the form that is stored."""
    heartbeat = new.kind is TargetKind.HEARTBEAT
    if heartbeat and (new.events is not None or new.template is not None):
        raise TargetError("a heartbeat has no events and no template", "leave them out")
    if heartbeat and new.remind_seconds is not None:
        raise TargetError("a heartbeat reminds of nothing", "leave it out")
    if not heartbeat and new.every_seconds is not None:
        raise TargetError("only a heartbeat has an interval", "leave it out")
    if new.remind_seconds and not MIN_REMIND <= timedelta(seconds=new.remind_seconds) <= MAX_REMIND:
        raise TargetError(
            "reminders come every 10 minutes to 30 days",
            "give a time such as 4h or 1d, or off for none",
        )
    if new.kind is TargetKind.EMAIL:
        if outgoing.smtp is None:
            raise TargetError(
                mail.NO_SERVER, "set it, restart the controllers, and add the target again"
            )
        recipients = [part.strip() for part in new.address.split(",")]
        if len(recipients) > _MAX_RECIPIENTS:
            raise TargetError(f"over {_MAX_RECIPIENTS} recipients", "use a mailing list's address")
        for recipient in recipients:
            if _MAIL.fullmatch(recipient) is None:
                hint = "write it as ops@example.com, several separated by commas"
                raise TargetError(f"{recipient[:80]!r} is no mail address", hint)
        return ",".join(recipients)
    if new.kind is TargetKind.APPRISE:
        third_party.check(new.address)
    else:
        endpoint_of(new.address)
    return new.address


def _remind_seconds(new: New) -> float | None:
    seconds = REMIND.total_seconds() if new.remind_seconds is None else new.remind_seconds
    return seconds or None


def _is_taken(session: Session, name: str) -> bool:
    same = select(NotificationTarget.id).where(NotificationTarget.name == name)
    return session.scalar(same) is not None


def _has_others(session: Session) -> bool:
    others = select(NotificationTarget.id).where(NotificationTarget.kind != TargetKind.HEARTBEAT)
    return session.scalar(others.limit(1)) is not None


def _begin_here(session: Session) -> None:
    """Let the first target hear of what comes, and of what is wrong now; nothing was followed without one."""
    session.execute(delete(OpenProblem))
    session.execute(delete(Gathering))
    session.execute(delete(NotificationPosition))
    session.add(NotificationPosition(id=1, position=head_of(session).position))


def listed(session: Session) -> Sequence[NotificationTarget]:
    """Return all targets by name."""
    return session.scalars(select(NotificationTarget).order_by(NotificationTarget.name)).all()


def waiting(session: Session) -> dict[int, int]:
    """Return how many notices wait for each target, by its id."""
    rows = session.execute(
        select(Delivery.target_id, func.count())
        .where(Delivery.done_at.is_(None))
        .group_by(Delivery.target_id)
    )
    return {target_id: count for target_id, count in rows.all()}  # noqa: C416 -- mypy knows no dict(rows)


def waiting_since(session: Session) -> dict[int, datetime]:
    """Return since when the oldest notice that waits for a target does, by the target's id."""
    rows = session.execute(
        select(Delivery.target_id, func.min(Notice.created_at))
        .join(Notice, Notice.id == Delivery.notice_id)
        .where(Delivery.done_at.is_(None))
        .group_by(Delivery.target_id)
    )
    return {target_id: at for target_id, at in rows.all()}  # noqa: C416 -- mypy knows no dict(rows)


def find(session: Session, name: str) -> NotificationTarget:
    """Return the target of a name, locked; raise `NoTargetError` if there is none."""
    row = None
    if re.fullmatch(NAME_PATTERN, name) is not None:
        row = session.scalar(
            select(NotificationTarget).where(NotificationTarget.name == name).with_for_update()
        )
    if row is None:
        raise NoTargetError(f"there is no notification target {name!r}")
    return row


def mute(
    session: Session, name: str, by: By, *, until: datetime, reason: str | None
) -> NotificationTarget:
    """Send nothing to a target until a time; problems that are still there are told then.

    Raises:
        NoTargetError: there is none.
        TargetError: it cannot be muted, or not for so long.
    """
    row = find(session, name)
    if row.kind is TargetKind.HEARTBEAT:
        raise TargetError(
            "a heartbeat cannot be muted: its receiver would call", "mute it at the receiver"
        )
    if not by.at < until <= by.at + MAX_MUTE:
        raise TargetError(f"a mute lasts up to {MAX_MUTE.days} days", "give --for 2h or so")
    row.muted_until, row.muted_by, row.muted_reason = until, by.actor, reason
    _hold(session, row)
    _record(session, f"{describe(row)} muted until {iso(until)}{_why(reason)}", by)
    return row


def _hold(session: Session, row: NotificationTarget) -> None:
    """Hold what waits about problems: they may be over by the end of the mute."""
    states = [event.value for event in Event if event not in _DONE]
    ids = select(Notice.id).where(Notice.event.in_(states))
    session.execute(
        update(Delivery)
        .where(
            Delivery.target_id == row.id,
            Delivery.state == DeliveryState.PENDING,
            Delivery.notice_id.in_(ids),
        )
        .values(state=DeliveryState.HELD)
    )


_DONE: Final = frozenset({Event.ORPHAN_REMOVED, Event.REMOVAL_FAILED})


def unmute(session: Session, name: str, by: By, reason: str | None = None) -> NotificationTarget:
    """End a mute; raise `NoTargetError` if there is no such target."""
    row = find(session, name)
    if row.muted_until is not None:
        muted = row.muted_until > by.at
        row.muted_until = row.muted_by = row.muted_reason = None
        if muted:
            _record(session, f"{describe(row)} unmuted{_why(reason)}", by)
    return row


def rotate(session: Session, name: str, by: By, reason: str | None = None) -> NotificationTarget:
    """Give a target another secret; the former signs beside it for a day.

    Raises:
        NoTargetError: there is none.
        TargetError: its kind has no secret.
    """
    row = find(session, name)
    if row.secret is None:
        raise TargetError(
            f"a target of kind {row.kind} has no secret of ours",
            "only webhooks are signed; for a new URL, remove the target and add it again",
        )
    row.former_secret, row.former_until = row.secret, by.at + ROTATION
    row.secret = _secret()
    change = f"new secret, the former signs until {iso(row.former_until)}{_why(reason)}"
    _record(session, f"{describe(row)}: {change}", by)
    return row


def remove(session: Session, name: str, by: By, reason: str | None = None) -> NotificationTarget:
    """Remove a target, and what waits for it; raise `NoTargetError` if there is none."""
    row = find(session, name)
    session.execute(delete(Delivery).where(Delivery.target_id == row.id))
    session.delete(row)
    _record(session, f"{describe(row)} removed{_why(reason)}", by)
    return row


def to_test(
    session: Session, name: str, by: By, outgoing: Outgoing, *, reason: str | None = None
) -> Parcel:
    """Return a test for a target, and record it; raise `NoTargetError` if there is no such target."""
    row = find(session, name)
    cluster = session.get(Cluster, 1)
    values = values_of(
        title="Test of a notification",
        event=TEST,
        state="done",
        where=f"target {row.name}",
        why=f"{by.actor} asked for it",
        todo="nothing: this is what notifications look like",
        link=f"{outgoing.public_url}/" if outgoing.public_url else "",
        time=iso(by.at),
        count=1,
        swarm="" if cluster is None else cluster.swarm_id,
    )
    _record(session, f"{describe(row)} tested{_why(reason)}", by)
    id_ = uuid4()
    return parcel_of(row, id_=id_, notice_id=id_, created_at=by.at, values=values, now=by.at)


def describe(row: NotificationTarget) -> str:
    """Return a target for people: its kind, name, and where it is, without what may be secret."""
    return f"notification target {row.name} ({row.kind}, {shown_address(row)})"


def shown_address(row: NotificationTarget) -> str:
    """Return where a target is, without what may be secret."""
    if row.kind is TargetKind.EMAIL:
        return row.address.replace(",", ", ")
    if row.kind is TargetKind.APPRISE:
        return f"{row.address.partition('://')[0]}://***"
    return endpoint_of(row.address).shown


def _secret() -> str:
    """Return a secret as Standard Webhooks writes it: 256 random bits."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _why(reason: str | None) -> str:
    return "" if reason is None else f": {reason}"


def _record(session: Session, change: str, by: By) -> None:
    entry = Entry(
        id=by.id,
        stage=Stage.NOTIFY_CHANGED,
        at=by.at,
        reason=change,
        actor=by.actor,
        claimed_name=by.claimed_name,
    )
    append(session, [entry], by.at)
