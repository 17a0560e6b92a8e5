"""Times of a node among the controller's: shifted until cause precedes effect, and no further. Pure.

A node's clock may be off, and nothing says by how much. But a worker begins after its request was made, and
ends before its report is stored, both by the controller's clock. If its times do not lie between these, all
times of the node are shifted, by the smallest amount that puts them there; so the true error of its clock is
at least that. A run that took longer by its node's clock than the controller waited is cut to fit.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self

NO_SHIFT: Final = timedelta(0)


@dataclass(frozen=True, slots=True)
class NodeClock:
    """How to show a node's times.

    Attributes:
        shift: added to each of its times.
        earliest, latest: the period of the run, by the controller's clock.
    """

    shift: timedelta
    earliest: datetime
    latest: datetime

    @classmethod
    def of(cls, begin: datetime, end: datetime, earliest: datetime, latest: datetime) -> Self:
        """Compare what the node says of its run with the period that the controller knows it was in."""
        latest = max(earliest, latest)
        least, most = earliest - begin, latest - end
        # Both hold only if the run is no longer than its period; else its beginning counts.
        return cls(max(least, min(NO_SHIFT, most)), earliest, latest)

    def at(
        self, when: datetime, earliest: datetime | None = None, latest: datetime | None = None
    ) -> datetime:
        """Return a time of the node, within the run's period or within the bounds that are given."""
        earliest, latest = earliest or self.earliest, latest or self.latest
        return max(earliest, min(when + self.shift, latest))
