"""How much of the time the manager is asked: at most a share of it."""

import math
import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

_LATELY: Final = 300.0
"""Seconds over which the share that is shown is averaged."""


class Budget:
    """Counts the time that answers take, and says when the next question may be asked.

    Args:
        share: of the time, more than 0 and at most 1.
        monotonic: seconds.
        saved: seconds of asking that may be saved up for when much happens at once.
    """

    def __init__(
        self,
        share: float,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        saved: float = 0.0,
    ) -> None:
        self._share = share
        self._monotonic = monotonic
        self._ahead = saved / share
        self._spent = 0.0
        self._paid_at = -math.inf
        """When what was spent so far will have been the share and no more."""
        self._average = 0.0
        self._average_at = monotonic()

    def ask(self, question: Callable[[], T]) -> T:
        """Ask, and count how long the answer took. A question that fails is not counted: whoever does
        not answer is not kept busy, and is to be asked again soon."""
        begin = self._monotonic()
        answer = question()
        self._spent += self._monotonic() - begin
        return answer

    def rest(self) -> float:
        """End a series of questions; return how many seconds they took."""
        now = self._monotonic()
        self._average = self._decayed(now) + self._spent / _LATELY
        self._average_at = now
        self._paid_at = max(self._paid_at, now - self._spent) + self._spent / self._share
        spent, self._spent = self._spent, 0.0
        return spent

    def wait(self) -> float:
        """Seconds until the next series may begin; 0 when it may at once."""
        return max(0.0, self._paid_at - self._ahead - self._monotonic())

    def lately(self) -> float:
        """The share of the last minutes that was spent asking."""
        return min(1.0, self._decayed(self._monotonic()))

    def _decayed(self, now: float) -> float:
        return self._average * math.exp((self._average_at - now) / _LATELY)
