"""Routes about notification targets: add, list, test, mute, unmute, rotate, remove."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path
from pydantic import AfterValidator, Field

from contract.runtime.text import printable
from controller.access.roles import Identity
from controller.access.store import By
from controller.access.tokens import NAME_PATTERN, checked_name
from controller.api.access import ADMIN, OPERATE, READ, Caller
from controller.api.answers.base import ListAnswer
from controller.api.answers.notifications import NewTargetAnswer, TargetAnswer, TrialAnswer
from controller.api.context import Context
from controller.api.parameters import ActorAndReason, Form, NotReserved
from controller.api.problem_types import BUSY, NAME_TAKEN, TARGET_REFUSED, UNKNOWN, may_answer
from controller.db.states import TargetKind
from controller.notifications import targets
from controller.notifications.errors import Answer, DeliveryError
from controller.notifications.events import Event
from controller.notifications.message import MAX_TEMPLATE
from controller.notifications.send import Outgoing, Parcel, Sender
from controller.notifications.targets import MAX_MUTE, New

_NOBODY: Final = ActorAndReason()
TRIAL_SECONDS: Final = 7.0
"""Clients wait for an answer for ten."""
_MAX_LINES: Final = 5
_MAX_LINE: Final = 200

Name = Annotated[str, Path(max_length=64, description="name of a target")]


class TargetBody(ActorAndReason):
    """A new target."""

    name: Annotated[
        str,
        Field(description="to be called by", pattern=NAME_PATTERN),
        AfterValidator(checked_name),
        NotReserved(),
    ]
    kind: TargetKind
    address: Annotated[
        str,
        Field(
            min_length=1,
            max_length=2000,
            description="a URL; of kind email: addresses separated by commas",
        ),
        Form(r"^[^\u0000-\u001f\u007f-\u009f]*$", "must not contain control characters"),
    ]
    events: Annotated[
        list[Event] | None, Field(min_length=1, max_length=50, description="to be told; null: all")
    ] = None
    template: Annotated[
        Annotated[
            str,
            Field(min_length=1, max_length=MAX_TEMPLATE),
            Form(
                r"^[^\u0000-\u0009\u000b-\u001f\u007f-\u009f]*$",
                "must not contain control characters but line ends",
            ),
        ]
        | None,
        Field(description="of the text, with $variables; null: the built-in one"),
    ] = None
    every_seconds: Annotated[
        float | None,
        Field(ge=10, le=86_400, description="of a heartbeat: the time between two; null: 60 s"),
    ] = None
    remind_seconds: Annotated[
        float | None,
        Field(
            ge=0,
            le=targets.MAX_REMIND.total_seconds(),
            description="a problem that lasts is told again after so long, 600 or more; "
            "0: never; null: a day",
        ),
    ] = None


class MuteBody(ActorAndReason):
    """How long a target is muted, and why."""

    seconds: Annotated[
        float, Field(ge=1, le=MAX_MUTE.total_seconds(), description="length of the mute")
    ]


def routes(context: Context) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["notifications"])
    database, outgoing = context.database, context.outgoing
    send = trial_sender(outgoing)

    @router.get("/notifications", dependencies=[READ])
    def list_notification_targets() -> ListAnswer[TargetAnswer]:
        """List the notification targets, without their secrets, by name."""
        now = datetime.now(UTC)
        with database.read() as session:
            waiting = targets.waiting(session)
            items = [
                TargetAnswer.of(row, now, waiting.get(row.id, 0)) for row in targets.listed(session)
            ]
        return ListAnswer(items=items, next=None)

    @router.post(
        "/notifications",
        status_code=201,
        responses=may_answer(NAME_TAKEN, TARGET_REFUSED),
        dependencies=[ADMIN],
    )
    def add_notification_target(caller: Caller, body: TargetBody) -> NewTargetAnswer:
        """Add a target; its secret, if it has one, is in this answer and nowhere else."""
        new = New(
            body.name,
            body.kind,
            body.address,
            body.events,
            body.template,
            body.every_seconds,
            body.remind_seconds,
        )
        by = _by(caller, body)
        new = targets.checked(new, outgoing)
        with database.write() as session:
            row = targets.add(session, new, by, reason=body.reason)
            return NewTargetAnswer.of_new(row, by.at)

    @router.post(
        "/notifications/{name}/test",
        responses=may_answer(UNKNOWN, BUSY),
        dependencies=[OPERATE, Depends(context.turns.notify)],
    )
    def test_notification_target(
        caller: Caller, name: Name, body: ActorAndReason = _NOBODY
    ) -> TrialAnswer:
        """Send a test to a target, muted or not, and return what it answered."""
        with database.write() as session:
            by = _by(caller, body)
            parcel = targets.to_test(session, name, by, outgoing, reason=body.reason)
        return tried(send, parcel)

    @router.post(
        "/notifications/{name}/mute",
        responses=may_answer(UNKNOWN, TARGET_REFUSED),
        dependencies=[OPERATE],
    )
    def mute_notification_target(caller: Caller, name: Name, body: MuteBody) -> TargetAnswer:
        """Send nothing to a target for a while; problems that are still there are told then."""
        by = _by(caller, body)
        until = by.at + timedelta(seconds=body.seconds)
        with database.write() as session:
            row = targets.mute(session, name, by, until=until, reason=body.reason)
            return TargetAnswer.of(row, by.at, targets.waiting(session).get(row.id, 0))

    @router.post(
        "/notifications/{name}/unmute", responses=may_answer(UNKNOWN), dependencies=[OPERATE]
    )
    def unmute_notification_target(
        caller: Caller, name: Name, body: ActorAndReason = _NOBODY
    ) -> TargetAnswer:
        """End the mute of a target."""
        by = _by(caller, body)
        with database.write() as session:
            row = targets.unmute(session, name, by, body.reason)
            return TargetAnswer.of(row, by.at, targets.waiting(session).get(row.id, 0))

    @router.post(
        "/notifications/{name}/rotate",
        responses=may_answer(UNKNOWN, TARGET_REFUSED),
        dependencies=[ADMIN],
    )
    def rotate_notification_secret(
        caller: Caller, name: Name, body: ActorAndReason = _NOBODY
    ) -> NewTargetAnswer:
        """Give a target another secret, shown this once; the former signs beside it for a day."""
        by = _by(caller, body)
        with database.write() as session:
            return NewTargetAnswer.of_new(targets.rotate(session, name, by, body.reason), by.at)

    @router.post(
        "/notifications/{name}/remove", responses=may_answer(UNKNOWN), dependencies=[ADMIN]
    )
    def remove_notification_target(
        caller: Caller, name: Name, body: ActorAndReason = _NOBODY
    ) -> TargetAnswer:
        """Remove a target, and what waits for it."""
        by = _by(caller, body)
        with database.write() as session:
            return TargetAnswer.of(targets.remove(session, name, by, body.reason), by.at)

    return router


def trial_sender(outgoing: Outgoing) -> Sender:
    """Return what sends tests: somebody waits for the answer."""
    return Sender(replace(outgoing, seconds=min(outgoing.seconds, TRIAL_SECONDS)))


def tried(send: Sender, parcel: Parcel) -> TrialAnswer:
    """Send a test, and return what its target answered."""
    try:
        answer = send(parcel)
    except DeliveryError as error:
        return _trial(error.answer, printable(str(error)))
    return _trial(answer, None)


def _trial(answer: Answer | None, error: str | None) -> TrialAnswer:
    text = "" if answer is None else answer.text
    lines = [printable(line)[:_MAX_LINE] for line in text.splitlines()[:_MAX_LINES]]
    status = None if answer is None else answer.status
    return TrialAnswer(taken=error is None, status=status, lines=lines, error=error)


def _by(caller: Identity, body: ActorAndReason) -> By:
    return By(caller.name, body.claimed_name, datetime.now(UTC))
