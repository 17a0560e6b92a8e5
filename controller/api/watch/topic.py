"""`Topic`: the rows of a list that clients follow, and the last events about them."""

import secrets
import threading
import time
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Literal, NamedTuple, Protocol

from sqlalchemy.orm import Session

from controller.api.answers.base import Answer
from controller.api.problem_types import ProblemType

MAX_ROWS: Final = 20_000
"""Rows of a list that can be followed: all are kept, once for all clients."""
KEPT_EVENTS: Final = 1000
"""Events kept besides one for each row, for clients that lag behind or come back."""
_BATCH: Final = 100
"""Events that a client takes at a time."""

Kind = Literal["added", "modified", "removed"]


class Event(NamedTuple):
    """A change of a row.

    Attributes:
        data: its item as in the list, in JSON; of a removed row, as it last was.
        key: of the row.
    """

    number: int
    kind: Kind
    data: str
    key: Hashable


class Row(NamedTuple):
    """A row.

    Attributes:
        mark: of its columns: equal marks save deriving the item.
        compared: of the fields whose changes are events.
        data: the item as in the list, in JSON.
    """

    mark: int
    compared: int
    data: str


class Source(Protocol):
    """The rows of a list with its filters.

    Attributes:
        quiet: fields whose changes are no events, in the form of pydantic's `exclude`: every run moves them.
        depends_on_time: whether items differ with the time alone.
    """

    quiet: Mapping[str, Any]
    depends_on_time: bool

    def marks(self, session: Session) -> Mapping[Hashable, int]:
        """Return the marks of all rows, in the order for clients; of more than `MAX_ROWS` if there are."""

    def items(self, session: Session, keys: Sequence[Hashable]) -> Mapping[Hashable, Answer]:
        """Return the items of rows, without those that are gone meanwhile."""

    def is_history(self, key: Hashable) -> bool:  # noqa: ARG002
        """Whether a row is no longer read because it is too old, and not because it is gone."""
        return False


class TooManyRowsError(Exception):
    """The list has more rows than can be followed."""


class Ended(NamedTuple):
    """Why no more events come."""

    kind: ProblemType
    detail: str


class Topic:
    """Rows and events of a list; any thread may use it.

    Attributes:
        token: the beginning of its events' ids.
        clients: number of clients that follow it.
        left_at: when the last client left; monotonic.
    """

    def __init__(self, source: Source) -> None:
        self.token = secrets.token_hex(6)
        self.clients = 0
        self.left_at = 0.0
        self.whole_at = 0.0
        self.whole_cpu = 0.0
        self.source = source
        self._lock = threading.Lock()
        self._rows: dict[Hashable, Row] = {}
        self._events: deque[Event] = deque()
        self._last = 0

    def refresh(self, session: Session, *, whole: bool) -> bool:
        """Compare the rows with those of the last time; return whether there are new events.

        Args:
            session: only reads.
            whole: derive all items, also of rows that did not change: some fields depend on the time.

        Raises:
            TooManyRowsError: nothing was changed.
        """
        with self._lock:
            began, before = time.thread_time(), self._last
            first = not self.whole_at
            known = self._rows
            marks = self.source.marks(session)
            if len(marks) > MAX_ROWS:
                raise TooManyRowsError
            changed = {
                key
                for key, mark in marks.items()
                if (whole and self.source.depends_on_time)
                or key not in known
                or known[key].mark != mark
            }
            items = self.source.items(session, [key for key in marks if key in changed])
            self._rows = {
                key: self._row(mark, items[key]) if key in changed else known[key]
                for key, mark in marks.items()
                if key not in changed or key in items
            }
            if not first:
                self._compare(known)
            if whole:
                self.whole_at = time.monotonic()
                self.whole_cpu = time.thread_time() - began
            return self._last != before

    def rows(self, limit: int | None) -> tuple[list[tuple[Hashable, str]], int]:
        """Return keys and items (with a limit: the last), and the number of the last event they know of."""
        with self._lock:
            skipped = 0 if limit is None else max(0, len(self._rows) - limit)
            found = [(key, row.data) for key, row in islice(self._rows.items(), skipped, None)]
            return found, self._last

    def has_all_since(self, number: int) -> bool:
        """Whether every event after this one is still here."""
        with self._lock:
            return self._last - len(self._events) <= number <= self._last

    def events(self, after: int) -> list[Event] | None:
        """Return the next events, at most some; None: some that followed are not kept any more."""
        with self._lock:
            skipped = after - (self._last - len(self._events))
            if skipped < 0:
                return None
            return list(islice(self._events, skipped, skipped + _BATCH))

    def _row(self, mark: int, item: Answer) -> Row:
        compared = item.model_dump_json(exclude=dict(self.source.quiet))
        return Row(mark, hash(compared), item.model_dump_json())

    def _compare(self, known: Mapping[Hashable, Row]) -> None:
        for key, row in known.items():
            if key not in self._rows and not self.source.is_history(key):
                self._add("removed", row.data, key)
        for key, row in self._rows.items():
            before = known.get(key)
            if before is None:
                self._add("added", row.data, key)
            elif before.compared != row.compared:
                self._add("modified", row.data, key)
        while len(self._events) > KEPT_EVENTS + len(self._rows):
            self._events.popleft()

    def _add(self, kind: Kind, data: str, key: Hashable) -> None:
        self._last += 1
        self._events.append(Event(self._last, kind, data, key))
