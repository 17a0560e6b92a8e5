"""A full reading: asks for everything in the Swarm, checks that it is plausible, and stores it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controller.conditions.model import Reason
from controller.db.models import Attachment, Network, Node
from controller.swarm import store
from controller.swarm.desired import DesiredState, PackedAttachments, TaskReading
from controller.swarm.incremental import IncrementalReading
from controller.swarm.model import SwarmError, SwarmTask
from controller.swarm.reader import NODES_PER_QUESTION, Reader, View
from controller.swarm.shrink_guard import ShrinkGuard, is_suspicious_loss

_NODES: Final = select(Node.id)
_PRESENT: Final = {
    model: select(model.id).where(model.gone_at.is_(None)) for model in (Node, Network)
}
_ATTACHMENTS: Final = select(func.count()).select_from(Attachment)


@dataclass
class FullReading(Reader):
    """Reads everything; `guard` holds back implausible losses."""

    guard: ShrinkGuard = field(default_factory=ShrinkGuard)

    def read(self, incremental: IncrementalReading) -> float:
        """Read and store everything, and renew the view of `incremental`, which watches meanwhile.

        Returns the seconds that the manager was busy. A SwarmError stores nothing.
        """
        ask = self.budget.ask
        try:
            identity = ask(self.swarm.identity)
            with self.database.read() as session:
                store.check_identity(session, identity)
            start = self.readings.begin()
            view, tasks, rejected = self._ask_everything(incremental.watch_rejections)
            if ask(self.swarm.identity).swarm_id != identity.swarm_id:
                raise SwarmError("while it was read the manager became one of another Swarm")
        finally:
            seconds = self.budget.end_series()
        now = self.utcnow()
        with self.database.read() as session:
            self._check_plausible(session, view, tasks.desired, now)
            for gone in session.scalars(_NODES):
                tasks.desired.setdefault(gone, PackedAttachments.of({}))
            networks = [*view.networks.values()]
            is_news = store.is_news(session, view.nodes.values(), networks)
        if is_news:  # It seldom is, and a transaction that writes is dear.
            with self.database.write() as session:
                store.store_nodes(session, view.nodes.values(), now, whole=True)
            with self.database.write() as session:
                store.store_networks(session, networks, now, whole=True)
        self.rejections.record(rejected, view.networks)
        store.store_desired(self.database, tasks.desired, self.utcnow)
        self.end_reading(start, [view.nodes[id_] for id_ in tasks.complete])
        self.readings.keep_only(view.nodes)
        managers = self.swarm.read_in_full(identity)
        share = min(1.0, self.budget.average_share() + incremental.budget.average_share())
        with self.database.write(news=False) as session:
            # The last step: nothing is dispatched before the first one.
            is_news = store.store_cluster(
                session, identity, now, seconds=seconds, share=share, managers=managers
            )
        if is_news:
            self.database.news.add()
        incremental.view = view
        return seconds

    def _ask_everything(
        self, meanwhile: Callable[[], None]
    ) -> tuple[View, TaskReading, list[SwarmTask]]:
        """The Swarm, its tasks, and the rejected of these; calls `meanwhile` between questions."""
        ask = self.budget.ask
        nodes = {node.id: node for node in ask(self.swarm.nodes)}
        networks = {network.id: network for network in ask(self.swarm.networks)}
        reading = TaskReading()
        rejected: list[SwarmTask] = []
        for ids in store.batches(list(nodes), NODES_PER_QUESTION):
            tasks = ask(self.swarm.tasks_of_nodes, ids)
            reading.add(ids, networks, tasks)
            rejected += self.rejections.among(tasks, networks)
            # New ones are recorded after this reading, and settled by the next.
            self.rejections.settle(ids, tasks)
            meanwhile()
        return View(nodes, networks, reading.service_nodes), reading, rejected

    def _check_plausible(
        self, session: Session, view: View, desired: DesiredState, now: datetime
    ) -> None:
        losses = []
        lists: tuple[tuple[type[Node | Network], Collection[str]], ...] = (
            (Node, view.nodes.keys()),
            (Network, view.networks.keys()),
        )
        for model, listed in lists:
            before = set(session.scalars(_PRESENT[model]))
            losses.append((model.__tablename__, len(before.difference(listed)), len(before)))
        attachments = session.scalar(_ATTACHMENTS) or 0
        after = sum(packed.count for packed in desired.values())
        losses.append(("attachments", attachments - after, attachments))
        suspicious = [
            f"{lost} of {count} {kind}"
            for kind, lost, count in losses
            if is_suspicious_loss(lost, count)
        ]
        if suspicious and not self.guard.confirmed(now):
            raise SwarmError(
                f"the manager no longer lists {', '.join(suspicious)}: not believed until repeated "
                "readings confirm it",
                Reason.LIST_SHRUNK,
            )
        self.guard.reset()
