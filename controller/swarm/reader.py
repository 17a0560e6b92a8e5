"""What full and incremental readings share: their parts, the view, and the end of a reading."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from controller.db.engine import Database
from controller.swarm.budget import Budget
from controller.swarm.desired import ServiceNodes
from controller.swarm.manager import DockerSwarm
from controller.swarm.model import READY, SwarmNetwork, SwarmNode
from controller.swarm.readings import Readings, ReadingStart
from controller.swarm.rejections import Rejections
from controller.workqueue import queue
from controller.workqueue.priorities import Priority

NODES_PER_QUESTION: Final = 50
"""An answer of some megabytes."""


@dataclass(slots=True)
class View:
    """The Swarm as last read; incremental readings update it."""

    nodes: dict[str, SwarmNode] = field(default_factory=dict)
    networks: dict[str, SwarmNetwork] = field(default_factory=dict)
    service_nodes: ServiceNodes = field(default_factory=dict)


@dataclass
class Reader:
    """Reads the Swarm within a budget of the manager's time, and stores the result."""

    swarm: DockerSwarm
    database: Database
    readings: Readings
    rejections: Rejections
    budget: Budget
    utcnow: Callable[[], datetime]

    def end_reading(self, start: ReadingStart, nodes: Iterable[SwarmNode]) -> None:
        """Note that these nodes were read completely and stored; make those due that wait for it."""
        if due := self.readings.end(start, {node.id: node.state == READY for node in nodes}):
            reason, now = "the Swarm was read for it", self.utcnow()
            with self.database.write() as session:
                queue.request(session, sorted(due), at=now, priority=Priority.RETRY, reason=reason)
