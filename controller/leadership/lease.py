"""Who leads: of any number of controllers on one database, one writes.

On PostgreSQL the leader has a lease: a row that says who leads and until when, with a number, the
fence, that goes up with every change of leader. A leader that was stopped or cut off, and was replaced
meanwhile, must change nothing when it wakes up. It cannot know that it slept, so nothing here rests on
its own clock:

* Each transaction of the leader (`FencedDatabase`) begins by reading its own holder and fence FOR KEY
  SHARE, and ends with an error if they are not there any more.
* Renewing changes `expires_at` alone. That conflicts with no KEY SHARE, so the leader's own
  transactions and its renewals never wait for each other.
* Taking over locks an expired row FOR UPDATE, which does conflict: it waits until every transaction
  that found the old fence has ended, and those that come later wait for it and look again. So each
  transaction of an old leader either has committed before there was a new one, or finds the new fence
  and fails. (The update alone would not do: it spares the key, and PostgreSQL would let a reader FOR
  KEY SHARE have the row as it was before.)
* A leader that is stopped in the middle of a transaction cannot hold this up: the server ends what
  has been idle for `database.IDLE_SECONDS`, and no statement or wait of a leader's lasts longer
  than `database.LOCK_SECONDS`.
* What a transaction cannot fence is a message. Requests carry the fence, and workers obey none that
  is lower than one they have seen. Besides, a leader that could not renew in time stops publishing
  (`Lease.fence`), by a clock that goes on while the machine sleeps.

The fence is at the least the time in seconds since 1970: it goes up even if the database was restored
from a backup, or created again.

SQLite has one controller: the kernel holds a lock for it (`only_one`) and frees it when the process
ends, however it ends. Who has that lock leads at once and for as long as it lives.
"""

import os
import secrets
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from sqlalchemy import Interval, bindparam, func, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from controller.db import models
from controller.db.engine import LOCK_SECONDS, Database
from controller.db.types import Base

log = structlog.get_logger(__name__)

LEASE_SECONDS: Final = 6.0
"""Until an unrenewed lease expires."""

RENEW_SECONDS: Final = 2.0
"""Between renewals, and between the other controllers' attempts to take over."""

_LONE_RENEW_SECONDS: Final = 10.0
_LONE_LEASE_SECONDS: Final = 30.0
"""On SQLite, where nobody else leads: they only say who does, and each renewal is a commit."""

_MARGIN_SECONDS: Final = 1.0
"""A leader that could not renew stops publishing earlier by this: its clock may be slow."""

_NAME: Final = "controller"
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)

_SHARED_EXPIRY: Final = func.clock_timestamp() + literal(timedelta(seconds=LEASE_SECONDS), Interval)
_LEASES: Final = Base.metadata.tables[models.Lease.__tablename__]
_MINE: Final = (
    _LEASES.c.name == _NAME,
    _LEASES.c.holder == bindparam("its_holder"),
    _LEASES.c.fence == bindparam("its_fence"),
)
_RENEW: Final = (
    update(_LEASES).where(*_MINE).values(expires_at=_SHARED_EXPIRY).returning(_LEASES.c.fence)
)
_SET: Final = (
    update(_LEASES).where(*_MINE).values(expires_at=bindparam("expiry")).returning(_LEASES.c.fence)
)
_HOLD_ALONE: Final = select(models.Lease.fence).where(
    models.Lease.name == _NAME,
    models.Lease.holder == bindparam("holder"),
    models.Lease.fence == bindparam("fence"),
)
_HOLD: Final = _HOLD_ALONE.add_columns(
    func.set_config("statement_timeout", f"{LOCK_SECONDS}s", literal(True))
).with_for_update(read=True, key_share=True)


class LeaseLostError(Exception):
    """This process does not lead (any more); the operation was not done."""


def this_process() -> str:
    """A unique name: HOST:PID:random."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """This process's hold on the lease. Thread-safe.

    Args:
        database: not fenced.
        boottime: seconds of a clock that runs while the machine sleeps.
    """

    def __init__(
        self, database: Database, holder: str, *, boottime: Callable[[], float] = _boottime
    ) -> None:
        self._database = database
        self._holder = holder
        self._boottime = boottime
        self._alone = not database.is_shared
        self._fence: int | None = None
        self._until = 0.0

    @property
    def held(self) -> bool:
        """Whether this process has taken the lease; see `still_leads`."""
        return self._fence is not None

    @property
    def renew_seconds(self) -> float:
        """Between renewals, and between attempts to take it."""
        return _LONE_RENEW_SECONDS if self._alone else RENEW_SECONDS

    def still_leads(self) -> bool:
        """Whether this process leads, by its own clock."""
        return self.held and (self._alone or self._boottime() < self._until)

    def fence(self) -> int:
        """The fence that requests carry; read it just before they are sent.

        Raises:
            LeaseLostError: another controller may lead by now.
        """
        if self._fence is None or not self.still_leads():
            raise LeaseLostError("the lease could not be renewed in time, so another may lead")
        return self._fence

    def take(self) -> bool:
        """Take the lease if it is free; return whether it was."""
        with self._database.write() as session:
            _make_row(session)
            vacant = select(models.Lease).where(models.Lease.name == _NAME).with_for_update()
            if not self._alone:
                vacant = vacant.where(models.Lease.expires_at < func.clock_timestamp())
            row = session.scalar(vacant)
            if row is None:
                return False
            # Not before: locking the row may have had to wait for transactions of the old leader.
            asked = self._boottime()
            before, row.holder = row.holder, self._holder
            row.fence = fence = max(row.fence + 1, int(time.time()))
            row.expires_at = self._expiry()
            session.add(_taken_over(self._holder, before, fence))
        self._fence = fence
        self._until = asked + LEASE_SECONDS - _MARGIN_SECONDS
        log.info("this controller leads", fence=fence)
        return True

    def renew(self) -> None:
        """Renew the lease. A late renewal succeeds as long as nobody has taken it over.

        Raises:
            LeaseLostError: another controller has.
        """
        asked = self._boottime()
        alone = self._alone
        if not (self._update(_SET, expiry=self._expiry()) if alone else self._update(_RENEW)):
            self._until = 0.0
            raise LeaseLostError("another controller has taken over")
        self._until = asked + LEASE_SECONDS - _MARGIN_SECONDS

    def release(self) -> None:
        """Free the lease; if the database is away, it expires instead."""
        if not self.held:
            return
        self._until = 0.0
        try:
            self._update(_SET, expiry=_LONG_AGO)
        except SQLAlchemyError as error:
            log.warning("the lease could not be given back", error=str(error))

    def hold(self, session: Session) -> None:
        """Keep others from leading until the session's transaction ends.

        Raises:
            LeaseLostError: another controller leads already.
        """
        mine = {"holder": self._holder, "fence": self._fence}
        if session.execute(_HOLD_ALONE if self._alone else _HOLD, mine).first() is None:
            self._until = 0.0
            raise LeaseLostError("another controller leads; nothing was changed")

    def _update(self, statement: ReturningUpdate[tuple[int]], **values: Any) -> bool:
        """Change when the lease expires; return whether this process has it."""
        mine = {"its_holder": self._holder, "its_fence": self._fence}
        with self._database.write(news=False) as session:
            return session.execute(statement, mine | values).first() is not None

    def _expiry(self) -> Any:
        """The expiry of a lease that is renewed now, by the clock that all controllers share."""
        if self._alone:
            return datetime.now(UTC) + timedelta(seconds=_LONE_LEASE_SECONDS)
        return _SHARED_EXPIRY


def _taken_over(holder: str, before: str, fence: int) -> models.Event:
    after = f", after {before}" if before else ""
    return models.Event(
        at=datetime.now(UTC),
        type="Leader",
        status="True",
        reason="LeaderChanged",
        message=f"{holder} leads{after} (fence {fence})",
    )


def _make_row(session: Session) -> None:
    dialect = session.get_bind().dialect.name
    into = postgresql.insert if dialect == "postgresql" else sqlite.insert
    nobody = {"name": _NAME, "holder": "", "fence": 0, "expires_at": _LONG_AGO}
    session.execute(into(models.Lease).values(nobody).on_conflict_do_nothing())
