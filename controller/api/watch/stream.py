"""`Stream`: what one client that follows a list gets, as server-sent events."""

import asyncio
import re
from collections.abc import AsyncIterator, Hashable
from contextlib import suppress
from typing import Final

from fastapi.concurrency import run_in_threadpool
from fastapi.sse import ServerSentEvent

from controller.api import problem_types as types
from controller.api import problems
from controller.api.watch.history import AuditSource
from controller.api.watch.topic import Ended, Topic

_ID: Final = re.compile(r"([0-9a-f]{12})-([0-9]{1,15})")
_AUDIT_ID: Final = re.compile(r"audit-([0-9]{1,18})")
"""Audit rows have one order for ever, so their number is good after a restart, and for every controller."""
_TOO_SLOW: Final = Ended(
    types.TOO_SLOW, "events came faster than this client took them, and are not kept any more"
)


class Stream:
    """The events of a topic for one client.

    Args:
        topic: has been read.
        last_event_id: of the last event that the client has. If the events after it are not kept any more,
            the client gets the rows again.
        limit: the number of rows at first; None: all.
    """

    def __init__(self, topic: Topic, last_event_id: str | None, limit: int | None) -> None:
        self.topic = topic
        self._rows: list[tuple[Hashable, str]] = []
        self._audit = topic.source if isinstance(topic.source, AuditSource) else None
        self._row: int | None = None
        """Number of the last audit row that the client has; None: it gets the newest ones."""
        resumed = self._resumed(last_event_id)
        if resumed is None:
            self._rows, self._number = topic.rows(limit)
        else:
            self._number = resumed
        if self._audit is not None and (found := _AUDIT_ID.fullmatch(last_event_id or "")):
            self.start_after(int(found[1]))
        self._ended: Ended | None = None
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start_after(self, row: int) -> None:
        """Begin with the audit rows stored after this one, instead of the newest ones."""
        self._row, self._rows = row, []

    async def events(self) -> AsyncIterator[ServerSentEvent]:
        """Yield the rows, `synced`, what changes, and in the end why the stream ends."""
        self._loop = asyncio.get_running_loop()
        async for first in self._first():
            yield first
        yield ServerSentEvent(raw_data="{}", event="synced", id=self._id())
        while True:
            self._news.clear()
            events = self.topic.events(self._number)
            if events is None:
                self._ended = self._ended or _TOO_SLOW
            for event in events or ():
                self._number = event.number
                if self._is_new(event.key):
                    yield ServerSentEvent(raw_data=event.data, event=event.kind, id=self._id())
            if self._ended is not None:
                yield self._end_event(self._ended)
                return
            if not events:
                await self._news.wait()

    def wake(self) -> None:
        """There are new events. Any thread may call it."""
        if self._loop is not None:
            with suppress(RuntimeError):  # The loop has ended, and the client with it.
                self._loop.call_soon_threadsafe(self._news.set)

    def end(self, ended: Ended) -> None:
        """End the stream. Any thread may call it."""
        self._ended = self._ended or ended
        self.wake()

    async def _first(self) -> AsyncIterator[ServerSentEvent]:
        """Yield what the client gets before `synced`."""
        rows, self._rows = self._rows, []
        for key, data in rows:
            self._is_new(key)
            # Who loses the connection in between must get all rows again, but for audit rows.
            id_ = f"{self.topic.token}-rows" if self._audit is None else self._id()
            yield ServerSentEvent(raw_data=data, event="added", id=id_)
        following = None if rows else self._row
        while self._audit is not None and following is not None and self._ended is None:
            items, following = await run_in_threadpool(self._audit.stored_after, following)
            for number, data in items:
                self._row = number
                yield ServerSentEvent(raw_data=data, event="added", id=self._id())

    def _is_new(self, key: Hashable) -> bool:
        """Whether the client lacks an event about a row: an audit row may be among the first ones already."""
        if self._audit is None or not isinstance(key, int):
            return True
        if self._row is not None and key <= self._row:
            return False
        self._row = key
        return True

    def _resumed(self, last_event_id: str | None) -> int | None:
        found = _ID.fullmatch(last_event_id or "")
        if found is None or found[1] != self.topic.token:
            return None
        number = int(found[2])
        return number if self.topic.has_all_since(number) else None

    def _id(self) -> str:
        if self._audit is not None and self._row is not None:
            return f"audit-{self._row}"
        return f"{self.topic.token}-{self._number}"

    @staticmethod
    def _end_event(ended: Ended) -> ServerSentEvent:
        body = bytes(problems.problem(ended.kind, ended.detail).body).decode()
        return ServerSentEvent(raw_data=body, event="end")
