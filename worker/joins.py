"""How long each veth pair that looks like a join under way has been there, as far as anybody looked."""

from collections.abc import Iterable
from typing import Protocol

from contract.messages import Stamp
from worker.kernel.model import VethPair
from worker.proof import Joins


class _Clock(Protocol):
    def stamp(self) -> Stamp:
        """This moment."""


class JoinClock:
    """Remembers the pairs of the last look.

    Args:
        clock: of this process.
    """

    def __init__(self, clock: _Clock) -> None:
        self._clock = clock
        self._since: dict[VethPair, float] = {}

    def saw(self, pairs: Iterable[VethPair]) -> Joins:
        """Take in all pairs that there are now; return them with their seconds so far."""
        now = self._clock.stamp().seconds
        self._since = {pair: self._since.get(pair, now) for pair in pairs}
        return {pair: now - since for pair, since in self._since.items()}
