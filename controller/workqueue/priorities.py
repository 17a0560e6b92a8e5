"""The controller's own words: states of a run, priorities of a request, actors."""

from enum import IntEnum
from typing import Final, NamedTuple


class Priority(IntEnum):
    """Which due node goes first: the higher, the sooner."""

    RESYNC = 0
    RETRY = 1
    CHANGE = 2
    DRIFT = 3
    """Also a task that Swarm rejected because of the fault."""
    MANUAL = 4


class PriorityClass(NamedTuple):
    """The priorities that one thread sends."""

    lowest: Priority
    highest: Priority

    @property
    def expires_runs(self) -> bool:
        """Whether its thread also closes the runs whose report did not come."""
        return self.lowest is Priority.RESYNC


ALL_PRIORITIES: Final = PriorityClass(Priority.RESYNC, Priority.MANUAL)


BULK: Final = PriorityClass(Priority.RESYNC, Priority.CHANGE)


URGENT: Final = PriorityClass(Priority.DRIFT, Priority.MANUAL)


PRIORITY_CLASSES: Final = (BULK, URGENT)
"""Each in a thread of its own: so what is urgent never waits until a batch of resyncs is sent."""
