"""Tests of the broker and the database, repeated by a thread each; the results go to monitors."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from celery import Celery
from sqlalchemy import delete, event
from sqlalchemy.dialects import postgresql, sqlite

from contract.runtime.probe import BrokerProbe
from controller.conditions.model import Reason
from controller.db.engine import Database
from controller.db.models import Heartbeat
from controller.db.types import Base
from controller.health import faults
from controller.health.monitor import Monitor

PROBE_SECONDS: Final = 2.0
"""Between tests."""

_HOLD_SECONDS: Final = 10.0
"""For so long an error of another write counts: a heartbeat may fit where a report does not."""

_HELD: Final = frozenset({Reason.DATABASE_FULL, Reason.DATABASE_READ_ONLY})
_FORGOTTEN_AFTER: Final = timedelta(hours=1)
_HEARTBEATS: Final = Base.metadata.tables[Heartbeat.__tablename__]
_WRITE: Final = {
    dialect: (row := into(_HEARTBEATS)).on_conflict_do_update(
        index_elements=["process"], set_={"at": row.excluded.at}
    )
    for dialect, into in (("postgresql", postgresql.insert), ("sqlite", sqlite.insert))
}
"""By dialect."""


class BrokerTest:
    """Puts a message into the broker and takes it out again."""

    def __init__(self, app: Celery, monitor: Monitor) -> None:
        self._probe = BrokerProbe(app)
        self._monitor = monitor

    def step(self) -> float:
        """Test once; return the seconds until the next test."""
        # Whatever the broker's client raises: the monitor has it.
        with suppress(Exception), self._monitor.attempt(faults.of_broker):
            self._probe()
        return PROBE_SECONDS


class DatabaseTest:
    """Writes a row for this process, and notes the errors of all other writes.

    Args:
        database: not fenced: a controller that does not lead tests it, too.
        process: unique name of this process.
    """

    def __init__(
        self,
        database: Database,
        monitor: Monitor,
        process: str,
        *,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._monitor = monitor
        self._process = process
        self._utcnow = utcnow
        self._forgotten = False
        event.listen(database.engine, "handle_error", self._note)

    def step(self) -> float:
        """Test once; return the seconds until the next test."""
        # Whatever the database's driver raises: the monitor has it.
        with suppress(Exception), self._monitor.attempt(faults.of_database):
            self._write()
        return PROBE_SECONDS

    def _write(self) -> None:
        now = self._utcnow()
        with self._database.write(news=False) as session:
            dialect = session.get_bind().dialect.name
            session.execute(_WRITE[dialect], {"process": self._process, "at": now})
            if not self._forgotten:
                old = Heartbeat.at < now - _FORGOTTEN_AFTER
                session.execute(delete(Heartbeat).where(old))
        self._forgotten = True

    def _note(self, context: Any) -> None:
        error = context.sqlalchemy_exception or context.original_exception
        fault = faults.of_database(error)
        if fault.reason in _HELD:
            self._monitor.failed(fault, hold=_HOLD_SECONDS)
