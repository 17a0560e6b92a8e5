"""Pages of the audit trail by any filters, and what arrives there.

The trail has millions of rows, and no question may read them all by accident. So a page comes from one
index at a time, in the order of that index (`IndexScan`), and looks at a bounded number of its entries. Of
the indexes that could serve, the one is walked that has the fewest entries from here on: that is
measured, by looking how far back its entry number 2,000 lies. Every index carries what people ask for
besides, so that an entry which does not match costs no look at its row. A page that ends before it is
full says where to go on; it never says that there is nothing more unless it has looked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, select, text, tuple_
from sqlalchemy.orm import Session

from contract.verdicts import Stage, Urgency, Verdict
from controller.db.audit_models import AuditRow
from controller.db.states import CONTROLLER

EXAMINED: Final = 20_000
"""So many entries of an index a page looks at."""
EXAMINED_ROWS: Final = 2_000
"""The same, where the index does not tell whether an entry matches, and its row must be looked at."""
_PROBED: Final = 2_000
_BEGIN: Final = datetime.min.replace(tzinfo=UTC)
_END: Final = datetime.max.replace(tzinfo=UTC)
_WINDOW: Final = 2_000
"""So many rows a look at what arrived examines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What rows must be like; None, or no stages: anything.

    Attributes:
        name, ifindex: the device's.
        since, until: of `at`, the time at the node: from `since`, and before `until`.
    """

    node_id: str | None = None
    network_id: str | None = None
    vni: int | None = None
    name: str | None = None
    ifindex: int | None = None
    stages: tuple[Stage, ...] = ()
    verdict: Verdict | None = None
    urgency: Urgency | None = None
    actor: str | None = None
    run_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None

    def equal(self) -> dict[str, Any]:
        """Columns and what they must be."""
        names = (
            "node_id", "network_id", "vni", "name", "ifindex", "verdict", "urgency", "actor", "run_id"
        )  # fmt: skip
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


class RowKey(NamedTuple):
    """Where a row stands: rows are told by time, and of one time by their number."""

    at: datetime
    id: int


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, the newest first.

    Attributes:
        next: go on behind this; None: there is nothing more.
        short: whether there may be more although the page is not full: what matches is so rare here
            that the page ended before it had found enough.
    """

    rows: Sequence[AuditRow]
    next: RowKey | None
    short: bool


@dataclass(frozen=True, slots=True)
class IndexScan:
    """An index, from newer to older entries.

    Attributes:
        column: what its entries have in common; None: nothing.
        value: what that is.
        carries: the other columns that an entry tells.
    """

    column: str | None
    value: Any
    carries: frozenset[str]

    def entries(self, span: "_Span", columns: Sequence[str] = ()) -> Select[Any]:
        """Its entries within a span, the newest first, each with these columns besides its position.

        Said as a span of the whole index: where it was said that a column equals a value, PostgreSQL
        would for a common value rather read rows in the order of another index, until enough are found.
        """
        own = [] if self.column is None else [getattr(AuditRow, self.column)]
        value = [] if self.column is None else [self.value]
        key = tuple_(*own, AuditRow.at, AuditRow.id)
        query = select(AuditRow.at, AuditRow.id, *(getattr(AuditRow, name) for name in columns))
        query = query.where(key >= (*value, *span.first), key < (*value, *span.end))
        if self.column in _PARTIAL:
            # As the index says it: else no database knows that the index has what is asked for.
            query = query.where(text(_PARTIAL[self.column]))
        return query.order_by(*(each.desc() for each in (*own, AuditRow.at, AuditRow.id)))


class _Span(NamedTuple):
    """From `first` on, and before `end`."""

    first: RowKey
    end: RowKey


_PARTIAL: Final = {
    "verdict": f"audit.verdict <> '{Verdict.ORPHAN}'",
    "actor": f"audit.actor <> '{CONTROLLER}'",
}


def _carried() -> Iterator[tuple[str | None, frozenset[str]]]:
    """The first column of each index (None: `at`), and the columns behind its `at` and `id`."""
    for index in AuditRow.metadata.tables[AuditRow.__tablename__].indexes:
        names = [column.name for column in index.columns]
        start = names.index("at")
        yield names[0] if start else None, frozenset(names[start + 2 :])


_CARRIED: Final = dict(_carried())


def page(
    session: Session, filters: Filters, before: RowKey | None = None, limit: int = 100
) -> Page:
    """The newest rows that match, from behind `before` on."""
    span = _span(filters, before)
    if span.first >= span.end:
        return Page([], None, short=False)
    scans = _choose(session, _ways(filters), span)
    keys: list[RowKey] = []
    reached: RowKey | None = None
    for scan in scans:
        found, end = _matching(session, scan, filters, span, limit + 1, len(scans))
        keys += found
        if end is not None:
            reached = end if reached is None else max(reached, end)
    keys = sorted((key for key in keys if reached is None or key >= reached), reverse=True)
    following = keys[limit - 1] if len(keys) > limit else reached
    keys = keys[:limit]
    short = following is not None and len(keys) < limit
    return Page(_rows(session, keys), following, short)


def arrivals(
    session: Session, filters: Filters, after: int, limit: int
) -> tuple[Sequence[AuditRow], int]:
    """The rows that match of those stored after the one with the number `after`, in that order.

    Also the number after which to go on. Rows get their numbers under the lock of the chain's end
    (`controller.audit.append`), so that none can appear behind one that was seen already.
    """
    window = select(AuditRow.id).where(AuditRow.id > after).order_by(AuditRow.id).limit(_WINDOW)
    through = session.scalar(select(func.max(window.subquery().c.id)))
    if through is None:
        return [], after
    rows = session.scalars(
        select(AuditRow)
        .where(AuditRow.id > after, AuditRow.id <= through, *_conditions(filters))
        .order_by(AuditRow.id)
        .limit(limit)
    ).all()
    return rows, rows[-1].id if len(rows) == limit else through


def newest(session: Session) -> int:
    """The number of the row that was stored last; 0 if there is none."""
    return session.scalar(select(func.max(AuditRow.id))) or 0


def _span(filters: Filters, before: RowKey | None) -> _Span:
    first = RowKey(filters.since or _BEGIN, 0)
    end = RowKey(filters.until or _END, 0)
    return _Span(first, end if before is None else min(before, end))


def _ways(filters: Filters) -> list[list[IndexScan]]:
    """Ways to all rows that match: of one index each, of one walk a stage where there are several."""
    equal = filters.equal()
    if filters.run_id is not None:  # Which nothing can be rarer than.
        return [[IndexScan("run_id", filters.run_id, _CARRIED["run_id"])]]
    ways = [
        [IndexScan(column, equal[column], _CARRIED[column])]
        for column in ("node_id", "network_id", "vni", "name")
        if column in equal
    ]
    if filters.verdict not in (None, Verdict.ORPHAN):
        ways.append([IndexScan("verdict", filters.verdict, _CARRIED["verdict"])])
    if filters.actor not in (None, CONTROLLER):
        ways.append([IndexScan("actor", filters.actor, _CARRIED["actor"])])
    if filters.stages:
        ways.append(
            [IndexScan("stage", stage, _CARRIED["stage"]) for stage in sorted(set(filters.stages))]
        )
    return ways or [[IndexScan(None, None, _CARRIED[None])]]


def _choose(session: Session, ways: list[list[IndexScan]], span: _Span) -> list[IndexScan]:
    """The way with the fewest entries from here on."""
    if len(ways) == 1:
        return ways[0]
    best, reach = ways[0], None
    for way in ways:
        ends = [_end(session, scan, span, _PROBED) for scan in way]
        reaches = [end for end in ends if end is not None]
        if not reaches:
            return way
        if reach is None or max(reaches) < reach:
            best, reach = way, max(reaches)
    return best


def _end(session: Session, scan: IndexScan, span: _Span, number: int) -> RowKey | None:
    """Where the walk's entry with this number lies; None if it has fewer."""
    found = session.execute(scan.entries(span).offset(number - 1).limit(1)).one_or_none()
    return None if found is None else RowKey(found.at, found.id)


def _matching(
    session: Session,
    scan: IndexScan,
    filters: Filters,
    span: _Span,
    wanted: int,
    shared: int,
) -> tuple[list[RowKey], RowKey | None]:
    """The first entries of a walk that match; and how far it looked, unless that was far enough."""
    equal = filters.equal()
    equal.pop(scan.column or "", None)
    stages = () if scan.column == "stage" else filters.stages
    columns = [*equal, "stage"] if stages else [*equal]
    if not columns:
        return _positions(session, scan.entries(span).limit(wanted)), None
    most = (EXAMINED if scan.carries.issuperset(columns) else EXAMINED_ROWS) // shared
    entries = scan.entries(span, columns).limit(most).subquery()
    matching = select(entries.c.at, entries.c.id).where(
        *(entries.c[column] == value for column, value in equal.items()),
        *([entries.c.stage.in_(stages)] if stages else []),
    )
    # Their order is the subquery's. To ask for it again would make SQLite sort all of them first.
    found = _positions(session, matching.limit(wanted))
    return found, None if len(found) == wanted else _end(session, scan, span, most)


def _positions(session: Session, query: Select[Any]) -> list[RowKey]:
    return [RowKey(at, number) for at, number in session.execute(query)]


def _rows(session: Session, keys: Sequence[RowKey]) -> list[AuditRow]:
    found = session.scalars(select(AuditRow).where(AuditRow.id.in_([key.id for key in keys])))
    rows = {each.id: each for each in found}
    return [rows[key.id] for key in keys if key.id in rows]  # Retention may have been quicker.


def _conditions(filters: Filters) -> list[ColumnElement[bool]]:
    found = [getattr(AuditRow, column) == value for column, value in filters.equal().items()]
    if filters.stages:
        found.append(AuditRow.stage.in_(filters.stages))
    if filters.since is not None:
        found.append(AuditRow.at >= filters.since)
    if filters.until is not None:
        found.append(AuditRow.at < filters.until)
    return found
