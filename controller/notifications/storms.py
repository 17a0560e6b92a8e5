"""Storms: what happens often within a minute is told a few times one by one, and then as one summary."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from controller.conditions.model import counted
from controller.db.notification_models import Gathering, OpenProblem
from controller.notifications.events import TEXTS, Event
from controller.notifications.notices import Wording
from controller.notifications.outbox import Notice

WINDOW: Final = timedelta(seconds=60)
ONE_BY_ONE: Final = 3
"""In a window, unless more than that come together."""
_MAX_NODES: Final = 1000
_OVER: Final = " over"


def gather(session: Session, notices: Sequence[Notice], now: datetime) -> list[Notice]:
    """Return those of some notices that are told one by one; the others wait for their summary."""
    found: list[Notice] = []
    for key in dict.fromkeys(map(_key, notices)):
        alike = [notice for notice in notices if _key(notice) == key]
        row = session.get(Gathering, key)
        if row is None:
            row = Gathering(event=key, since=now, reported=0, count=0, storm=False, nodes=[])
            session.add(row)
        if not row.storm and row.count == row.reported and row.reported + len(alike) <= ONE_BY_ONE:
            found += alike
            row.reported += len(alike)
        row.count += len(alike)
        row.nodes = _joined(row.nodes, (notice.values["node"] for notice in alike))
    session.flush()
    return found


def is_any_over(session: Session, now: datetime) -> bool:
    """Return whether a window has ended."""
    return session.scalar(_ended(now).limit(1)) is not None


def summaries(session: Session, now: datetime, wording: Wording) -> list[Notice]:
    """End the windows whose time is over; return a notice for each that had a storm.

    A storm's next window begins at once, with everything in one summary, until a window without any.
    """
    found = []
    for row in session.scalars(_ended(now)).all():
        if row.count == row.reported:
            session.delete(row)
            continue
        found.append(_summary(row, now, wording))
        row.since, row.nodes, row.storm = now, [], True
        row.count = row.reported = 0
    return found


def few(problems: Sequence[OpenProblem], now: datetime, wording: Wording) -> list[Notice]:
    """Return reminders of problems that last: one by one, or one for all of an event that are more."""
    found = []
    for event in dict.fromkeys(row.event for row in problems):
        alike = [row for row in problems if row.event == event]
        if len(alike) <= ONE_BY_ONE:
            found += [wording.of_problem(row, now, again=True) for row in alike]
            continue
        title = f"Reminder: {TEXTS[Event(event)].title}, {len(alike)} times"
        nodes = _joined([], (row.node_name or "" for row in alike))
        found.append(
            wording.of_many(Event(event), title, now, count=len(alike), nodes=nodes, reminder=True)
        )
    return found


def _summary(row: Gathering, now: datetime, wording: Wording) -> Notice:
    name, _, over = row.event.partition(" ")
    event, texts = Event(name), TEXTS[Event(name)]
    seconds = round((now - row.since).total_seconds())
    if texts.counted:
        nodes = len(row.nodes)
        at_least = "at least " if nodes >= _MAX_NODES else ""
        where = f" on {at_least}{counted(nodes, 'node')}" if nodes else ""
        title = f"{counted(row.count, texts.counted)}{where} in {seconds} s"
    else:
        times = f", {row.count} times in {seconds} s" if row.count > 1 else ""
        title = (texts.over if over else texts.title) + times
    return wording.of_many(event, title, now, count=row.count, nodes=row.nodes, over=bool(over))


def _key(notice: Notice) -> str:
    return notice.event.value + (_OVER if notice.resolved else "")


def _joined(nodes: Sequence[str], more: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*nodes, *filter(None, more)]))[:_MAX_NODES]


def _ended(now: datetime) -> Select[Gathering]:
    return select(Gathering).where(Gathering.since <= now - WINDOW).order_by(Gathering.event)
