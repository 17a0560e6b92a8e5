"""What happened: audit rows, changes of conditions and leader, rejections, and runs that did not succeed.

Events of an object include those of what it depends on: a node's include decisions about the cluster and
about its networks; a network's include the findings, lost runs and decisions of its nodes.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, false, or_, select, tuple_
from sqlalchemy.orm import Session

from contract.verdicts import Stage
from controller.audit.queries import pages, resolve
from controller.audit.queries.pages import Filters, RowKey
from controller.conditions.model import Type
from controller.db.audit_models import AuditRow
from controller.db.models import Attachment, Event, Network, Node, Rejection, Run
from controller.db.states import RunState, with_claim

_DECISIONS: Final = (
    Stage.PAUSED,
    Stage.RESUMED,
    Stage.MODE_CHANGED,
    Stage.BREAKER_TRIPPED,
    Stage.BREAKER_RESET,
)
_STEPS: Final = frozenset({Stage.REQUESTED, Stage.PLANNED})
"""Steps on the way to another row of the same run: `vxctl audit` has them."""
_FAILED_RUNS: Final = (RunState.LOST, RunState.FAILED, RunState.REFUSED)
_PROBLEMS: Final = frozenset(
    {Stage.FAILED, Stage.LINGERING, Stage.UNCERTAIN, Stage.REFUSED, Stage.BREAKER_TRIPPED}
)
_MAX_NODES: Final = 1_000
"""Nodes of a network whose events are included."""
_MAX_PAGES: Final = 20
_PAGE_ROWS: Final = 1_000
"""The audit trail is searched for rows that count in at most so many pages of this many rows."""
_NEGATIVE: Final = frozenset({Type.DEGRADED, Type.STALLED, Type.PAUSED})
"""Conditions that are `False` where all is well."""


class Happening(NamedTuple):
    """An event.

    Attributes:
        source: 0 to 3: audit, condition, rejection, run; with `id`, the sort key after the time.
        warning: whether it is a problem, or its end.
        kind: one word, as `TasksRejected`, `applied` or `run_lost`.
    """

    at: datetime
    source: int
    id: str
    warning: bool
    kind: str
    node_id: str | None
    node_name: str | None
    network_id: str | None
    network_name: str | None
    message: str
    actor: str | None = None
    run_id: UUID | None = None


class EventKey(NamedTuple):
    """The sort key of events."""

    at: datetime
    source: int
    id: str

    def is_valid(self) -> bool:
        """Whether an event may have this key: a cursor may be forged."""
        if self.source in (0, 1):
            return self.id.isascii() and self.id.isdecimal() and len(self.id) <= 18
        if self.source == 3:
            return bool(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", self.id))
        return self.source == 2


@dataclass(frozen=True, slots=True)
class Scope:
    """The objects whose events are asked for; both None: everything.

    Attributes:
        nodes: ids of nodes whose findings count.
        related: ids of networks of a node, whose decisions count.
    """

    node_id: str | None = None
    network_id: str | None = None
    nodes: frozenset[str] = frozenset()
    related: frozenset[str] = frozenset()

    @property
    def is_everything(self) -> bool:
        return self.node_id is None and self.network_id is None

    def counts(self, row: AuditRow) -> bool:
        """Whether a decision is about the object or what it depends on."""
        if row.node_id is None and row.network_id is None:
            return True
        if row.node_id is not None:
            return row.node_id in self.nodes
        return row.network_id in self.related


def scope(session: Session, *, node: str | None, network: str | None) -> Scope:
    """Return the scope of a node or network, also of one that is gone.

    Raises:
        UnknownError, AmbiguousError: no or several nodes or networks have this name.
    """
    return scope_of(
        session,
        node_id=None if node is None else resolve.node_id(session, node),
        network_id=None if network is None else resolve.network_id(session, network),
    )


def scope_of(session: Session, *, node_id: str | None, network_id: str | None) -> Scope:
    """Return the scope of the node or network with this id, by what it depends on now."""
    if node_id is not None:
        related = select(Attachment.network_id).where(Attachment.node_id == node_id)
        return Scope(node_id, None, frozenset({node_id}), frozenset(session.scalars(related)))
    if network_id is not None:
        nodes = select(Attachment.node_id).where(Attachment.network_id == network_id)
        found = frozenset(session.scalars(nodes.limit(_MAX_NODES)))
        return Scope(None, network_id, found, frozenset({network_id}))
    return Scope()


def events(
    session: Session,
    of: Scope,
    *,
    since: datetime | None = None,
    before: EventKey | None = None,
    limit: int,
) -> Sequence[Happening]:
    """Return events, the newest first; only those from `since` and before the key."""
    sources = (_audit, _conditions, _rejections, _runs)
    found: list[Happening] = []
    for number, source in enumerate(sources):
        found += islice(source(session, of, since, _reach(before, number), limit), limit)
    return sorted(found, key=_order, reverse=True)[:limit]


def _order(event: Happening) -> tuple[Any, ...]:
    number: Any = int(event.id) if event.source in (0, 1) else 0
    return (event.at, event.source, number, event.id)


class _Reach(NamedTuple):
    """Where a source goes on: before `at`, or with `id` before that row of the time `at`."""

    at: datetime
    id: str | None
    inclusive: bool


def _reach(before: EventKey | None, source: int) -> _Reach | None:
    if before is None:
        return None
    if source == before.source:
        return _Reach(before.at, before.id, inclusive=False)
    # Of one time, the sources follow each other in descending order.
    return _Reach(before.at, None, inclusive=source < before.source)


def _within(
    at: Any, id_: Any, since: datetime | None, reach: _Reach | None, parse: Callable[[str], Any]
) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions of a page of a source."""
    if since is not None:
        yield at >= since
    if reach is None:
        return
    if reach.id is not None:
        yield tuple_(at, id_) < (reach.at, parse(reach.id))
    else:
        yield at <= reach.at if reach.inclusive else at < reach.at


def _audit(
    session: Session, of: Scope, since: datetime | None, reach: _Reach | None, limit: int
) -> Iterator[Happening]:
    """Yield audit rows of the object, and decisions about what it depends on."""
    own = Filters(node_id=of.node_id, network_id=of.network_id, since=since)
    found = {row.id: row for row in islice(_pages(session, own, reach, limit), limit)}
    if not of.is_everything:
        decisions = Filters(stages=_DECISIONS, since=since)
        counting = (row for row in _pages(session, decisions, reach, limit) if of.counts(row))
        found |= {row.id: row for row in islice(counting, limit)}
    for row in sorted(found.values(), key=lambda row: (row.at, row.id), reverse=True):
        device = "" if row.name is None else f"{row.name} in {row.netns}: "
        yield Happening(
            row.at,
            0,
            str(row.id),
            row.stage in _PROBLEMS,
            row.stage.value,
            row.node_id,
            row.node_name,
            row.network_id,
            row.network_name,
            f"{device}{row.reason}",
            with_claim(row.actor, row.claimed_name),
            row.run_id,
        )


def _pages(
    session: Session, filters: Filters, reach: _Reach | None, limit: int
) -> Iterator[AuditRow]:
    """Yield audit rows that are events, the newest first."""
    key: RowKey | None = None
    if reach is not None:
        number = int(reach.id) if reach.id is not None else 2**63 - 1 if reach.inclusive else 0
        key = RowKey(reach.at, number)
    for _ in range(_MAX_PAGES):
        page = pages.page(
            session, filters, key, max(limit, _PAGE_ROWS) if filters.stages else limit
        )
        yield from (row for row in page.rows if row.stage not in _STEPS)
        if page.next is None:
            return
        key = page.next


def _conditions(
    session: Session, of: Scope, since: datetime | None, reach: _Reach | None, limit: int
) -> Iterator[Happening]:
    query = select(Event).where(*_within(Event.at, Event.id, since, reach, int))
    if not of.is_everything:
        query = query.where(or_(Event.node_id.is_(None), Event.node_id.in_(of.nodes)))
    for row in session.scalars(query.order_by(Event.at.desc(), Event.id.desc()).limit(limit)):
        yield Happening(
            row.at,
            1,
            str(row.id),
            row.type != "Leader" and row.status != ("False" if row.type in _NEGATIVE else "True"),
            row.reason,
            row.node_id,
            row.node_name,
            None,
            None,
            f"{row.type} {row.status}: {row.message}",
        )


def _rejections(
    session: Session, of: Scope, since: datetime | None, reach: _Reach | None, limit: int
) -> Iterator[Happening]:
    query = (
        select(Rejection, Node.hostname, Network.name)
        .join(Node, Node.id == Rejection.node_id)
        .outerjoin(Network, Network.id == Rejection.network_id)
        .where(*_within(Rejection.seen_at, Rejection.task_id, since, reach, str))
    )
    if of.node_id is not None:
        query = query.where(Rejection.node_id == of.node_id)
    elif of.network_id is not None:
        query = query.where(Rejection.network_id == of.network_id)
    newest_first = query.order_by(Rejection.seen_at.desc(), Rejection.task_id.desc())
    for row, node, network in session.execute(newest_first.limit(limit)):
        yield Happening(
            row.seen_at,
            2,
            row.task_id,
            True,
            "task_rejected",
            row.node_id,
            node,
            row.network_id,
            network,
            row.error,
        )


def _runs(
    session: Session, of: Scope, since: datetime | None, reach: _Reach | None, limit: int
) -> Iterator[Happening]:
    query = (
        select(Run, Node.hostname)
        .join(Node, Node.id == Run.node_id)
        .where(
            Run.state.in_(_FAILED_RUNS),
            *_within(Run.closed_at, Run.id, since, reach, UUID),
        )
    )
    if not of.is_everything:
        query = query.where(Run.node_id.in_(of.nodes) if of.nodes else false())
    newest_first = query.order_by(Run.closed_at.desc(), Run.id.desc())
    for run, node in session.execute(newest_first.limit(limit)):
        if run.closed_at is None:
            continue  # Cannot be: these states are those of closed runs.
        message = run.error or "no report came by its deadline"
        yield Happening(
            run.closed_at,
            3,
            str(run.id),
            True,
            f"run_{run.state.value}",
            run.node_id,
            node,
            None,
            None,
            message,
            run.actor,
            run.id,
        )
