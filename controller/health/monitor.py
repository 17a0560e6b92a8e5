"""`Monitor`: whether one dependency of this process works, by the newest results, in memory."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from controller.conditions.model import Condition, Reason, Status, Type
from controller.health.faults import Fault

log = structlog.get_logger(__name__)

LATE_SECONDS: Final = 3.0
"""An attempt that has not ended by then counts as failed."""

STALE_SECONDS: Final = 15.0
"""Results older than this say nothing any more."""

_LOG_SECONDS: Final = 60.0
"""Between log lines about a fault that stays."""


@dataclass(frozen=True, slots=True)
class Observed:
    """A condition as this process sees it."""

    type: Type
    condition: Condition
    since: datetime
    """When the status last changed."""
    looked_at: datetime | None
    """When the newest result came; None: there is none yet."""

    def stored(self) -> dict[str, Any]:
        """Return it in the form of stored conditions, with `looked_at`."""
        return {
            **self.condition._asdict(),
            "since": self.since.isoformat(),
            "looked_at": None if self.looked_at is None else self.looked_at.isoformat(),
        }


class Monitor:
    """Keeps the newest results of attempts to use a dependency. Thread-safe.

    Args:
        works: the condition while attempts succeed.
        late: the fault of an attempt that has not ended.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        type_: Type,
        works: Condition,
        late: Fault,
        *,
        clock: Callable[[], float] = time.monotonic,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.type = type_
        self._works = works
        self._late = late
        self._clock = clock
        self._utcnow = utcnow
        self._lock = threading.Lock()
        self._begun: float | None = None
        self._looked: tuple[float, datetime] | None = None
        self._fault: Fault | None = None
        self._held_until = 0.0
        self._status: Status | None = None
        self._since = utcnow()
        self._logged: float | None = None

    @contextmanager
    def attempt(self, fault: Callable[[BaseException], Fault]) -> Iterator[None]:
        """Note how the block ends; an error is put into words by `fault`, and passed on."""
        with self._lock:
            self._begun = self._clock()
        try:
            yield
        except Exception as error:
            self.failed(fault(error))
            raise
        else:
            self.succeeded()
        finally:
            with self._lock:
                self._begun = None

    def succeeded(self, *, release: bool = False) -> None:
        """Note a success; `release`: of the very thing whose failure was held."""
        with self._lock:
            self._looked = self._clock(), self._utcnow()
            if self._clock() < self._held_until and not release:
                return
            ended, self._fault, self._logged = self._fault, None, None
            self._held_until = 0.0
        if ended is not None:
            log.info("a condition is True again", condition=self.type, was=ended.reason)

    def failed(self, fault: Fault, *, hold: float = 0.0) -> None:
        """Note a failure.

        Args:
            hold: seconds for which no success of others takes it back: a small write may succeed where a
                larger one has failed.
        """
        with self._lock:
            now = self._clock()
            self._looked = now, self._utcnow()
            self._fault = fault
            self._held_until = max(self._held_until, now + hold)
            due = self._logged is None or now - self._logged >= _LOG_SECONDS
            if due:
                self._logged = now
        if due:
            log.warning(
                "a condition is False",
                condition=self.type,
                reason=fault.reason,
                error=fault.message,
            )

    def observed(self) -> Observed:
        """Return the condition as of now."""
        with self._lock:
            condition = self._condition()
            if condition.status is not self._status:
                self._status, self._since = condition.status, self._utcnow()
            looked = None if self._looked is None else self._looked[1]
            return Observed(self.type, condition, self._since, looked)

    @property
    def fault(self) -> Fault | None:
        """Why the dependency does not work; None: it works, or that is not known."""
        status, reason, message = self.observed().condition
        return Fault(reason, message) if status is Status.FALSE else None

    def _condition(self) -> Condition:
        now = self._clock()
        if self._fault is not None:
            return Condition(Status.FALSE, *self._fault)
        if self._begun is not None and now - self._begun > LATE_SECONDS:
            return Condition(Status.FALSE, *self._late)
        if self._looked is None:
            return Condition(
                Status.UNKNOWN,
                Reason.NOT_PROBED,
                "this controller has just started, and has not tested it yet: look again in ten seconds",
            )
        if now - self._looked[0] > STALE_SECONDS:
            message = "not tested lately: this controller hangs; restart it"
            return Condition(Status.UNKNOWN, Reason.NOT_PROBED, message)
        return self._works
