"""Reminders: who is told again of what is wrong for long, all of it at once. Pure.

A target's reminders come in rounds: when the first problem is due, all that last are told together, so there
is one round in the target's interval at most, however many problems there are and whenever they began.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from controller.db.notification_models import NotificationTarget, OpenProblem
from controller.notifications.events import Event
from controller.notifications.outbox import wants


class Round(NamedTuple):
    """What a target is reminded of."""

    target: NotificationTarget
    problems: Sequence[OpenProblem]


def rounds(
    targets: Iterable[NotificationTarget], problems: Sequence[OpenProblem], now: datetime
) -> Iterator[Round]:
    """Yield the rounds that are due.

    Args:
        problems: that were just seen to be there; those that were not told yet are left out.
    """
    reported = [row for row in problems if row.reported_at is not None]
    for target in targets:
        # What waits for a target that fails says the same; it is reminded so long after it took that.
        if target.remind_seconds is None or target.failing_since is not None:
            continue
        if target.muted_until is not None and target.muted_until > now:
            continue
        interval = timedelta(seconds=target.remind_seconds)
        before = target.reminded_at or target.created_at
        due, lasting = False, []
        for row in reported:
            at = row.reported_at
            if at is None or not wants(target, Event(row.event), row.subject):
                continue
            due |= max(at, before) + interval <= now
            if at <= now - interval / 2:
                lasting.append(row)
        if due:
            yield Round(target, lasting)
