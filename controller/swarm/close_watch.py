"""Reads the tasks of nodes where a rejection is expected ten times a second.

Swarm retries a rejected task once after some 0.3 s, and only then waits its restart delay. Removing the
device before that retry saves the task one delay. So where a device looks dead, its network is wanted and
only a rejection is missing, the next regular reading would be too late.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from controller.swarm.budget import Budget
from controller.swarm.manager import DockerSwarm
from controller.swarm.model import SwarmError, SwarmNetwork
from controller.swarm.rejections import Rejections

_PERIOD_SECONDS: Final = 0.1
_RETRY_SECONDS: Final = 1.0
_IDLE_SECONDS: Final = 1.0
_MAX_SECONDS: Final = 120.0
"""Of watching a node without a break: a restarted dockerd retries within seconds."""
_MAX_NODES: Final = 50
_MAX_EXPECTED: Final = 10_000
"""Nodes that are remembered: one that leaves the Swarm expects its rejection for ever."""
_BURST_SECONDS: Final = 0.5
"""For the beginning: a rejection comes soon or late."""


@dataclass
class CloseWatch:
    """Watches the nodes that other threads name; one thread steps, and `swarm` is for it alone.

    `networks`: all overlay networks by id, as last read; `share`: of the time the manager may be asked.
    """

    swarm: DockerSwarm
    rejections: Rejections
    networks: Callable[[], Mapping[str, SwarmNetwork]]
    share: float
    monotonic: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._budget = Budget(self.share, self.monotonic, burst=_BURST_SECONDS)
        self._lock = threading.Lock()
        self._since: dict[str, float] = {}
        self._expecting = threading.Event()

    def expect(self, node_id: str, expected: bool) -> None:
        """Set whether a rejection is expected on a node; idempotent."""
        with self._lock:
            if expected:
                self._since.setdefault(node_id, self.monotonic())
                if len(self._since) > _MAX_EXPECTED:
                    del self._since[next(iter(self._since))]
            else:
                self._since.pop(node_id, None)
            if self._since:
                self._expecting.set()

    def step(self) -> float:
        """Read once, or wait up to a second for a node; return the pause before the next step in seconds."""
        begin = self.monotonic() - _MAX_SECONDS
        with self._lock:
            nodes = sorted(id_ for id_, since in self._since.items() if since > begin)[:_MAX_NODES]
        networks = self.networks()
        if not nodes or not networks:
            self._expecting.clear()
            return 0.0 if self._expecting.wait(_IDLE_SECONDS) else _PERIOD_SECONDS
        if wait := self._budget.wait_seconds():
            return min(wait, _RETRY_SECONDS)
        try:
            tasks = self._budget.ask(self.swarm.tasks_of_nodes, nodes)
        except SwarmError:
            return _RETRY_SECONDS  # The full reading reports it.
        finally:
            self._budget.end_series()
        self.rejections.record(tasks, networks)
        return _PERIOD_SECONDS
