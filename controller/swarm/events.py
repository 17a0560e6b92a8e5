"""Hints from the Swarm's events: what is worth another look. They say no more than that.

Docker tells of services, networks and nodes, never of tasks; it forgets events without a word when it
restarts or when a listener is slow. So what was missed is found by reading everything now and then.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from controller.swarm.model import SwarmError, SwarmEvent

log = structlog.get_logger(__name__)

_MAX_HINTS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Hint:
    """What to look at again, by id.

    Attributes:
        everything: more may have happened than is named.
    """

    everything: bool = False
    services: frozenset[str] = frozenset()
    networks: frozenset[str] = frozenset()
    nodes: frozenset[str] = frozenset()

    def __or__(self, other: "Hint") -> "Hint":
        """Both; beyond a thousand things, everything."""
        services = self.services | other.services
        networks = self.networks | other.networks
        nodes = self.nodes | other.nodes
        if (
            self.everything
            or other.everything
            or len(services) + len(networks) + len(nodes) > _MAX_HINTS
        ):
            return Hint(everything=True)
        return Hint(services=services, networks=networks, nodes=nodes)


_NAMED: Final[dict[str, Callable[[str], Hint]]] = {
    "service": lambda id_: Hint(services=frozenset((id_,))),
    "network": lambda id_: Hint(networks=frozenset((id_,))),
    "node": lambda id_: Hint(nodes=frozenset((id_,))),
}


class Hints:
    """Collects hints between one thread that hears them and one that looks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hint = Hint(everything=True)
        self._heard = threading.Event()

    def add(self, hint: Hint) -> None:
        """There is something to look at: wakes who waits."""
        self.put_back(hint)
        self._heard.set()

    def put_back(self, hint: Hint) -> None:
        """It could not be looked at yet, and nobody need wake for it."""
        with self._lock:
            self._hint |= hint

    def take(self) -> Hint:
        """What there is to look at; it is not told again."""
        self._heard.clear()
        with self._lock:
            hint, self._hint = self._hint, Hint()
        return hint

    def wait(self, seconds: float) -> bool:
        """Wait for something to look at; return whether there is."""
        return self._heard.wait(seconds)

    def wake(self) -> None:
        """Wake who waits, for the end."""
        self._heard.set()


class Listened(Protocol):
    """Where events come from."""

    def clock(self) -> str:
        """What time it is by its clock, in a form that `events` takes."""

    def events(self, since: str) -> Iterator[SwarmEvent]:
        """What happens; ends after silence, and with a SwarmError when something may have been missed."""


class Events:
    """Listens, and turns what it hears into hints. One thread runs it."""

    def __init__(self, swarm: Listened, hints: Hints) -> None:
        self._swarm = swarm
        self._hints = hints
        self._since: str | None = None
        self._failing = False

    def step(self) -> bool:
        """Listen until there is silence or the stream breaks; return whether it is whole so far."""
        try:
            if self._since is None:
                self._since = self._swarm.clock()
                self._hints.add(Hint(everything=True))
            for event in self._swarm.events(self._since):
                self._since = event.at
                self._heard()
                named = _NAMED.get(event.kind)
                if named is not None:
                    self._hints.add(named(event.id))
        except SwarmError as error:
            if not self._failing:
                log.warning("no events of the Swarm; it is read more often", error=str(error))
            self._failing = True
            # What happens from now on, and what happened since, is found by reading everything.
            self._since = None
            return False
        self._heard()
        return True

    def _heard(self) -> None:
        if self._failing:
            log.info("events of the Swarm are heard again")
        self._failing = False
