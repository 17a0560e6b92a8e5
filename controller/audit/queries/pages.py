"""Pages of the audit trail by any filters, and rows that arrive.

No query may read all of millions of rows. A page scans one index, in the order of that index (`IndexScan`),
and examines a bounded number of entries. Of the usable indexes it takes the one with the fewest entries from
here on, measured by the age of entry number 2,000. Every index carries further filter columns, so that an
entry that does not match costs no read of its row. A page that ends early has a key for going on, and only a
page that has seen the end has none.
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
"""Index entries that a page examines."""
EXAMINED_ROWS: Final = 2_000
"""The same if a filter column is not in the index and the rows must be read."""
_PROBED: Final = 2_000
_BEGIN: Final = datetime.min.replace(tzinfo=UTC)
_END: Final = datetime.max.replace(tzinfo=UTC)
_WINDOW_ROWS: Final = 2_000
"""Rows that one query of arrivals examines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Filters; None, or no stages: anything.

    Attributes:
        also_nodes, also_networks: further ids, of what has or had the same name.
        name, ifindex: the device's.
        since, until: of `at`: from `since` and before `until`.
    """

    node_id: str | None = None
    also_nodes: tuple[str, ...] = ()
    network_id: str | None = None
    also_networks: tuple[str, ...] = ()
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

    def allowed(self) -> dict[str, tuple[Any, ...]]:
        """Columns and their allowed values."""
        names = (
            "node_id", "network_id", "vni", "name", "ifindex", "verdict", "urgency", "actor", "run_id"
        )  # fmt: skip
        found = {name: (getattr(self, name),) for name in names if getattr(self, name) is not None}
        for name, more in (("node_id", self.also_nodes), ("network_id", self.also_networks)):
            if name in found:
                found[name] = tuple(dict.fromkeys((*found[name], *more)))
        return found


class RowKey(NamedTuple):
    """The sort key of a row: its time, and among rows of one time its number."""

    at: datetime
    id: int


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, the newest first."""

    rows: Sequence[AuditRow]
    next: RowKey | None
    """The next page begins behind it; None: there is no next page."""
    short: bool
    """The page is not full, and there may be more: matches are rare here."""


@dataclass(frozen=True, slots=True)
class IndexScan:
    """A scan of an index, from newer to older entries."""

    column: str | None
    """The index's first column; None: the index of `at`."""
    value: Any
    """Of this column."""
    carries: frozenset[str]
    """Further columns of the index."""

    def entries(self, span: "_Span", columns: Sequence[str] = ()) -> Select[Any]:
        """The entries of a span, the newest first, with their keys and these columns.

        The condition is a range of the whole index: with `column = value`, PostgreSQL prefers another index
        for a common value and reads rows until it has found enough.
        """
        own = [] if self.column is None else [getattr(AuditRow, self.column)]
        value = [] if self.column is None else [self.value]
        key = tuple_(*own, AuditRow.at, AuditRow.id)
        query = select(AuditRow.at, AuditRow.id, *(getattr(AuditRow, name) for name in columns))
        query = query.where(key >= (*value, *span.first), key < (*value, *span.end))
        if self.column in _PARTIAL:
            # The index's own condition: without it no database uses the index.
            query = query.where(text(_PARTIAL[self.column]))
        return query.order_by(*(column.desc() for column in (*own, AuditRow.at, AuditRow.id)))


class _Span(NamedTuple):
    """From `first`, and before `end`."""

    first: RowKey
    end: RowKey


_PARTIAL: Final = {
    "verdict": f"audit.verdict <> '{Verdict.ORPHAN}'",
    "actor": f"audit.actor <> '{CONTROLLER}'",
}


def _carried() -> Iterator[tuple[str | None, frozenset[str]]]:
    """The first column of each index by time (None: `at`), and the columns behind its `at` and `id`."""
    for index in AuditRow.metadata.tables[AuditRow.__tablename__].indexes:
        names = [column.name for column in index.columns]
        if "at" not in names:
            continue
        start = names.index("at")
        yield names[0] if start else None, frozenset(names[start + 2 :])


_CARRIED: Final = dict(_carried())


def page(
    session: Session, filters: Filters, before: RowKey | None = None, limit: int = 100
) -> Page:
    """The newest matching rows behind `before`."""
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
    """Matching rows stored after row number `after`, in that order, and the number to go on after.

    Rows get their numbers under the lock of the chain's end (`controller.audit.append`): no row can appear
    behind one that was seen.
    """
    window = (
        select(AuditRow.id).where(AuditRow.id > after).order_by(AuditRow.id).limit(_WINDOW_ROWS)
    )
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
    """The number of the newest row; 0 if there is none."""
    return session.scalar(select(func.max(AuditRow.id))) or 0


def _span(filters: Filters, before: RowKey | None) -> _Span:
    first = RowKey(filters.since or _BEGIN, 0)
    end = RowKey(filters.until or _END, 0)
    return _Span(first, end if before is None else min(before, end))


def _ways(filters: Filters) -> list[list[IndexScan]]:
    """Ways to all matching rows: scans of one index, one for each stage, node or network."""
    allowed = filters.allowed()
    if filters.run_id is not None:  # Nothing is rarer.
        return [[IndexScan("run_id", filters.run_id, _CARRIED["run_id"])]]
    ways = [
        [IndexScan(column, value, _CARRIED[column]) for value in allowed[column]]
        for column in ("node_id", "network_id", "vni", "name")
        if column in allowed
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
    """The way with the fewest entries in the span."""
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
    """The key of the scan's entry with this number; None if it has fewer."""
    found = session.execute(scan.entries(span).offset(number - 1).limit(1)).one_or_none()
    return None if found is None else RowKey(found.at, found.id)


def _matching(
    session: Session, scan: IndexScan, filters: Filters, span: _Span, wanted: int, shared: int
) -> tuple[list[RowKey], RowKey | None]:
    """The first matching entries of a scan; and the last key examined if they are too few."""
    allowed = filters.allowed()
    allowed.pop(scan.column or "", None)
    stages = () if scan.column == "stage" else filters.stages
    columns = [*allowed, "stage"] if stages else [*allowed]
    if not columns:
        return _positions(session, scan.entries(span).limit(wanted)), None
    most = (EXAMINED if scan.carries.issuperset(columns) else EXAMINED_ROWS) // shared
    entries = scan.entries(span, columns).limit(most).subquery()
    matching = select(entries.c.at, entries.c.id).where(
        *(_one_of(entries.c[column], values) for column, values in allowed.items()),
        *([entries.c.stage.in_(stages)] if stages else []),
    )
    # Their order is the subquery's; ordering again would make SQLite sort all of them first.
    found = _positions(session, matching.limit(wanted))
    return found, None if len(found) == wanted else _end(session, scan, span, most)


def _positions(session: Session, query: Select[Any]) -> list[RowKey]:
    return [RowKey(at, number) for at, number in session.execute(query)]


def _rows(session: Session, keys: Sequence[RowKey]) -> list[AuditRow]:
    found = session.scalars(select(AuditRow).where(AuditRow.id.in_([key.id for key in keys])))
    rows = {row.id: row for row in found}
    return [rows[key.id] for key in keys if key.id in rows]  # Retention may have deleted one.


def _one_of(column: Any, values: Sequence[Any]) -> ColumnElement[bool]:
    found: ColumnElement[bool] = column == values[0] if len(values) == 1 else column.in_(values)
    return found


def _conditions(filters: Filters) -> list[ColumnElement[bool]]:
    found = [
        _one_of(getattr(AuditRow, column), values) for column, values in filters.allowed().items()
    ]
    if filters.stages:
        found.append(AuditRow.stage.in_(filters.stages))
    if filters.since is not None:
        found.append(AuditRow.at >= filters.since)
    if filters.until is not None:
        found.append(AuditRow.at < filters.until)
    return found
