"""Waiting for something to become true, never longer than a bound."""

import time
from collections.abc import Callable
from typing import TypeVar

from .errors import LabError

Result = TypeVar("Result")
_LONGEST_REST = 0.5


def wait_until(
    predicate: Callable[[], Result | None],
    timeout: float,
    what: str,
    interval: float = 0.05,
    state: Callable[[], object] | None = None,
) -> Result:
    """Call `predicate` until it answers something true, and return that.

    It is called every `interval` seconds, or less often if a call takes long (a command, of which each
    costs a core that the lab's own programs need).

    After `timeout` seconds raise a LabError that names `what` was awaited and the last state: what
    `state` tells, or else the predicate's own last answer.
    """
    deadline = time.monotonic() + timeout
    while True:
        # Read the clock first: a predicate that blocks past the deadline still counts if it is true.
        began = time.monotonic()
        expired = began >= deadline
        answer = predicate()
        if answer:
            return answer
        if expired:
            last = state() if state is not None else answer
            raise LabError(f"waited {timeout:g} s for {what}; the last state was: {last}")
        time.sleep(max(interval, min(4 * (time.monotonic() - began), _LONGEST_REST)))
