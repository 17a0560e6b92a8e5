"""Which veth pairs are joins under way, and which a dockerd that died has left behind."""

from collections.abc import Iterable, Mapping, Set
from typing import Protocol

from contract.messages import Stamp
from worker.proof import LEFT_OVER_SECONDS
from worker.view import VethPair


class _Clock(Protocol):
    def stamp(self) -> Stamp:
        """This moment."""


class Joins:
    """How long each pair has been there, as far as anybody looked.

    Args:
        clock: of this process.
    """

    def __init__(self, clock: _Clock) -> None:
        self._clock = clock
        self._since: dict[VethPair, float] = {}

    def saw(self, pairs: Iterable[VethPair]) -> Mapping[VethPair, float]:
        """Take in all pairs that look like joins; return those that may be, with their seconds so far."""
        now = self._clock.stamp().seconds
        self._since = {pair: self._since.get(pair, now) for pair in pairs}
        return {
            pair: now - since
            for pair, since in self._since.items()
            if now - since < LEFT_OVER_SECONDS
        }

    @property
    def left_over(self) -> Set[VethPair]:
        """Pairs that have been there for longer than any join lasts."""
        now = self._clock.stamp().seconds
        return {pair for pair, since in self._since.items() if now - since >= LEFT_OVER_SECONDS}
