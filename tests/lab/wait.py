"""Waiting for something to become true, never longer than a bound."""

import time
from collections.abc import Callable
from typing import TypeVar

from .errors import LabError

Result = TypeVar("Result")


def wait_until(
    predicate: Callable[[], Result | None],
    timeout: float,
    what: str,
    interval: float = 0.05,
    state: Callable[[], object] | None = None,
) -> Result:
    """Call `predicate` until it answers something true, and return that.

    After `timeout` seconds raise a LabError that names `what` was awaited and the last state: what
    `state` tells, or else the predicate's own last answer.
    """
    deadline = time.monotonic() + timeout
    while True:
        # Read the clock first: a predicate that blocks past the deadline still counts if it is true.
        expired = time.monotonic() >= deadline
        answer = predicate()
        if answer:
            return answer
        if expired:
            last = state() if state is not None else answer
            raise LabError(f"waited {timeout:g} s for {what}; the last state was: {last}")
        time.sleep(interval)
