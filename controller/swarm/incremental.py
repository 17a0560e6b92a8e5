"""An incremental reading: what events named, services that have not settled, and rejected tasks.

Rejected tasks have no event, but a rejected task's successor waits Swarm's restart delay in the desired
state `ready`, and these are a short list.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import func, select

from controller.db.models import Attachment
from controller.swarm import store
from controller.swarm.desired import DesiredState, TaskReading, add_nodes, unknown_networks
from controller.swarm.events import Hint
from controller.swarm.model import SwarmTask
from controller.swarm.reader import NODES_PER_QUESTION, Reader, View
from controller.swarm.readings import ReadingStart
from controller.swarm.shrink_guard import is_suspicious_loss

_MAX_NODES: Final = 500
"""In one reading; more are left to a full one."""
_MAX_SERVICES: Final = 50
"""In one reading; the others come next."""
_SETTLED_READINGS: Final = 3
"""Consecutive readings of a service without a change, after which it has settled."""
_MAX_READINGS: Final = 30
"""Of a service."""


@dataclass(slots=True)
class _Unsettled:
    """A service whose tasks come and go; tasks have no events."""

    tasks: frozenset[tuple[str, str, bool, bool]] | None = None
    unchanged: int = 0
    readings: int = 0
    next_at: float = 0.0


@dataclass
class IncrementalReading(Reader):
    """Reads what changed since the last reading; `period`: seconds between two readings of one service."""

    period: float
    monotonic: Callable[[], float]
    view: View = field(default_factory=View)

    def __post_init__(self) -> None:
        self._restarts_at = self.monotonic()
        self._restarting: frozenset[str] = frozenset()
        self._unsettled: dict[str, _Unsettled] = {}
        self._incomplete = False
        self.may_have_changed = False
        """Whether the last reading read more than rejected tasks."""

    def read(self, hint: Hint) -> bool:
        """Read and store what changed; return whether a full reading is needed."""
        self._incomplete = False
        start = self.readings.begin()
        try:
            nodes = self._read_restarting() | hint.nodes
            for service in hint.services:
                self._unsettled[service] = _Unsettled()
            self.may_have_changed = bool(nodes or hint.networks or self._unsettled)
            if self.may_have_changed:
                identity = self.budget.ask(self.swarm.identity)
                with self.database.read() as session:
                    store.check_identity(session, identity)
            self._read_nodes(hint.nodes)
            self._read_networks(hint.networks)
            nodes |= self._read_services()
            if nodes := nodes & self.view.nodes.keys():
                self._read_tasks(nodes, start, hint.nodes)
        finally:
            self.budget.end_series()
        return self._incomplete

    def watch_rejections(self) -> None:
        """Record rejections during a full reading; changes no desired state."""
        if self.budget.wait_seconds() or self.monotonic() < self._restarts_at + self.period:
            return
        try:
            self._read_restarting()
            new = [id_ for id_, service in self._unsettled.items() if service.tasks is None]
            for service in new[:_MAX_SERVICES]:
                self._tasks_of_service(service)
        finally:
            self.budget.end_series()

    def _read_restarting(self) -> frozenset[str]:
        """Read the tasks that Swarm restarts; return nodes whose tasks are to be read."""
        self._restarts_at = self.monotonic()
        tasks = self.budget.ask(self.swarm.restarting)
        self.rejections.record(tasks, self.view.networks)
        nodes = set()
        for task in tasks:
            if task.id in self._restarting or not task.service_id:
                continue
            if len(self.view.service_nodes.get(task.service_id, ())) > _MAX_NODES:
                # Too many to read; of a global service the predecessor was on the same node.
                nodes.add(task.node_id)
            else:
                self._unsettled[task.service_id] = _Unsettled()
        self._restarting = frozenset(task.id for task in tasks)
        return frozenset(nodes)

    def _tasks_of_service(self, service: str) -> Sequence[SwarmTask]:
        tasks = self.budget.ask(self.swarm.tasks_of_service, service)
        self.rejections.record(tasks, self.view.networks)
        self.rejections.note_running(tasks)
        return tasks

    def _read_nodes(self, ids: frozenset[str]) -> None:
        if not ids:
            return
        found = self.budget.ask(self.swarm.nodes, sorted(ids))
        with self.database.write() as session:
            store.store_nodes(session, found, self.utcnow(), whole=False)
        for node in found:
            before = self.view.nodes.get(node.id)
            states = node.state, node.availability
            if before is None or (before.state, before.availability) != states:
                # Tasks leave the node, or arrive.
                for service, service_nodes in self.view.service_nodes.items():
                    if node.id in service_nodes:
                        self._unsettled.setdefault(service, _Unsettled())
            self.view.nodes[node.id] = node
        # Only the whole list shows whether a missing one is gone.
        self._incomplete |= len(found) < len(ids)

    def _read_networks(self, ids: frozenset[str]) -> None:
        if not ids:
            return
        found = self.budget.ask(self.swarm.networks, sorted(ids))
        with self.database.write() as session:
            store.store_networks(session, found, self.utcnow(), whole=False)
        self.view.networks.update((network.id, network) for network in found)
        self._incomplete |= len(found) < len(ids)

    def _read_services(self) -> set[str]:
        """Read services that have not settled; return the nodes where their tasks changed."""
        nodes: set[str] = set()
        networks: set[str] = set()
        now = self.monotonic()
        due = [id_ for id_, service in self._unsettled.items() if service.next_at <= now]
        for id_ in due[:_MAX_SERVICES]:
            service = self._unsettled[id_]
            service_nodes = self.view.service_nodes.get(id_, ())
            if len(service_nodes) > _MAX_NODES:
                self._incomplete = True
                del self._unsettled[id_]
                continue
            wanted = [task for task in self._tasks_of_service(id_) if task.wanted]
            networks.update(*(task.networks for task in wanted))
            tasks = frozenset((task.id, task.node_id, task.wanted, task.running) for task in wanted)
            if service.tasks is None:
                nodes.update(service_nodes)
                service.tasks = frozenset()
            changed = {node for _, node, *_ in tasks ^ service.tasks}
            nodes |= changed
            add_nodes(self.view.service_nodes, id_, changed)
            service.tasks = tasks
            # A task may take long to end, and is wanted until then.
            unchanged = not changed and not any(task.ending for task in wanted)
            service.unchanged = service.unchanged + 1 if unchanged else 0
            service.readings += 1
            service.next_at = now + self.period
            if service.unchanged >= _SETTLED_READINGS or service.readings >= _MAX_READINGS:
                del self._unsettled[id_]
        self._read_networks(frozenset(networks - self.view.networks.keys()))
        return nodes

    def _read_tasks(self, nodes: frozenset[str], start: ReadingStart, read: frozenset[str]) -> None:
        """Store the desired state of these nodes; the nodes `read` were read themselves since `start`."""
        if len(nodes) > _MAX_NODES:
            self._incomplete = True
            return
        reading = TaskReading(self.view.service_nodes)
        for ids in store.batches(sorted(nodes), NODES_PER_QUESTION):
            tasks = self.budget.ask(self.swarm.tasks_of_nodes, ids)
            unknown = unknown_networks(self.view.networks.keys(), tasks)
            self._read_networks(frozenset().union(*unknown.values()))
            reading.add(ids, self.view.networks, tasks)
            self.rejections.record(tasks, self.view.networks)
            self.rejections.settle(ids, tasks)
        if self._is_suspicious(reading.desired):
            self._incomplete = True
            return
        store.store_desired(self.database, reading.desired, self.utcnow)
        complete = [self.view.nodes[id_] for id_ in reading.complete if id_ in read]
        self.end_reading(start, complete)

    def _is_suspicious(self, desired: DesiredState) -> bool:
        """Whether most of all attachments are lost; only a full reading may believe it."""
        count = select(func.count()).select_from(Attachment)
        with self.database.read() as session:
            before = session.scalar(count.where(Attachment.node_id.in_(desired))) or 0
            lost = before - sum(packed.count for packed in desired.values())
            return lost > 0 and is_suspicious_loss(lost, session.scalar(count) or 0)
