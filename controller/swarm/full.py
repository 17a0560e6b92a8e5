"""A full reading: asks for everything in the Swarm, checks that it is plausible, and stores it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final

from sqlalchemy import select

from controller.db.models import Node
from controller.swarm import store
from controller.swarm.desired import DesiredState, PackedAttachments, TaskReading
from controller.swarm.model import SwarmError, SwarmIdentity, SwarmTask
from controller.swarm.reader import NODES_PER_QUESTION, Reader, View
from controller.swarm.readings import ReadingStart
from controller.swarm.shrink_guard import ShrinkGuard, is_suspicious_loss

SHRUNK: Final = "ListShrunk"
"""`SwarmError.reason`: too much is missing to be believed yet."""


@dataclass
class FullReading(Reader):
    """Reads everything; `guard` holds back implausible losses."""

    guard: ShrinkGuard = field(default_factory=ShrinkGuard)

    def read(
        self, meanwhile: Callable[[], None], average_share: Callable[[], float]
    ) -> tuple[View, float]:
        """Read and store everything; return the view and the seconds that the manager was busy.

        Calls `meanwhile` between questions, for what cannot wait.

        Raises:
            SwarmError: an answer is missing or not plausible; nothing was stored.
        """
        try:
            view, identity, start, tasks, rejected = self._ask_everything(meanwhile)
        finally:
            seconds = self.budget.end_series()
        now = self.utcnow()
        with self.database.read() as session:
            self._check_plausible(store.stored_counts(session), view, tasks.desired, now)
            for gone in session.scalars(select(Node.id)):
                tasks.desired.setdefault(gone, PackedAttachments.of({}))
        with self.database.write() as session:
            store.store_nodes(session, view.nodes.values(), now, whole=True)
        with self.database.write() as session:
            store.store_networks(session, [*view.networks.values()], now, whole=True)
        self.rejections.record(rejected, view.networks)
        store.store_desired(self.database, tasks.desired, self.utcnow)
        self.end_reading(start, [view.nodes[id_] for id_ in tasks.complete])
        self.readings.keep_only(view.nodes)
        with self.database.write() as session:
            # The last step: nothing is dispatched before the first one.
            store.store_cluster(session, identity, now, seconds=seconds, share=average_share())
        return view, seconds

    def _ask_everything(
        self, meanwhile: Callable[[], None]
    ) -> tuple[View, SwarmIdentity, ReadingStart, TaskReading, list[SwarmTask]]:
        ask = self.budget.ask
        identity = ask(self.swarm.identity)
        with self.database.read() as session:
            store.check_identity(session, identity)
        start = self.readings.begin()
        nodes = {node.id: node for node in ask(self.swarm.nodes)}
        networks = {network.id: network for network in ask(self.swarm.networks)}
        reading = TaskReading()
        rejected: list[SwarmTask] = []
        for ids in store.batches(list(nodes), NODES_PER_QUESTION):
            tasks = ask(partial(self.swarm.tasks_of_nodes, ids))
            reading.add(ids, networks, tasks)
            rejected += self.rejections.among(tasks)
            # New ones are recorded after this reading, and settled by the next.
            self.rejections.settle(ids, tasks)
            meanwhile()
        if ask(self.swarm.identity).swarm_id != identity.swarm_id:
            raise SwarmError("while it was read the manager became one of another Swarm")
        return View(nodes, networks, reading.service_nodes), identity, start, reading, rejected

    def _check_plausible(
        self, before: store.StoredCounts, view: View, desired: DesiredState, now: datetime
    ) -> None:
        attachments = sum(packed.count for packed in desired.values())
        losses = {
            "nodes": (len(before.nodes - view.nodes.keys()), len(before.nodes)),
            "networks": (len(before.networks - view.networks.keys()), len(before.networks)),
            "attachments": (before.attachments - attachments, before.attachments),
        }
        suspicious = [
            f"{lost} of {count} {kind}"
            for kind, (lost, count) in losses.items()
            if is_suspicious_loss(lost, count)
        ]
        if suspicious and not self.guard.confirmed(now):
            raise SwarmError(
                f"the manager no longer lists {', '.join(suspicious)}: not believed until repeated "
                "readings confirm it",
                SHRUNK,
            )
        self.guard.reset()
