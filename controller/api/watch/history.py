"""The runs, audit rows and events that clients follow: lists that only grow; the newest rows are read."""

from collections.abc import Hashable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final, cast

from sqlalchemy import Text, func, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import Session

from controller.api.answers.audit import audit_answers
from controller.api.answers.base import Answer
from controller.api.answers.on_node import with_shared_names
from controller.api.answers.runs import RunAnswer
from controller.api.routes.events import event_answers
from controller.api.watch.sources import chunks
from controller.api.watch.topic import KEPT_EVENTS, MAX_ROWS, Source
from controller.audit.queries import pages
from controller.audit.queries.pages import Filters
from controller.db.audit_models import AuditRow
from controller.db.engine import Database
from controller.db.models import Node, Run
from controller.db.states import RunState
from controller.views import events, queries
from controller.views.events import EventKey, Happening
from controller.views.queries import RunKey

NEWEST: Final = 1000
"""Rows that a client can get at first: the longest page of the lists."""
_OVERLAP: Final = timedelta(seconds=30)
"""A run may be stored so much later than a newer one."""
_STEPS: Final = 50
"""Windows of new audit rows that are examined at a time."""
_BEGIN: Final = datetime.min.replace(tzinfo=UTC)


class RunSource(Source):
    """Runs, in the order of their requests; None: of any node, in any state."""

    quiet: Mapping[str, Any] = {}
    depends_on_time = False

    def __init__(self, node: Node | None, state: RunState | None) -> None:
        self._query = queries.runs_query(node, state)
        self._all = queries.runs_query(node, None)
        self._floor: datetime | None = None

    def marks(self, session: Session) -> Mapping[Hashable, int]:
        if self._floor is None:
            self._floor = self._newest(session)
        found = self._since(session)
        if len(found) > NEWEST:
            # Rows that will not change any more, but for a margin, need not be read again.
            self._floor = max(self._floor, self._oldest_of_interest(session, found))
            found = self._since(session)
        return found

    def items(self, session: Session, keys: Sequence[Hashable]) -> Mapping[Hashable, Answer]:
        found: dict[Hashable, Answer] = {}
        for chunk in chunks(cast("Sequence[RunKey]", keys)):
            query = self._all.where(Run.id.in_([key.id for key in chunk]))
            answers = [RunAnswer.of(run, node) for run, node in session.execute(query)]
            for answer in with_shared_names(session, answers, history=True):
                found[RunKey(answer.requested_at, answer.id)] = answer
        return found

    def is_history(self, key: Hashable) -> bool:
        return self._floor is not None and cast("RunKey", key).requested_at < self._floor

    def _newest(self, session: Session) -> datetime:
        query = self._query.with_only_columns(Run.requested_at)
        newest_first = query.order_by(Run.requested_at.desc(), Run.id.desc())
        oldest = session.scalar(newest_first.offset(NEWEST - 1).limit(1))
        return oldest or _BEGIN

    def _since(self, session: Session) -> Mapping[Hashable, int]:
        query = self._query.with_only_columns(
            Run.requested_at, Run.id, sql_cast(Run.state, Text), sql_cast(Run.closed_at, Text),
            Node.hostname,
        ).where(Run.requested_at >= self._floor)  # fmt: skip
        rows = session.execute(query.order_by(Run.requested_at, Run.id).limit(MAX_ROWS + 1)).all()
        return {RunKey(*row[:2]): hash(tuple(row)) for row in rows}

    def _oldest_of_interest(self, session: Session, found: Mapping[Hashable, int]) -> datetime:
        newest = max(cast("RunKey", key).requested_at for key in found)
        oldest_open = session.scalar(
            self._all.with_only_columns(func.min(Run.requested_at)).where(
                Run.state == RunState.RUNNING
            )
        )
        return min(newest - _OVERLAP, oldest_open or newest)


class AuditSource(Source):
    """Audit rows, in the order in which they were stored."""

    quiet: Mapping[str, Any] = {}
    depends_on_time = False

    def __init__(self, database: Database, filters: Filters, trace_url: str) -> None:
        self._database = database
        self._filters = filters
        self._trace_url = trace_url
        self._through: int | None = None
        self._marks: dict[Hashable, int] = {}

    def marks(self, session: Session) -> Mapping[Hashable, int]:
        if self._through is None:
            # Read first: rows stored from now on are arrivals.
            self._through = pages.newest(session)
            page = pages.page(session, self._filters, limit=NEWEST)
            self._marks = dict.fromkeys(sorted(row.id for row in page.rows), 0)
        for _ in range(_STEPS):
            rows, through = pages.arrivals(session, self._filters, self._through, NEWEST)
            self._marks.update({row.id: 0 for row in rows})
            if through == self._through:
                break
            self._through = through
        surplus = len(self._marks) - NEWEST - KEPT_EVENTS
        for number in list(islice(self._marks, max(0, surplus))):
            del self._marks[number]
        return self._marks

    def items(self, session: Session, keys: Sequence[Hashable]) -> Mapping[Hashable, Answer]:
        found: dict[Hashable, Answer] = {}
        for chunk in chunks(keys):
            rows = session.scalars(select(AuditRow).where(AuditRow.id.in_(chunk))).all()
            answers = audit_answers(session, rows, self._trace_url)
            found.update(zip((row.id for row in rows), answers, strict=True))
        return found

    def stored_after(self, number: int) -> tuple[list[tuple[int, str]], int | None]:
        """Return numbers and items of matching rows stored after a row, and where to go on; None: the end."""
        with self._database.read() as session:
            rows, through = pages.arrivals(session, self._filters, number, NEWEST)
            answers = audit_answers(session, rows, self._trace_url)
        items = [
            (row.id, answer.model_dump_json()) for row, answer in zip(rows, answers, strict=True)
        ]
        return items, None if through == number else through

    def is_history(self, key: Hashable) -> bool:  # noqa: ARG002
        """See `Source`: audit rows are pruned, never removed."""
        return True


class EventSource:
    """Events, in the order of their times; None: of any node or network.

    Args:
        since: time of the oldest; None: of any.
    """

    quiet: Mapping[str, Any] = {}
    depends_on_time = False

    def __init__(self, node_id: str | None, network_id: str | None, since: datetime | None) -> None:
        self._node_id = node_id
        self._network_id = network_id
        self._since = since
        self._found: Mapping[Hashable, Happening] = {}

    def marks(self, session: Session) -> Mapping[Hashable, int]:
        """See `Source`."""
        # What a node or network depends on changes.
        of = events.scope_of(session, node_id=self._node_id, network_id=self._network_id)
        rows = events.events(session, of, since=self._since, limit=NEWEST)
        self._found = {EventKey(row.at, row.source, row.id): row for row in reversed(rows)}
        if len(rows) == NEWEST:
            # Where newer ones are deleted, older ones are no news.
            self._since = rows[-1].at
        return dict.fromkeys(self._found, 0)

    def items(self, session: Session, keys: Sequence[Hashable]) -> Mapping[Hashable, Answer]:
        """See `Source`."""
        rows = [self._found[cast("EventKey", key)] for key in keys]
        return dict(zip(keys, event_answers(session, rows), strict=True))

    def is_history(self, key: Hashable) -> bool:  # noqa: ARG002
        """See `Source`: events are deleted as they get old."""
        return True
