"""Words that the tables store: the states of a run, and the controller as an actor."""

from enum import StrEnum
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
