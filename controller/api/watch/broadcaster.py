"""`Broadcaster`: one thread that reads the followed lists for all clients, and only while there are any."""

import sqlite3
import threading
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from contract.runtime.throttle import Throttle
from controller.api import problem_types as types
from controller.api.parameters import ParameterError
from controller.api.turns import TooManyWatchersError
from controller.api.watch.changes import ChangeMarker
from controller.api.watch.stream import Stream
from controller.api.watch.topic import MAX_ROWS, Ended, Source, TooManyRowsError, Topic
from controller.db.engine import Database, database_message
from controller.runs.counters import STREAM_CLIENTS, WATCH_ERRORS

log = structlog.get_logger(__name__)

MAX_CLIENTS: Final = 600
MAX_TOPICS: Final = 64
"""Lists, each with its filters, that are followed at a time."""
POLL_SECONDS: Final = 0.2
WHOLE_SECONDS: Final = 15.0
"""After which all items are derived again: some fields depend on the time, and no commit tells."""
CHECK_SECONDS: Final = 10.0
"""Between two checks whether each client may still follow: tokens expire or are revoked."""
KEPT_SECONDS: Final = 60.0
"""For which a list is remembered without clients, who come back with `Last-Event-ID`."""
_FRESH_SECONDS: Final = 1.0
"""How old the rows that a new client gets may be."""
_SHARE: Final = 0.04
"""Of a core that reading may cost while the lists change all the time."""
_MAX_REST_SECONDS: Final = 2.0
"""Between two looks, whatever they cost: a change is an event not much later."""
_AWAY_SECONDS: Final = 10.0
"""Without an answer of the database after which all streams are ended."""
_LOG_SECONDS: Final = 60.0

_TOO_MANY_ROWS: Final = f"the list has over {MAX_ROWS} rows, which cannot be followed"
_NARROW: Final = "narrow it down: by node, network or verdict"
_BROKEN: Final = Ended(
    types.INTERNAL, "this list could not be read for the clients that follow it: connect again"
)


class _Spent:
    """What the calling thread has spent since this was made."""

    def __init__(self) -> None:
        self._began, self._cpu = time.monotonic(), time.thread_time()

    def rest(self) -> float:
        """Return for how many seconds to rest, so that reading costs no more than its share of a core.

        Processor time counts: on a busy machine a look takes longer, and events shall not be late for that.
        As the database may be a process of its own, the rest is not shorter than the look took.
        """
        cpu, took = time.thread_time() - self._cpu, time.monotonic() - self._began
        return min(_MAX_REST_SECONDS, max(POLL_SECONDS, cpu / _SHARE - cpu, took))


class Broadcaster:
    """Reads lists for the clients that follow them; any thread may use it.

    Args:
        database: read only; this process need not lead.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changes = threading.Condition()
        self._topics: dict[Hashable, Topic] = {}
        self._streams: dict[Stream, Callable[[Session], Ended | None]] = {}
        self._checked_at = 0.0
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._away_since: float | None = None
        self._throttle = Throttle(_LOG_SECONDS)

    def follow(
        self,
        question: Hashable,
        source: Callable[[Session], Source],
        last_event_id: str | None,
        limit: int | None,
        check: Callable[[Session], Ended | None] = lambda _: None,
    ) -> Stream:
        """Begin to follow a list; the caller must call `leave` in the end.

        Args:
            question: names the list and its filters.
            source: makes its source, with a session that only reads.
            last_event_id: the client's; None: it gets all rows at first.
            limit: the number of rows that it gets at first; None: all.
            check: returns why the client may not follow any more; None: it may. Equal ones are asked once for
                all their clients.

        Raises:
            TooManyWatchersError: there are too many clients or lists.
            ParameterError: the list has too many rows.
            LookupError: of the filters.
            SQLAlchemyError: the database does not answer.
        """
        with self._changes:
            if self._stopped.is_set() or len(self._streams) >= MAX_CLIENTS:
                raise TooManyWatchersError(f"{len(self._streams)} clients follow lists already")
            topic = self._topics.get(question)
            if topic is None:
                self._forget_oldest()
                if len(self._topics) >= MAX_TOPICS:
                    raise TooManyWatchersError(f"{MAX_TOPICS} different lists are followed already")
        if topic is None or time.monotonic() - topic.whole_at > _FRESH_SECONDS:
            topic = self._read(question, source, topic)
        with self._changes:
            stream = Stream(topic, last_event_id, limit)
            topic.clients += 1
            self._streams[stream] = check
            STREAM_CLIENTS.inc()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
                self._thread.start()
            self._changes.notify_all()
        return stream

    def leave(self, stream: Stream) -> None:
        """End a stream that `follow` returned."""
        with self._changes:
            if self._streams.pop(stream, None) is not None:
                STREAM_CLIENTS.dec()
            stream.topic.clients -= 1
            stream.topic.left_at = time.monotonic()

    def close(self) -> None:
        """End all streams, and take no more clients."""
        with self._changes:
            self._stopped.set()
            self._end(set(self._streams), Ended(types.STOPPING, "this controller stops"))
            self._changes.notify_all()

    def _read(
        self, question: Hashable, source: Callable[[Session], Source], topic: Topic | None
    ) -> Topic:
        with self._database.read() as session:
            topic = topic or Topic(source(session))
            try:
                changed = topic.refresh(session, whole=True)
            except TooManyRowsError:
                raise ParameterError("watch", _TOO_MANY_ROWS, _NARROW) from None
        with self._changes:
            topic = self._topics.setdefault(question, topic)
            if changed:
                self._wake(topic)
            return topic

    def _forget_oldest(self) -> None:
        """Make room for another list; the lock is held."""
        idle = {question: topic for question, topic in self._topics.items() if not topic.clients}
        if len(self._topics) >= MAX_TOPICS and idle:
            del self._topics[min(idle, key=lambda question: idle[question].left_at)]

    def _run(self) -> None:
        marker = ChangeMarker(self._database)
        while not self._stopped.is_set():
            with self._changes:
                while not self._streams and not self._stopped.is_set():
                    marker.close()
                    self._changes.wait(KEPT_SECONDS if self._topics else None)
                    self._forget()
                self._forget()
                topics = {
                    question: topic for question, topic in self._topics.items() if topic.clients
                }
            self._stopped.wait(self._look(marker, topics))

    def _look(self, marker: ChangeMarker, topics: dict[Hashable, Topic]) -> float:
        """Check the clients, read what changed, and return for how many seconds to rest."""
        spent = _Spent()
        try:
            self._check_clients(time.monotonic())
            spent = _Spent()
            self._refresh(marker, topics)
            self._away_since = None
        except (SQLAlchemyError, sqlite3.Error) as error:
            self._failed(error)
            with suppress(SQLAlchemyError, sqlite3.Error):
                marker.close()
        except Exception as error:  # noqa: BLE001 -- whatever it is, the other lists are still followed
            with self._changes:
                self._broke(error, set(self._streams))
            return _MAX_REST_SECONDS
        return spent.rest()

    def _refresh(self, marker: ChangeMarker, topics: dict[Hashable, Topic]) -> None:
        # Asked before anything is read: what is committed meanwhile is seen the next time.
        changed = marker.changed()
        for question, topic in topics.items():
            age = time.monotonic() - topic.whole_at
            whole = age > max(WHOLE_SECONDS, topic.whole_cpu / _SHARE)
            if not changed and not whole:
                continue
            try:
                with self._database.read() as session:
                    news = topic.refresh(session, whole=whole)
            except TooManyRowsError:
                with self._changes:
                    self._topics.pop(question, None)
                    self._end(self._of(topic), Ended(types.INVALID, f"watch: {_TOO_MANY_ROWS}"))
                continue
            except (SQLAlchemyError, sqlite3.Error):
                raise
            except Exception as error:  # noqa: BLE001 -- as in `_look`
                with self._changes:
                    self._topics.pop(question, None)  # Who comes back gets all rows again.
                    self._broke(error, self._of(topic))
                continue
            if news:
                with self._changes:
                    self._wake(topic)

    def _check_clients(self, now: float) -> None:
        if now - self._checked_at < CHECK_SECONDS:
            return
        self._checked_at = now
        with self._changes:
            streams: dict[Callable[[Session], Ended | None], list[Stream]] = {}
            for stream, check in self._streams.items():
                streams.setdefault(check, []).append(stream)
        with self._database.read() as session:
            for check, following in streams.items():
                if ended := check(session):
                    self._end(set(following), ended)

    def _failed(self, error: SQLAlchemyError | sqlite3.Error) -> None:
        now = time.monotonic()
        message = database_message(error) if isinstance(error, SQLAlchemyError) else str(error)
        if self._throttle.is_due():
            log.warning("the database cannot be read for clients that follow lists", error=message)
        if self._away_since is None:
            self._away_since = now
        elif now - self._away_since >= _AWAY_SECONDS:
            with self._changes:
                self._end(
                    set(self._streams),
                    Ended(types.DATABASE, f"the controller's database cannot be used: {message}"),
                )

    def _broke(self, error: Exception, streams: set[Stream]) -> None:
        """Tell of an error that is no error of the database, and end these streams; the lock is held."""
        WATCH_ERRORS.inc()
        if self._throttle.is_due(type(error).__name__):
            log.error("a list cannot be read for the clients that follow it", exc_info=error)
        self._end(streams, _BROKEN)

    def _forget(self) -> None:
        """Forget lists that nobody followed for a while; the lock is held."""
        now = time.monotonic()
        for question, topic in list(self._topics.items()):
            if not topic.clients and now - topic.left_at >= KEPT_SECONDS:
                del self._topics[question]

    def _of(self, topic: Topic) -> set[Stream]:
        return {stream for stream in self._streams if stream.topic is topic}

    def _wake(self, topic: Topic) -> None:
        for stream in self._of(topic):
            stream.wake()

    @staticmethod
    def _end(streams: set[Stream], ended: Ended) -> None:
        for stream in streams:
            stream.end(ended)
