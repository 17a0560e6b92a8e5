"""Numbers of removals by node, network and day."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Date, String, cast, func, select, type_coerce
from sqlalchemy.orm import Session

from contract.verdicts import Stage
from controller.db.audit_models import AuditRow
from controller.db.models import Network, Node

MAX_COUNTED: Final = 500_000
MAX_NAMED: Final = 100
"""Nodes and networks of an answer."""


class Count(NamedTuple):
    """Removals on a node or of a network; without an id: of unknown networks."""

    id: str | None
    name: str | None
    removals: int


class Day(NamedTuple):
    """Removals of a UTC day."""

    day: date
    removals: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of removals.

    Attributes:
        since, until: the span; `since` is later than requested if there were too many removals.
        whole: all removals of the requested span are counted.
        nodes, networks: the most removals first.
        days: the newest first.
    """

    since: datetime
    until: datetime
    whole: bool
    removals: int
    nodes: Sequence[Count]
    networks: Sequence[Count]
    days: Sequence[Day]


def counts(session: Session, since: datetime, until: datetime) -> Counts:
    """Count the newest `MAX_COUNTED` removals of a span."""
    newest = (
        select(AuditRow.at)
        .where(*_removals(since, until))
        .order_by(AuditRow.at.desc(), AuditRow.id.desc())
    )
    left_out = session.scalar(newest.offset(MAX_COUNTED).limit(1))
    if left_out is not None:
        since = left_out + timedelta(microseconds=1)
    # Three reads of the index alone; one read would make a group for nearly every row.
    nodes, networks, days = (
        _counted(session, by, since, until)
        for by in (AuditRow.node_id, AuditRow.network_id, _day(session))
    )
    return Counts(
        since=since,
        until=until,
        whole=left_out is None,
        removals=sum(count for _, count in days),
        nodes=_named(session, nodes, Node.id, Node.hostname),
        networks=_named(session, networks, Network.id, Network.name),
        days=[
            Day(date.fromisoformat(str(day)), count) for day, count in sorted(days, reverse=True)
        ],
    )


def _counted(session: Session, by: Any, since: datetime, until: datetime) -> list[tuple[Any, int]]:
    found = session.execute(select(by, func.count()).where(*_removals(since, until)).group_by(by))
    return [(key, count) for key, count in found]


def _removals(since: datetime, until: datetime) -> tuple[ColumnElement[bool], ...]:
    return AuditRow.stage == Stage.APPLIED, AuditRow.at >= since, AuditRow.at < until


def _day(session: Session) -> ColumnElement[Any]:
    if session.get_bind().dialect.name == "postgresql":
        return cast(func.timezone("UTC", AuditRow.at), Date)
    return func.substr(type_coerce(AuditRow.at, String), 1, 10)


def _named(
    session: Session, counted: Sequence[tuple[Any, int]], id_: Any, name: Any
) -> list[Count]:
    most = sorted(counted, key=lambda pair: (-pair[1], pair[0] or ""))[:MAX_NAMED]
    found = session.execute(select(id_, name).where(id_.in_([key for key, _ in most])))
    names: dict[str | None, str] = {row[0]: row[1] for row in found}
    return [Count(key, names.get(key), count) for key, count in most]
