"""The newest reading of the Swarm for each node, dated by the stamps of the node's worker.

A worker removes what the Swarm does not want only if the Swarm was read *after* the device went idle. Clocks
of two machines cannot show that; the order of messages can. A worker puts a stamp of its own clock on its
messages; a reading that begins after a message arrived is later than its stamp, and the next request
returns the stamp to the worker.

In memory only: a new leader has read everything, and received a message of each node, within one resync.
"""

import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

from contract.messages import Stamp, SwarmReading
from controller.swarm.events import Hint, Hints

_MIN_RUN_INTERVAL_SECONDS: Final = 1.0
"""Between two runs of a node for a reading: two workers of one node would ask endlessly."""

_MAX_NODES: Final = 100_000
"""Whose stamps are kept: a message's node is not looked up first."""


class ReadingStart(NamedTuple):
    """The state just before the Swarm is asked: this process's clock, and the newest stamp by node id."""

    at: float
    stamps: Mapping[str, Stamp]


class _Newest(NamedTuple):
    """The newest reading of a node, which is later than the stamp `after`."""

    after: Stamp | None = None
    ready: tuple[float, float] | None = None
    """Start of the first and last of the newest consecutive readings with the node ready; None: it is not."""


class Readings:
    """Thread-safe: intake adds stamps, the reading thread adds readings, requests take them."""

    def __init__(
        self, hints: Hints | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._hints = hints or Hints()
        self._now = now
        self._lock = threading.Lock()
        self._stamps: dict[str, Stamp] = {}
        self._newest: dict[str, _Newest] = {}
        self._awaiting: set[str] = set()
        self._run_at: dict[str, float] = {}

    def add_stamp(self, node_id: str, stamp: Stamp) -> None:
        """Store the stamp of a message that arrived."""
        # The last one counts, not the greatest: so an impossible one is soon forgotten.
        with self._lock:
            if node_id in self._stamps or len(self._stamps) < _MAX_NODES:
                self._stamps[node_id] = stamp

    def request(self, node_id: str, *, then_run: bool) -> None:
        """Have the Swarm read for a node soon; with `then_run` the node is due after that."""
        if then_run:
            with self._lock:
                self._awaiting.add(node_id)
        self._hints.add(Hint(nodes=frozenset((node_id,))))

    def begin(self) -> ReadingStart:
        """Begin a reading; call it before the Swarm is asked."""
        with self._lock:
            return ReadingStart(self._now(), dict(self._stamps))

    def end(self, start: ReadingStart, ready: Mapping[str, bool]) -> Collection[str]:
        """Note a reading whose result is stored; return the nodes that are due because of it.

        `ready`: ids of the nodes that were read completely, and whether they are ready.
        """
        with self._lock:
            for node_id, is_ready in ready.items():
                before = self._newest.get(node_id, _Newest())
                first = start.at if before.ready is None else before.ready[0]
                after = start.stamps.get(node_id, before.after)
                self._newest[node_id] = _Newest(after, (first, start.at) if is_ready else None)
            now = self._now()
            latest = now - _MIN_RUN_INTERVAL_SECONDS
            read = self._awaiting & ready.keys() & start.stamps.keys()
            due = {node_id for node_id in read if self._run_at.get(node_id, -math.inf) <= latest}
            self._awaiting -= due
            self._run_at.update(dict.fromkeys(due, now))
            return due

    def keep_only(self, nodes: Iterable[str]) -> None:
        """Forget all other nodes: they are gone."""
        kept = set(nodes)
        with self._lock:
            tables: tuple[dict[str, Any], ...] = self._run_at, self._stamps, self._newest
            for table in tables:
                for gone in table.keys() - kept:
                    del table[gone]
            self._awaiting &= kept

    def newest(self, node_id: str) -> SwarmReading:
        """A node's newest reading, for a request. Call it before the node's desired state is read."""
        with self._lock:
            newest = self._newest.get(node_id, _Newest())
        ready = None if newest.ready is None else newest.ready[1] - newest.ready[0]
        return SwarmReading(after=newest.after, ready_seconds=ready)
