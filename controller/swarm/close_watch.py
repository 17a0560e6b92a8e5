"""Nodes where a rejected task is expected have their tasks read ten times a second.

Swarm tries a rejected task again at once, some 0.3 s later, and only then waits out its restart delay. A
device that is gone by then costs the task one delay, and one that is not costs it two. So where a device
looks dead whose network is wanted, and only a rejection is missing, that is not left to the next reading.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from controller.swarm.budget import Budget
from controller.swarm.model import Swarm, SwarmError, SwarmNetwork
from controller.swarm.rejections import Rejections

_PERIOD: Final = 0.1
_RETRY_SECONDS: Final = 1.0
_MAX_SECONDS: Final = 120.0
"""Of watching a node without a break: a dockerd that was started again tries within seconds."""
_MAX_NODES: Final = 50
_IDLE_SECONDS: Final = 1.0
_SAVED_SECONDS: Final = 0.5
"""Of asking, for the beginning: what is expected comes soon or late."""


class CloseWatch:
    """Asks for the tasks of some nodes; one thread steps, others say which nodes.

    Args:
        swarm: where to look; not one that another thread uses.
        rejections: told of the tasks.
        networks: all overlay networks by id, as last read; empty before that.
        share: of the time the manager may be asked.
        monotonic: seconds.
    """

    def __init__(
        self,
        swarm: Swarm,
        rejections: Rejections,
        networks: Callable[[], Mapping[str, SwarmNetwork]],
        *,
        share: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._swarm = swarm
        self._rejections = rejections
        self._networks = networks
        self._budget = Budget(share, monotonic, saved=_SAVED_SECONDS)
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._since: dict[str, float] = {}
        self._wanted = threading.Event()

    def expect(self, node_id: str, expected: bool) -> None:
        """Say whether a rejected task is expected on a node; said again, it changes nothing."""
        with self._lock:
            if expected:
                self._since.setdefault(node_id, self._monotonic())
            else:
                self._since.pop(node_id, None)
            if self._since:
                self._wanted.set()

    def step(self) -> float:
        """Look once, or wait a second for something to look at; return the pause until the next step."""
        nodes = self._nodes()
        networks = self._networks()
        if not nodes or not networks:
            self._wanted.clear()
            return 0.0 if self._wanted.wait(_IDLE_SECONDS) else _PERIOD
        wait = self._budget.wait()
        if wait:
            return min(wait, _RETRY_SECONDS)
        try:
            tasks = self._budget.ask(lambda: self._swarm.tasks_of_nodes(nodes))
        except SwarmError:
            return _RETRY_SECONDS  # Whoever reads everything says so.
        finally:
            self._budget.rest()
        self._rejections.record(tasks, networks)
        return _PERIOD

    def _nodes(self) -> list[str]:
        begin = self._monotonic() - _MAX_SECONDS
        with self._lock:
            return sorted(id_ for id_, since in self._since.items() if since > begin)[:_MAX_NODES]
