"""Removals and time to heal over time, for the charts and their tables."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Integer, cast, func, literal_column, select
from sqlalchemy.orm import Session

from contract.verdicts import Stage
from controller.db.audit_models import AuditRow
from controller.db.models import Rejection

_MAX_HEALED: Final = 20_000
"""Rejections whose times count; the newest."""


class Period(NamedTuple):
    """A span of time that is shown, in steps."""

    label: str
    length: timedelta
    step: timedelta


PERIODS: Final[Mapping[str, Period]] = {
    "6h": Period("6 hours", timedelta(hours=6), timedelta(minutes=5)),
    "24h": Period("24 hours", timedelta(hours=24), timedelta(minutes=20)),
    "7d": Period("7 days", timedelta(days=7), timedelta(hours=2)),
    "30d": Period("30 days", timedelta(days=30), timedelta(hours=8)),
}


class Bucket(NamedTuple):
    """A step of the history.

    Attributes:
        at: when it begins.
        healed: median of the seconds from a rejection to the removal; None: nothing was healed.
        slowest: the most seconds.
        running: median of the seconds from a rejection to a task that runs again; None: not known.
    """

    at: datetime
    removals: int
    healed: float | None
    slowest: float | None
    running: float | None


def history(session: Session, period: Period, now: datetime) -> list[Bucket]:
    """Return all steps of a period, the last one is under way."""
    step = int(period.step.total_seconds())
    last = int(now.timestamp()) // step
    first = last - int(period.length.total_seconds()) // step + 1
    since = datetime.fromtimestamp(first * step, UTC)
    removals = _removals(session, since, step)
    healed, running = _healed(session, since, step)
    return [
        Bucket(
            datetime.fromtimestamp(number * step, UTC),
            removals.get(number, 0),
            median(healed[number]) if number in healed else None,
            max(healed[number]) if number in healed else None,
            median(running[number]) if number in running else None,
        )
        for number in range(first, last + 1)
    ]


def series(buckets: list[Bucket]) -> dict[str, list[Any]]:
    """Return the steps as uPlot takes them: times in seconds, and a list for each value."""
    return {
        "times": [int(bucket.at.timestamp()) for bucket in buckets],
        "removals": [bucket.removals for bucket in buckets],
        "healed": [_rounded(bucket.healed) for bucket in buckets],
        "slowest": [_rounded(bucket.slowest) for bucket in buckets],
        "running": [_rounded(bucket.running) for bucket in buckets],
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)


def _removals(session: Session, since: datetime, step: int) -> dict[int, int]:
    number = _seconds(session) / literal_column(str(step))
    query = select(cast(func.floor(number), Integer).label("step"), func.count())
    query = query.where(AuditRow.stage == Stage.APPLIED, AuditRow.at >= since).group_by("step")
    return dict(session.execute(query).all())


def _seconds(session: Session) -> ColumnElement[Any]:
    if session.get_bind().dialect.name == "postgresql":
        return func.extract("epoch", AuditRow.at)
    return cast(func.strftime("%s", AuditRow.at), Integer)


def _healed(
    session: Session, since: datetime, step: int
) -> tuple[Mapping[int, list[float]], Mapping[int, list[float]]]:
    query = (
        select(Rejection.first_at, Rejection.removed_at, Rejection.running_at)
        .where(Rejection.seen_at >= since, Rejection.removed_at.is_not(None))
        .where(Rejection.first_at.is_not(None))
        .order_by(Rejection.seen_at.desc())
        .limit(_MAX_HEALED)
    )
    healed: defaultdict[int, list[float]] = defaultdict(list)
    running: defaultdict[int, list[float]] = defaultdict(list)
    for first_at, removed_at, running_at in session.execute(query):
        if first_at is None or removed_at is None:
            continue  # Never, by the query.
        number = int(removed_at.timestamp()) // step
        healed[number].append(max((removed_at - first_at).total_seconds(), 0.0))
        if running_at is not None:
            running[number].append(max((running_at - first_at).total_seconds(), 0.0))
    return healed, running
