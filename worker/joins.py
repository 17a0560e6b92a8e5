"""Since when veth pairs that look like joins under way have been seen."""

from collections.abc import Iterable

from worker.idle import IdleClock
from worker.kernel.model import VethPair
from worker.proof import Joins


class JoinClock:
    """Remembers the pairs of the last look."""

    def __init__(self, clock: IdleClock) -> None:
        self._clock = clock
        self._since: dict[VethPair, float] = {}

    def saw(self, pairs: Iterable[VethPair]) -> Joins:
        """Take in all pairs of a look; return them with the seconds since the first sight."""
        now = self._clock.stamp().seconds
        self._since = {pair: self._since.get(pair, now) for pair in pairs}
        return {pair: now - since for pair, since in self._since.items()}
