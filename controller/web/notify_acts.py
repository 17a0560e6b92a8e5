"""What a person can do with a notification target on a page: in words, and carried out once."""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, TypeVar
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.access.roles import Identity
from controller.access.store import By
from controller.api.answers.notifications import TrialAnswer
from controller.api.parameters import ActorAndReason, ParameterError
from controller.api.routes.notifications import TRIAL_SECONDS
from controller.db.audit_models import AuditRow
from controller.db.notification_models import NotificationTarget
from controller.db.states import TargetKind
from controller.notifications import targets
from controller.notifications.send import Outgoing, Parcel
from controller.notifications.targets import MAX_MUTE
from controller.web.acts import Field_, Form, end_of
from controller.web.pages import utc

BACK: Final = "/notifications"
_IDS: Final = UUID("0b1f4a63-3a8e-4e0c-9d55-7d1f8c3f2b60")
"""The namespace of audit rows that these pages make."""

_REMEMBERED: Final = 50
_WAIT_SECONDS: Final = 2 * TRIAL_SECONDS

Result = TypeVar("Result")


class NotifyAct(StrEnum):
    """An act; the last part of its path."""

    TEST = "test"
    MUTE = "mute"
    UNMUTE = "unmute"


_TITLES: Final = {
    NotifyAct.TEST: "Send a test to",
    NotifyAct.MUTE: "Mute",
    NotifyAct.UNMUTE: "Unmute",
}


class Typed(BaseModel):
    """The fields of a form as they were typed, right or wrong.

    Attributes:
        target: its name.
        end: of a mute: a duration, or an ISO time with a zone.
        once: a UUID for each form: the same act with the same one and the same fields is carried out once.
    """

    model_config = ConfigDict(extra="forbid")

    target: Field_ = ""
    reason: Field_ = ""
    end: Field_ = ""
    once: Field_ = ""


def title(act: NotifyAct, name: str) -> str:
    """Return what an act is called."""
    return f"{_TITLES[act]} notification target {name}"


def form(session: Session, act: NotifyAct, typed: Typed, now: datetime) -> Form:
    """Return what a form says; raise `NoTargetError` if there is no such target."""
    row = targets.find(session, typed.target)
    return Form(
        title=title(act, row.name),
        name=row.name,
        back=BACK,
        effects=_effects(act, row, now),
        now=_now(row, now),
    )


def _effects(act: NotifyAct, row: NotificationTarget, now: datetime) -> Sequence[str]:
    where = f"{row.name} ({row.kind}, {targets.shown_address(row)})"
    if act is NotifyAct.TEST:
        return [
            f"A test is sent to {where} now, muted or not.",
            f"Its answer is shown, at the latest after {TRIAL_SECONDS:g} seconds.",
            "No other target is told, and nothing else changes.",
        ]
    if act is NotifyAct.MUTE:
        if row.kind is TargetKind.HEARTBEAT:
            return [
                "Nothing: a heartbeat cannot be muted, as its receiver would call. Mute it there."
            ]
        return [
            f"Nothing is sent to {where} until the mute ends.",
            "Problems that are still there are told then. What is over by then is never told.",
            "Other targets are told as before.",
        ]
    if not _is_muted(row, now):
        return [f"{row.name} is not muted, so this changes nothing."]
    return [f"{where} is told again at once, also of problems that are there now."]


def _now(row: NotificationTarget, now: datetime) -> Sequence[str]:
    if not _is_muted(row, now) or row.muted_until is None:
        return []
    why = f": {row.muted_reason}" if row.muted_reason else ""
    return [f"It is muted by {row.muted_by or 'somebody'} until {utc(row.muted_until)}{why}."]


def _is_muted(row: NotificationTarget, now: datetime) -> bool:
    return row.muted_until is not None and row.muted_until > now


def mute_or_unmute(session: Session, caller: Identity, act: NotifyAct, typed: Typed) -> None:
    """Do what a form says, by the function of the API's route; a second time it does nothing more.

    Raises:
        ValueError: a field is invalid (pydantic's `ValidationError`, too).
        ParameterError, TargetError, NoTargetError: as the route answers.
    """
    by, reason = _by(caller, act, typed), _reason(typed)
    if act is NotifyAct.MUTE:
        until = by.at + _length(typed.end, by.at)
        _once(
            session,
            typed,
            by,
            lambda: targets.mute(session, typed.target, by, until=until, reason=reason),
        )
    else:
        _once(session, typed, by, lambda: targets.unmute(session, typed.target, by, reason))


def to_test(session: Session, caller: Identity, typed: Typed, outgoing: Outgoing) -> Parcel | None:
    """Record a test and return what to send; None: this form was sent before. Raises as `mute_or_unmute`."""
    by, reason = _by(caller, NotifyAct.TEST, typed), _reason(typed)
    return _once(
        session,
        typed,
        by,
        lambda: targets.to_test(session, typed.target, by, outgoing, reason=reason),
    )


def _once(session: Session, typed: Typed, by: By, change: Callable[[], Result]) -> Result | None:
    targets.find(session, typed.target)  # Locked: another one waits here, and finds the row.
    row = select(AuditRow.id).where(AuditRow.entry_id == by.id)
    return change() if session.scalar(row) is None else None


def _reason(typed: Typed) -> str | None:
    if not typed.reason.strip():
        raise ParameterError("reason", "is missing", "say why: the audit trail keeps it")
    return ActorAndReason(reason=typed.reason).reason


def _length(text: str, now: datetime) -> timedelta:
    end = end_of(text)
    if not end:
        raise ParameterError("for how long", "is missing", "such as 30m, 2h or 3d")
    length = (
        datetime.fromisoformat(str(end["until"])) - now
        if "until" in end
        else timedelta(seconds=float(end["seconds"]))
    )
    if not timedelta(seconds=1) <= length <= MAX_MUTE:
        raise ValueError(f"for how long: a mute lasts up to {MAX_MUTE.days} days")
    return length


def id_of(caller: Identity, act: NotifyAct, typed: Typed) -> UUID:
    """Return the id of the act's audit row: no form of another person, act or target can have the same.

    Raises:
        ValueError: `once` is no UUID.
    """
    said = [caller.name, act.value, typed.target, str(UUID(typed.once)), typed.end, typed.reason]
    return uuid5(_IDS, json.dumps(said))


def _by(caller: Identity, act: NotifyAct, typed: Typed) -> By:
    return By(caller.name, None, datetime.now(UTC), id_of(caller, act, typed))


def recorded(session: Session, id_: UUID) -> Sequence[AuditRow]:
    """Return the audit row that an act made, if it made one."""
    return session.scalars(select(AuditRow).where(AuditRow.entry_id == id_)).all()


class Trials:
    """The answers of the last tests, so that a form that is sent twice shows the same one."""

    def __init__(self) -> None:
        self._answers: OrderedDict[UUID, Future[TrialAnswer | None]] = OrderedDict()
        self._lock = threading.Lock()

    def once(self, id_: UUID, send: Callable[[], TrialAnswer | None]) -> TrialAnswer | None:
        """Return what the first call with this id sent, and was answered; None: not known here."""
        with self._lock:
            found = self._answers.get(id_)
            if found is None:
                own = self._answers[id_] = Future()
                if len(self._answers) > _REMEMBERED:
                    self._answers.popitem(last=False)
        if found is not None:
            with suppress(TimeoutError):
                return found.result(_WAIT_SECONDS)
            return None
        try:
            answer = send()
        except BaseException as error:
            with self._lock:
                self._answers.pop(id_, None)
            own.set_exception(error)
            raise
        own.set_result(answer)
        return answer
