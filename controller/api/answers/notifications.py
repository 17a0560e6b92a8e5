"""Answers about notification targets."""

from datetime import datetime
from typing import Self

from controller.api.answers.base import Answer
from controller.db.notification_models import NotificationTarget
from controller.db.states import TargetKind
from controller.notifications.targets import shown_address


class TargetAnswer(Answer):
    """A notification target, without its secrets."""

    name: str
    kind: TargetKind
    address: str
    """Mail addresses, or a URL up to its host: what is behind it is often a secret."""
    events: list[str] | None
    """Events that it is told; null: all."""
    template: str | None
    """Of the text; null: the built-in one."""
    every_seconds: float | None
    """Of a heartbeat: the time between two; null: of another kind."""
    remind_seconds: float | None
    """After so long a problem that lasts is told again; null: never."""
    created_at: datetime
    created_by: str
    muted_until: datetime | None
    """Nothing is sent to it until then; null: it is not muted."""
    muted_by: str | None
    muted_reason: str | None
    rotation_until: datetime | None
    """Until then the former secret signs too; null: there is none."""
    waiting: int
    """Notifications that it has not taken yet."""
    delivered_at: datetime | None
    """When it last took something; null: never."""
    failing_since: datetime | None
    """Since when attempts fail; null: the last one succeeded, or there was none."""
    error: str | None
    """Of the last attempt; null: it succeeded."""
    retry_at: datetime | None
    """Nothing is sent to it before; null: it may be now."""
    given_up: int
    """Notifications that it did not take for a day, ever."""
    given_up_at: datetime | None

    @classmethod
    def of(cls, row: NotificationTarget, now: datetime, waiting: int = 0) -> Self:
        """Build an answer; a mute or rotation that has ended is none."""
        muted = row.muted_until is not None and row.muted_until > now
        rotates = row.former_until is not None and row.former_until > now
        return cls.from_row(
            row,
            address=shown_address(row),
            waiting=waiting,
            rotation_until=row.former_until if rotates else None,
            **{} if muted else dict.fromkeys(("muted_until", "muted_by", "muted_reason")),
        )


class NewTargetAnswer(TargetAnswer):
    """A target with a new secret, which is shown this once."""

    secret: str | None
    """`whsec_...` of Standard Webhooks, for the receiver; null: the kind is not signed."""

    @classmethod
    def of_new(cls, row: NotificationTarget, now: datetime) -> Self:
        """Build an answer that shows the secret."""
        return cls(**TargetAnswer.of(row, now).model_dump(), secret=row.secret)


class TrialAnswer(Answer):
    """What a target answered to a test."""

    taken: bool
    status: int | None
    """Of HTTP; null: there was no answer, or the kind has none."""
    lines: list[str]
    """The first lines of its answer, without control characters."""
    error: str | None
    """Why it was not taken; null: it was."""
