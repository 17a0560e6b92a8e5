"""Keeping desired state what the Swarm says: everything now and then, and in between what moves.

Everything is read as often as half of the manager's time that we may take allows, but not more often
than every SYNC_SECONDS: in a small Swarm that is each time. The other half is for what cannot wait:
services, networks and nodes that events named, and tasks that were rejected. For those there is no
event, but each has a successor that waits out Swarm's restart delay with the desired state `ready`.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog
from sqlalchemy import func, select

from controller.db.engine import Database
from controller.db.models import Attachment, Node
from controller.swarm import store
from controller.swarm.budget import Budget
from controller.swarm.desired import Packed, desired_state, of_unknown_networks
from controller.swarm.events import Hint, Hints
from controller.swarm.model import (
    Swarm,
    SwarmError,
    SwarmMovedError,
    SwarmNetwork,
    SwarmNode,
    SwarmTask,
)
from controller.swarm.readings import Readings, ReadingStart
from controller.swarm.rejections import Rejections
from controller.swarm.shrink_guard import ShrinkGuard, is_suspicious_loss
from controller.workqueue import queue
from controller.workqueue.priorities import Priority
from controller.workqueue.queue import Notify

log = structlog.get_logger(__name__)

SHRUNK: Final = "ListShrunk"
"""`SwarmError.reason` of a reading in which too much is gone to be believed yet."""

_NODES_AT_ONCE: Final = 50
"""Nodes in one question: an answer of some megabytes."""
_STORED_AT_ONCE: Final = 200
"""Nodes in one transaction."""
_MAX_NODES: Final = 500
"""So many are read one by one in between; of more than that, everything."""
_MAX_SERVICES: Final = 50
"""So many are looked at in one step."""
_SAVED_SECONDS: Final = 1.0
"""Of asking, for what cannot wait."""
_QUIET_LOOKS: Final = 3
"""A service that looks the same so often has settled."""
_MAX_LOOKS: Final = 30

ServiceNodes = dict[str, tuple[str, ...]]
"""On which nodes each service has tasks, by id. A set takes ten times the memory of such a tuple."""


@dataclass(slots=True)
class _Moving:
    """A service whose tasks come and go, until it has settled: tasks have no events."""

    tasks: frozenset[tuple[str, str, bool, bool]] | None = None
    quiet: int = 0
    looks: int = 0
    next_at: float = 0.0


class Sync:
    """One look at the Swarm after another.

    Args:
        swarm: where to look.
        database: where to store.
        hints: what is worth a look.
        readings: told of each node that was read whole.
        ring: called when something may have become due.
        period: seconds between looks.
        resync: seconds after which everything is to be read again at the latest.
        share: of the time the manager may be asked.
        utcnow: the time of day.
        monotonic: seconds.
    """

    def __init__(
        self,
        swarm: Swarm,
        database: Database,
        *,
        hints: Hints,
        readings: Readings | None = None,
        notify: Notify,
        period: float,
        resync: float,
        share: float,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._swarm = swarm
        self._database = database
        self._hints = hints
        self._readings = readings or Readings()
        self._notify = notify
        self._period = period
        self._resync = resync
        self._share = share / 2
        self._whole = Budget(share / 2, monotonic)
        self._parts = Budget(share / 2, monotonic, saved=_SAVED_SECONDS)
        self._utcnow = utcnow
        self._monotonic = monotonic
        self._everything = True
        self._whole_at = self._read_at = monotonic()
        self._restarts_at = monotonic()
        self._postponed = False
        self._failing: str | None = None
        self._doubt = ShrinkGuard()
        self._nodes: dict[str, SwarmNode] = {}
        self._networks: dict[str, SwarmNetwork] = {}
        self._service_nodes: ServiceNodes = {}
        self._moving: dict[str, _Moving] = {}
        self._waiting: frozenset[str] = frozenset()
        self.rejections = Rejections(database, notify, utcnow)
        """Those that were read of; also for whoever reads some tasks besides."""

    def networks(self) -> Mapping[str, SwarmNetwork]:
        """All overlay networks by id, as last read; empty before that."""
        return self._networks

    def step(self) -> bool:
        """Look at what is worth it now, and store what the Swarm says; return whether that worked.

        On any error desired state stays as it was, and the reason is stored beside it.
        """
        hint = self._hints.take()
        self._everything |= hint.everything
        try:
            if self._whole_is_due():
                self._read_whole()
            elif self._parts.wait():
                self._hints.put_back(hint)
            else:
                self._look(hint)
        except SwarmMovedError:
            self._everything = True
        except SwarmError as error:
            self._fail(error)
            return False
        return True

    def _fail(self, error: SwarmError) -> None:
        if self._failing != error.reason:
            log.warning("desired state stays as it is", reason=error.reason, error=str(error))
        self._failing = error.reason
        self._everything = True
        if error.reason != SHRUNK:
            self._doubt.forget()
        with self._database.write() as session:
            store.note_failure(session, str(error), self._utcnow(), error.reason)

    # --- everything ---

    def _whole_is_due(self) -> bool:
        if not self._everything and self._monotonic() < self._whole_at:
            return False
        wait = self._whole.wait()
        late = self._monotonic() + wait > self._read_at + self._resync
        if wait and late and not self._postponed:
            log.info("reading everything is postponed, to spare the manager", seconds=round(wait))
        self._postponed = wait > 0 and late
        return not wait

    def _read_whole(self) -> None:
        ask = self._whole.ask
        try:
            identity = ask(self._swarm.identity)
            with self._database.read() as session:
                store.check_identity(session, identity)
            mark = self._readings.begin()
            nodes = {each.id: each for each in ask(self._swarm.nodes)}
            networks = {each.id: each for each in ask(self._swarm.networks)}
            wanted: dict[str, Packed] = {}
            service_nodes: ServiceNodes = {}
            rejected: list[SwarmTask] = []
            whole: list[str] = []
            for ids in _portions(list(nodes), _NODES_AT_ONCE):
                tasks = ask(lambda ids=ids: self._swarm.tasks_of_nodes(ids))  # type: ignore[misc]
                self._take_in(ids, networks, tasks, wanted, service_nodes)
                whole += _whole(ids, networks, tasks)
                rejected += self.rejections.among(tasks)
                # Such as are new are known after this reading, and settled by the next.
                self.rejections.settle(ids, tasks)
                self._watch_for_rejections()
            if ask(self._swarm.identity).swarm_id != identity.swarm_id:
                raise SwarmError("while it was read the manager became one of another Swarm")
        finally:
            seconds = self._whole.rest()
        now = self._utcnow()
        with self._database.read() as session:
            self._check_plausible(store.stored(session), nodes, networks, wanted, now)
            for gone in session.scalars(select(Node.id)):
                wanted.setdefault(gone, Packed.of({}))
        with self._database.write() as session:
            store.store_nodes(session, nodes.values(), now, whole=True)
        with self._database.write() as session:
            store.store_networks(session, networks.values(), now, whole=True)
        self.rejections.record(rejected, networks)
        self._store(wanted)
        self._read(mark, {id_: nodes[id_] for id_ in whole})
        self._readings.forget_others(nodes)
        with self._database.write() as session:
            # At the end: nothing is dispatched before it is known for the first time.
            share = min(1.0, self._whole.lately() + self._parts.lately())
            store.store_cluster(session, identity, now, seconds=seconds, share=share)
        self._nodes, self._networks, self._service_nodes = nodes, networks, service_nodes
        self._everything = False
        self._read_at = self._monotonic()
        self._whole_at = self._read_at + min(max(seconds / self._share, self._period), self._resync)
        if self._failing is not None:
            log.info("the Swarm can be read again")
            self._failing = None
        self._notify()

    @staticmethod
    def _take_in(
        ids: Sequence[str],
        networks: dict[str, SwarmNetwork],
        tasks: Sequence[SwarmTask],
        wanted: dict[str, Packed],
        service_nodes: ServiceNodes,
    ) -> None:
        """Note what some nodes should carry, and which services they have tasks of."""
        if not networks and any(task.networks for task in tasks):
            raise SwarmError("the manager listed no overlay networks, though tasks use some")
        for node, wants in desired_state(ids, networks.values(), tasks).items():
            wanted[node] = Packed.of(wants)
        names = {node: node for node in ids}  # one string a node, however many tasks name it
        seen: defaultdict[str, set[str]] = defaultdict(set)
        for task in tasks:
            if task.wanted and task.service_id:
                seen[task.service_id].add(names[task.node_id])
        for service, nodes in seen.items():
            _add(service_nodes, service, nodes)

    def _check_plausible(
        self,
        before: store.Stored,
        nodes: dict[str, SwarmNode],
        networks: dict[str, SwarmNetwork],
        wanted: dict[str, Packed],
        now: datetime,
    ) -> None:
        attachments = sum(each.count for each in wanted.values())
        losses = {
            "nodes": (len(before.nodes - nodes.keys()), len(before.nodes)),
            "networks": (len(before.networks - networks.keys()), len(before.networks)),
            "attachments": (before.attachments - attachments, before.attachments),
        }
        great = [
            f"{lost} of {was} {what}"
            for what, (lost, was) in losses.items()
            if is_suspicious_loss(lost, was)
        ]
        if great and not self._doubt.confirmed(now):
            raise SwarmError(
                f"the manager no longer lists {', '.join(great)}: not believed before it has said "
                "so for a while",
                SHRUNK,
            )
        self._doubt.forget()

    def _read(self, mark: ReadingStart, nodes: Mapping[str, SwarmNode]) -> None:
        """These nodes were read whole, and it is stored: have those looked at that wait for it."""
        ready = {id_: node.state == store.READY for id_, node in nodes.items()}
        awaiting = self._readings.ended(mark, ready)
        if awaiting:
            with self._database.write() as session:
                queue.request(
                    session,
                    sorted(awaiting),
                    at=self._utcnow(),
                    priority=Priority.RETRY,
                    reason="the Swarm was read for it",
                )

    def _store(self, wanted: dict[str, Packed]) -> None:
        with self._database.read() as session:
            differing = store.differing(session, wanted)
        changed = 0
        for ids in _portions(differing, _STORED_AT_ONCE):
            with self._database.write() as session:
                portion = {node: wanted[node] for node in ids}
                changed += len(store.store_wants(session, portion, self._utcnow()))
        if changed:
            log.info("desired state changed", nodes=changed)

    # --- what moves ---

    def _look(self, hint: Hint) -> None:
        """Look at rejected tasks, at what events named, and at services that have not settled."""
        mark = self._readings.begin()
        try:
            nodes = self._see_restarts() | hint.nodes
            for service in hint.services:
                self._moving[service] = _Moving()
            if nodes or hint.networks or self._moving:
                identity = self._parts.ask(self._swarm.identity)
                with self._database.read() as session:
                    store.check_identity(session, identity)
            self._see_nodes(hint.nodes)
            self._see_networks(hint.networks)
            nodes |= self._see_services()
            self._see_tasks(nodes & self._nodes.keys(), mark, hint.nodes)
        except SwarmMovedError:
            raise
        except Exception:
            # Nothing of it is forgotten, whatever it was that failed.
            self._hints.put_back(hint)
            raise
        finally:
            self._parts.rest()
        self._notify()

    def _see_restarts(self) -> frozenset[str]:
        """Look for tasks that Swarm starts again; return nodes to look at because of that."""
        self._restarts_at = self._monotonic()
        tasks = self._parts.ask(self._swarm.restarting)
        self.rejections.record(tasks, self._networks)
        nodes = set()
        for task in tasks:
            if task.id in self._waiting or not task.service_id:
                continue
            if len(self._service_nodes.get(task.service_id, ())) > _MAX_NODES:
                # Too many to ask about; of a global service its predecessor was on the same node.
                nodes.add(task.node_id)
            else:
                self._moving[task.service_id] = _Moving()
        self._waiting = frozenset(task.id for task in tasks)
        return frozenset(nodes)

    def _watch_for_rejections(self) -> None:
        """While everything is read: what cannot wait, and changes no desired state."""
        if self._parts.wait() or self._monotonic() < self._restarts_at + self._period:
            return
        try:
            self._see_restarts()
            for service in [each for each, its in self._moving.items() if its.tasks is None][
                :_MAX_SERVICES
            ]:
                tasks = self._parts.ask(
                    lambda service=service: self._swarm.tasks_of_service(service)  # type: ignore[misc]
                )
                self.rejections.record(tasks, self._networks)
        finally:
            self._parts.rest()

    def _see_nodes(self, ids: frozenset[str]) -> None:
        if not ids:
            return
        found = self._parts.ask(lambda: self._swarm.nodes(sorted(ids)))
        with self._database.write() as session:
            store.store_nodes(session, found, self._utcnow(), whole=False)
        for node in found:
            before = self._nodes.get(node.id)
            if before is None or (before.state, before.availability) != (
                node.state,
                node.availability,
            ):
                # Its tasks go elsewhere, or others come to it.
                for service, service_nodes in self._service_nodes.items():
                    if node.id in service_nodes:
                        self._moving.setdefault(service, _Moving())
            self._nodes[node.id] = node
        # Whether what is missing is gone, only the whole list can say.
        self._everything |= len(found) < len(ids)

    def _see_networks(self, ids: frozenset[str]) -> None:
        if not ids:
            return
        found = self._parts.ask(lambda: self._swarm.networks(sorted(ids)))
        with self._database.write() as session:
            store.store_networks(session, found, self._utcnow(), whole=False)
        self._networks.update((network.id, network) for network in found)
        self._everything |= len(found) < len(ids)

    def _see_services(self) -> set[str]:
        """Look at services that have not settled; return the nodes where something changed."""
        touched: set[str] = set()
        unknown: set[str] = set()
        now = self._monotonic()
        ripe = [each for each, moving in self._moving.items() if moving.next_at <= now]
        for service in ripe[:_MAX_SERVICES]:
            moving = self._moving[service]
            service_nodes = self._service_nodes.get(service, ())
            if len(service_nodes) > _MAX_NODES:
                self._everything = True
                del self._moving[service]
                continue
            tasks = self._parts.ask(
                lambda service=service: self._swarm.tasks_of_service(service)  # type: ignore[misc]
            )
            self.rejections.record(tasks, self._networks)
            wanted = [task for task in tasks if task.wanted]
            unknown.update(*(task.networks for task in wanted))
            marks = frozenset((task.id, task.node_id, task.wanted, task.running) for task in wanted)
            if moving.tasks is None:
                touched.update(service_nodes)
                moving.tasks = frozenset()
            changed = {node for _, node, *_ in marks ^ moving.tasks}
            touched |= changed
            _add(self._service_nodes, service, changed)
            moving.tasks = marks
            # One that ends may take its time, and is wanted until it has.
            settled = not changed and not any(task.ending for task in wanted)
            moving.quiet = moving.quiet + 1 if settled else 0
            moving.looks += 1
            moving.next_at = now + self._period
            if moving.quiet >= _QUIET_LOOKS or moving.looks >= _MAX_LOOKS:
                del self._moving[service]
        self._see_networks(frozenset(unknown - self._networks.keys()))
        return touched

    def _see_tasks(
        self, nodes: frozenset[str], mark: ReadingStart, looked_at: frozenset[str]
    ) -> None:
        """Store what these nodes should carry now.

        Args:
            nodes: their ids.
            mark: of before the Swarm was asked.
            looked_at: those that were asked about themselves as well, after the mark.
        """
        if len(nodes) > _MAX_NODES:
            self._everything = True
            return
        wanted: dict[str, Packed] = {}
        whole: list[str] = []
        for ids in _portions(sorted(nodes), _NODES_AT_ONCE):
            tasks = self._parts.ask(lambda ids=ids: self._swarm.tasks_of_nodes(ids))  # type: ignore[misc]
            self._see_networks(
                frozenset().union(*of_unknown_networks(self._networks.keys(), tasks).values())
            )
            self._take_in(ids, self._networks, tasks, wanted, self._service_nodes)
            whole += _whole(ids, self._networks, tasks)
            self.rejections.record(tasks, self._networks)
            self.rejections.settle(ids, tasks)
        if self._is_suspicious_loss(wanted):
            # Whether that is so, reading everything is to show.
            self._everything = True
            return
        self._store(wanted)
        self._read(mark, {id_: self._nodes[id_] for id_ in whole if id_ in looked_at})

    def _is_suspicious_loss(self, wanted: dict[str, Packed]) -> bool:
        if not wanted:
            return False
        count = select(func.count()).select_from(Attachment)
        with self._database.read() as session:
            before = session.scalar(count.where(Attachment.node_id.in_(wanted))) or 0
            lost = before - sum(each.count for each in wanted.values())
            return lost > 0 and is_suspicious_loss(lost, session.scalar(count) or 0)


def _whole(
    ids: Sequence[str], networks: Mapping[str, SwarmNetwork], tasks: Sequence[SwarmTask]
) -> list[str]:
    """Those of these nodes whose tasks name no network that the list lacks, or of which it tells no VNI."""
    numbered = {id_ for id_, network in networks.items() if network.vnis}
    unknown = of_unknown_networks(numbered, tasks)
    return [id_ for id_ in ids if id_ not in unknown]


def _add(service_nodes: ServiceNodes, service: str, nodes: set[str]) -> None:
    known = service_nodes.get(service, ())
    service_nodes[service] = (*known, *nodes.difference(known))


def _portions(ids: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    for begin in range(0, len(ids), size):
        yield ids[begin : begin + size]
