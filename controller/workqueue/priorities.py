"""Priorities of due nodes, and the classes of them that have threads of their own."""

from enum import IntEnum
from typing import Final, NamedTuple


class Priority(IntEnum):
    """The higher, the sooner."""

    RESYNC = 0
    RETRY = 1
    CHANGE = 2
    DRIFT = 3
    """Also a task that Swarm rejected because of the fault."""
    MANUAL = 4


class PriorityClass(NamedTuple):
    """A range of priorities whose requests one thread sends."""

    lowest: Priority
    highest: Priority

    @property
    def expires_runs(self) -> bool:
        """Whether its thread also expires lost runs."""
        return self.lowest is Priority.RESYNC


ALL_PRIORITIES: Final = PriorityClass(Priority.RESYNC, Priority.MANUAL)
BULK: Final = PriorityClass(Priority.RESYNC, Priority.CHANGE)
URGENT: Final = PriorityClass(Priority.DRIFT, Priority.MANUAL)
PRIORITY_CLASSES: Final = (BULK, URGENT)
"""Each has a thread of its own: urgent requests never wait for a batch of resyncs."""
