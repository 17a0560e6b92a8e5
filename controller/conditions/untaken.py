"""Which targets do not take notifications, as rows say."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from controller.conditions.instant import Instant
from controller.conditions.model import format_time
from controller.db.notification_models import NotificationTarget

_FAILS_FOR: Final = timedelta(seconds=60)
_GIVEN_UP_FOR: Final = timedelta(days=1)
_FAILING: Final = (
    select(NotificationTarget)
    .where(
        or_(
            NotificationTarget.failing_since.is_not(None),
            NotificationTarget.given_up_at.is_not(None),
        )
    )
    .order_by(NotificationTarget.name)
)


def untaken(session: Session, instant: Instant) -> Sequence[str]:
    """Return which targets do not take notifications, or have not taken one within a day."""
    found = []
    for row in session.scalars(_FAILING):
        since, given_up = row.failing_since, row.given_up_at
        fails = since is not None and instant.is_past(since + _FAILS_FOR)
        lately = given_up is not None and not instant.is_past(given_up + _GIVEN_UP_FOR)
        if not (fails or lately):
            continue
        parts = []
        if since is not None:
            parts.append(f"fails since {format_time(since)}: {row.error}")
        if given_up is not None and lately:
            at = format_time(given_up)
            parts.append(f"did not take a notification for a day, which was given up at {at}")
        found.append(f"notification target {row.name} {', and '.join(parts)}")
    return found
