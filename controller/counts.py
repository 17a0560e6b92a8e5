"""How many devices were removed: by node, network and day."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import String, cast, func, select
from sqlalchemy.orm import Session

from contract.verdicts import Stage
from controller.models import AuditRow, Network, Node

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
    asked = (AuditRow.stage == Stage.APPLIED, AuditRow.at >= since, AuditRow.at < until)
    newest = select(AuditRow.at).where(*asked).order_by(AuditRow.at.desc(), AuditRow.id.desc())
    first_left_out = session.scalar(newest.offset(COUNTED).limit(1))
    if first_left_out is not None:
        since = first_left_out + timedelta(microseconds=1)
    # One look at the index, and of that all sums.
    day = (
        func.to_char(func.timezone("UTC", AuditRow.at), "YYYY-MM-DD")
        if session.get_bind().dialect.name == "postgresql"
        else func.substr(cast(AuditRow.at, String), 1, 10)
    )
    found = session.execute(
        select(AuditRow.node_id, AuditRow.network_id, day, func.count())
        .where(AuditRow.stage == Stage.APPLIED, AuditRow.at >= since, AuditRow.at < until)
        .group_by(AuditRow.node_id, AuditRow.network_id, day)
    )
    nodes, networks, days = Counter[str | None](), Counter[str | None](), Counter[str]()
    for node, network, when, count in found:
        nodes[node] += count
        networks[network] += count
        days[when] += count
    return Counts(
        since=since,
        until=until,
        whole=first_left_out is None,
        removals=days.total(),
        nodes=_named(session, nodes, Node.id, Node.hostname),
        networks=_named(session, networks, Network.id, Network.name),
        days=[Day(date.fromisoformat(when), days[when]) for when in sorted(days, reverse=True)],
    )


def _named(session: Session, counted: Counter[str | None], id_: Any, name: Any) -> list[Count]:
    most = counted.most_common(TOP)
    found = session.execute(select(id_, name).where(id_.in_([each for each, _ in most])))
    names: dict[str | None, str] = {each[0]: each[1] for each in found}
    return [Count(each, names.get(each), count) for each, count in most]
