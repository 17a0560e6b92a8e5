"""A limit on the share of time that questions keep the manager busy."""

import math
import time
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_AVERAGE_SECONDS: Final = 300.0


class Budget:
    """Measures the time that answers take, and tells when the next series of questions may begin.

    `share`: of all time, more than 0 and at most 1; `burst`: seconds of asking that may be saved up.
    """

    def __init__(
        self, share: float, monotonic: Callable[[], float] = time.monotonic, *, burst: float = 0.0
    ) -> None:
        self._share = share
        self._monotonic = monotonic
        self._ahead = burst / share
        self._spent = 0.0
        self._paid_at = -math.inf
        """Time at which what was spent so far is no more than the share."""
        self._average = 0.0
        self._average_at = monotonic()

    def ask(self, question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Ask a question and count its time. A failed one is free, so that it is soon asked again."""
        begin = self._monotonic()
        answer = question(*args, **kwargs)
        self._spent += self._monotonic() - begin
        return answer

    def end_series(self) -> float:
        """End a series of questions; return the seconds spent on it."""
        now = self._monotonic()
        self._average = self.average_share() + self._spent / _AVERAGE_SECONDS
        self._average_at = now
        self._paid_at = max(self._paid_at, now - self._spent) + self._spent / self._share
        spent, self._spent = self._spent, 0.0
        return spent

    def wait_seconds(self) -> float:
        """Seconds until the next series may begin; 0: now."""
        return max(0.0, self._paid_at - self._ahead - self._monotonic())

    def average_share(self) -> float:
        """Share of the last five minutes spent asking."""
        return self._average * math.exp((self._average_at - self._monotonic()) / _AVERAGE_SECONDS)
