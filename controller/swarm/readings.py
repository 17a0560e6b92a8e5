"""When the Swarm was last read for each node, told by what its worker had said before.

A worker removes what the Swarm does not want only if the Swarm was read *after* the device went idle. Clocks
of two machines cannot show that; what was heard before what can. So a worker puts a stamp of its own clock
on what it says; a reading that begins after it was heard is later than the stamp, and the worker gets it
back with its next request.

In memory alone: a controller that begins to lead knows nothing, and has read everything and heard from each
node within one resync.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from contract.messages import Stamp, SwarmReading
from controller.swarm.events import Hint, Hints

_BETWEEN_RUNS: Final = 1.0
"""Seconds between two runs of a node for a reading: two workers of one node would ask for ever."""

_MAX_NODES: Final = 100_000
"""Of which anything is remembered: what a message says of its node is not looked up first."""


class ReadingStart(NamedTuple):
    """The moment before the Swarm is asked.

    Attributes:
        at: by this process's clock.
        heard: node id to the newest stamp of its worker by then.
    """

    at: float
    heard: Mapping[str, Stamp]


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a node.

    Attributes:
        after: the stamp that the newest reading is later than.
        ready_from, ready_to: the first and last reading, without one between them that said otherwise, that
            said that the node is ready; None: the last did not.
    """

    after: Stamp | None = None
    ready_from: float | None = None
    ready_to: float | None = None


class Readings:
    """Thread-safe: intake hears, the reading thread reads, and requests tell.

    Args:
        hints: told which nodes are to be read soon.
        now: a clock in seconds that never goes back.
    """

    def __init__(
        self, hints: Hints | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._hints = hints
        self._now = now
        self._lock = threading.Lock()
        self._heard: dict[str, Stamp] = {}
        self._known: dict[str, _Known] = {}
        self._awaited: set[str] = set()
        self._named_at: dict[str, float] = {}

    def heard(self, node_id: str, stamp: Stamp | None) -> None:
        """A worker said something, with this stamp; None: it has none, and is an older worker's."""
        if stamp is not None:
            # The last one counts, and not the greatest: what nobody can have said is then soon forgotten.
            with self._lock:
                if node_id in self._heard or len(self._heard) < _MAX_NODES:
                    self._heard[node_id] = stamp

    def want(self, node_id: str, *, then_run: bool) -> None:
        """Have the Swarm read for a node soon; with `then_run` the node is looked at again after that."""
        if then_run:
            with self._lock:
                self._awaited.add(node_id)
        if self._hints is not None:
            self._hints.add(Hint(nodes=frozenset((node_id,))))

    def begin(self) -> ReadingStart:
        """To be called before the Swarm is asked."""
        with self._lock:
            return ReadingStart(self._now(), dict(self._heard))

    def ended(self, mark: ReadingStart, ready: Mapping[str, bool]) -> Collection[str]:
        """The Swarm was read whole for these nodes, and what it said is stored.

        Args:
            mark: of before it was asked.
            ready: node id to whether the Swarm says that the node is ready.

        Returns:
            Those that are to be looked at now.
        """
        with self._lock:
            for node_id, is_ready in ready.items():
                known = self._known.get(node_id, _Known())
                first = mark.at if known.ready_from is None else known.ready_from
                self._known[node_id] = replace(
                    known,
                    after=mark.heard.get(node_id, known.after),
                    ready_from=first if is_ready else None,
                    ready_to=mark.at if is_ready else None,
                )
            now = self._now()
            found = {
                each
                for each in self._awaited & ready.keys()
                if each in mark.heard
                and now - self._named_at.get(each, -_BETWEEN_RUNS) >= _BETWEEN_RUNS
            }
            self._awaited -= found
            self._named_at.update(dict.fromkeys(found, now))
            return found

    def forget_others(self, nodes: Iterable[str]) -> None:
        """All other nodes than these are gone."""
        there = set(nodes)
        with self._lock:
            self._named_at = {id_: at for id_, at in self._named_at.items() if id_ in there}
            self._heard = {id_: each for id_, each in self._heard.items() if id_ in there}
            self._known = {id_: each for id_, each in self._known.items() if id_ in there}
            self._awaited &= there

    def of(self, node_id: str) -> SwarmReading:
        """What a request tells of the newest reading. Ask before reading what the Swarm wants there."""
        with self._lock:
            known = self._known.get(node_id, _Known())
        ready = None
        if known.ready_from is not None and known.ready_to is not None:
            ready = known.ready_to - known.ready_from
        return SwarmReading(after=known.after, ready_seconds=ready)
