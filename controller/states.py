"""The controller's own words: states of a run, priorities of a request, actors."""

from enum import IntEnum, StrEnum
from typing import Final

CONTROLLER: Final = "controller"
"""The actor of what no person asked for."""


class RunState(StrEnum):
    """RUNNING becomes exactly one of the others, once."""

    RUNNING = "running"
    """Sent to the node's queue; its report is awaited until its deadline."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The worker said that it could not look, or not do everything."""
    REFUSED = "refused"
    """The worker refused the request as late or stale."""
    LOST = "lost"
    """No report came by the deadline."""


class Priority(IntEnum):
    """Which due node goes first: the higher, the sooner."""

    RESYNC = 0
    RETRY = 1
    CHANGE = 2
    DRIFT = 3
    """Also a task that Swarm rejected because of the fault."""
    MANUAL = 4
