"""`Health`: the conditions of this process's broker, its users, the database and the audit trail."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from controller.conditions.model import Condition, Reason, Status, Type
from controller.health import faults
from controller.health.faults import Fault
from controller.health.monitor import LATE_SECONDS, Monitor, Observed

_LASTING: Final = timedelta(seconds=4)
"""A fault that is over sooner changes no condition of a node."""

_LATE: Final = f"no answer for over {LATE_SECONDS:g} s"


class Health:
    """The monitors of this process's broker, database and audit trail, and what they say."""

    def __init__(self, utcnow: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._utcnow = utcnow
        self.broker = Monitor(
            Type.BROKER_REACHABLE,
            Condition(Status.TRUE, Reason.BROKER_ANSWERS, "the broker takes messages"),
            faults.of_broker(TimeoutError(_LATE)),
            utcnow=utcnow,
        )
        self.database = Monitor(
            Type.DATABASE_WRITABLE,
            Condition(Status.TRUE, Reason.DATABASE_WRITTEN, "the database takes writes"),
            faults.silent(_LATE),
            utcnow=utcnow,
        )

        self.trail = Monitor(
            Type.AUDIT_KEPT,
            Condition(
                Status.TRUE,
                Reason.NO_ROWS_LOST,
                "the audit trail has every row that this process saw last",
            ),
            faults.silent(_LATE),
            utcnow=utcnow,
        )

        self.users = Monitor(
            Type.BROKER_USERS_KEPT,
            Condition(Status.TRUE, Reason.USERS_KEPT, "Redis has the users of all believed nodes"),
            faults.of_broker(TimeoutError(_LATE)),
            utcnow=utcnow,
        )
        """Of the leader alone, and where nodes have users of their own."""

    def broker_fault_that_stays(self) -> Condition | None:
        """Return why the broker cannot be used, once that has lasted; None: it can be."""
        seen = self.broker.observed()
        lasts = self._utcnow() - seen.since >= _LASTING
        return seen.condition if lasts and seen.condition.status is Status.FALSE else None

    def observed(self) -> list[Observed]:
        """Return the conditions as of now."""
        found = [self.broker.observed(), self.database.observed(), self.trail.observed()]
        users = self.users.observed()
        return found if users.looked_at is None else [*found, users]

    def conditions(self) -> dict[str, dict[str, Any]]:
        """Return them by type, in the form of stored conditions."""
        return {seen.type.value: seen.stored() for seen in self.observed()}

    def faults(self) -> list[Fault]:
        """Return what does not work; lost audit rows and users keep not all from working."""
        found = (self.broker.fault, self.database.fault)
        return [fault for fault in found if fault is not None]
