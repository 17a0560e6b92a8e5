"""Hints from the Swarm's events: services, networks and nodes to read again soon.

Docker has no events of tasks, and loses events silently when it restarts or a listener is slow. So missed
changes are found by reading everything regularly.
"""

import threading
from dataclasses import dataclass
from typing import Any, Final

import structlog

from controller.swarm.manager import DockerSwarm
from controller.swarm.model import SwarmError

log = structlog.get_logger(__name__)

_MAX_HINTS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Hint:
    """Ids of what to read again; `everything`: more may have changed than is named."""

    everything: bool = False
    services: frozenset[str] = frozenset()
    networks: frozenset[str] = frozenset()
    nodes: frozenset[str] = frozenset()

    def __or__(self, other: "Hint") -> "Hint":
        """Both; beyond a thousand ids, everything."""
        services = self.services | other.services
        networks = self.networks | other.networks
        nodes = self.nodes | other.nodes
        count = len(services) + len(networks) + len(nodes)
        if self.everything or other.everything or count > _MAX_HINTS:
            return Hint(everything=True)
        return Hint(services=services, networks=networks, nodes=nodes)


class Hints:
    """Collects hints of several threads for the one that reads the Swarm; begins with everything."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hint = Hint(everything=True)
        self._added = threading.Event()

    def add(self, hint: Hint) -> None:
        """Add a hint and wake the reader."""
        self.put_back(hint)
        self._added.set()

    def put_back(self, hint: Hint) -> None:
        """Add a hint that could not be followed yet, without waking the reader."""
        with self._lock:
            self._hint |= hint

    def take(self) -> Hint:
        """Take all hints."""
        self._added.clear()
        with self._lock:
            hint, self._hint = self._hint, Hint()
        return hint

    def wait(self, seconds: float) -> bool:
        """Wait for a hint; return whether one was added."""
        return self._added.wait(seconds)

    def wake(self) -> None:
        """Wake the reader without a hint, to stop."""
        self._added.set()


class Events:
    """Turns events into hints. For one thread."""

    def __init__(self, source: DockerSwarm, hints: Hints) -> None:
        self._source = source
        self._hints = hints
        self._since: str | None = None
        self._failing = False

    def step(self) -> bool:
        """Listen until the stream is silent or breaks; return whether no event may be lost."""
        try:
            if self._since is None:
                self._since = self._source.clock()
                self._hints.add(Hint(everything=True))
            for event in self._source.events(self._since):
                self._since = event.at
                self._log_recovery()
                if event.kind in ("service", "network", "node"):
                    ids: dict[str, Any] = {f"{event.kind}s": frozenset((event.id,))}
                    self._hints.add(Hint(**ids))
        except SwarmError as error:
            if not self._failing:
                log.warning("no events of the Swarm; it is read more often", error=str(error))
            self._failing = True
            # The next step begins with everything, which covers all that happens until then.
            self._since = None
            return False
        self._log_recovery()
        return True

    def _log_recovery(self) -> None:
        if self._failing:
            log.info("events of the Swarm arrive again")
        self._failing = False
