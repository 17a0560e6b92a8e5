"""`TrailTest`: whether the audit trail still has the newest row that this process saw there.

A database that is restored from a backup, or a standby that is promoted before it has all, forgets rows, and
its chain is consistent all the same. What was there once is known to the processes that saw it, in memory:
every controller looks, and a restart of all of them forgets it.
"""

from contextlib import suppress
from typing import Final

from sqlalchemy import BigInteger, bindparam, select
from sqlalchemy.exc import SQLAlchemyError

from controller.audit.chain import START, ChainPosition
from controller.conditions.model import Reason
from controller.db.audit_models import AuditHead, AuditRow
from controller.db.engine import Database
from controller.db.types import Base
from controller.health.faults import Fault
from controller.health.monitor import Monitor

_SECONDS: Final = 2.0
"""Between looks."""
_ROWS: Final = Base.metadata.tables[AuditRow.__tablename__]
_HEAD: Final = Base.metadata.tables[AuditHead.__tablename__]
_LOOK: Final = select(
    _HEAD.c.position,
    _HEAD.c.hash,
    select(_ROWS.c.hash)
    .where(_ROWS.c.position == bindparam("kept", type_=BigInteger))
    .scalar_subquery(),
)
"""The end of the chain, and the hash of the row that was the end before."""


class TrailTest:
    """Remembers the end of the chain, and notes in a monitor whether it is still part of it."""

    def __init__(self, database: Database, monitor: Monitor) -> None:
        self._database = database
        self._monitor = monitor
        self._kept: ChainPosition | None = None
        self._fault: Fault | None = None

    def step(self) -> float:
        """Look once; return the seconds until the next look."""
        if self._fault is None:
            # While the database is away nothing new is known of the trail; DatabaseWritable says that.
            with suppress(SQLAlchemyError):
                self._look()
        if self._fault is None:
            self._monitor.succeeded()
        else:
            self._monitor.failed(self._fault)
        return _SECONDS

    def _look(self) -> None:
        known = self._kept and self._kept.position
        with self._database.read() as session:
            found = session.execute(_LOOK, {"kept": known}).one_or_none()
        position, hash_, there = found or (*START, None)
        head = ChainPosition(position, hash_)
        kept = self._kept or head
        if head.position < kept.position:
            lost = f"{kept.position - head.position} row(s) are gone: it ended at {kept}, and now at {head}"
        elif there is not None and there != kept.hash:
            lost = f"its newest rows were replaced: {kept} was part of it, and is not any more"
        else:
            self._kept = head
            return
        self._fault = Fault(
            Reason.AUDIT_WENT_BACK,
            f"the audit trail went back: {lost}; a standby that was promoted too early or a backup does "
            "that: compare with the old server and the log, then restart the controllers",
        )
