"""How many devices were removed: by node, network and day."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Date, String, cast, func, select, type_coerce
from sqlalchemy.orm import Session

from contract.verdicts import Stage
from controller.db.audit_models import AuditRow
from controller.db.models import Network, Node

COUNTED: Final = 500_000
"""So many removals are counted."""
TOP: Final = 100
"""So many nodes and networks are named."""


class Count(NamedTuple):
    """Removals on a node, or of a network; without an id: of no network that was known."""

    id: str | None
    name: str | None
    removals: int


class Day(NamedTuple):
    """Removals in a day of UTC."""

    day: date
    removals: int


@dataclass(frozen=True, slots=True)
class Counts:
    """How many devices were removed.

    Attributes:
        since, until: between which times; `since` is later than asked for where there were too many.
        whole: whether all were counted that were asked for.
        nodes, networks: the most first.
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
    """Removals by node, network and day: of the span's newest `COUNTED`."""
    newest = (
        select(AuditRow.at)
        .where(*_removals(since, until))
        .order_by(AuditRow.at.desc(), AuditRow.id.desc())
    )
    left_out = session.scalar(newest.offset(COUNTED).limit(1))
    if left_out is not None:
        since = left_out + timedelta(microseconds=1)
    # Each from the index alone; all three at once would be a group for nearly every row.
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
    return [(each[0], each[1]) for each in found]


def _removals(since: datetime, until: datetime) -> tuple[ColumnElement[bool], ...]:
    return AuditRow.stage == Stage.APPLIED, AuditRow.at >= since, AuditRow.at < until


def _day(session: Session) -> ColumnElement[Any]:
    if session.get_bind().dialect.name == "postgresql":
        return cast(func.timezone("UTC", AuditRow.at), Date)
    return func.substr(type_coerce(AuditRow.at, String), 1, 10)


def _named(
    session: Session, counted: Sequence[tuple[Any, int]], id_: Any, name: Any
) -> list[Count]:
    most = sorted(counted, key=lambda each: (-each[1], each[0] or ""))[:TOP]
    found = session.execute(select(id_, name).where(id_.in_([each for each, _ in most])))
    names: dict[str | None, str] = {each[0]: each[1] for each in found}
    return [Count(each, names.get(each), count) for each, count in most]
