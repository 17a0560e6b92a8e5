"""Desired state of a large Swarm: storing it, finding that nothing changed, and one event.

5,000 nodes, 2,000 networks, 250,000 attachments (50 a node).
"""

import statistics
import tempfile
import time
from collections.abc import Callable

from sqlalchemy import event, func, select

from controller.db.engine import Database, open_database
from controller.db.models import Attachment
from controller.swarm import store
from controller.swarm.desired import PackedAttachments, desired_state
from controller.swarm.events import Hint, Hints
from controller.swarm.model import SwarmIdentity, SwarmTask
from controller.swarm.sync import Sync
from tests.big_swarm import BigSwarm
from tests.fake_clock import START
from tests.servers import PostgresServer

NODES, NETWORKS = 5_000, 2_000
AT_ONCE = 50


def main() -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory(prefix="vxlan-operator-desired-") as folder:
        swarm = BigSwarm(NODES, NETWORKS, tasks=7, attached=7)
        _database("SQLite", f"sqlite:///{folder}/desired.db", swarm)
        with PostgresServer() as server:
            _database("PostgreSQL", server.new_database(), swarm)


def _timed(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def _database(name: str, url: str, swarm: BigSwarm) -> None:
    database = open_database(url)
    nodes, networks = swarm.nodes(), swarm.networks()
    chunks = [
        (ids, list(swarm.tasks_of(ids)))
        for ids in (swarm.node_ids[at : at + AT_ONCE] for at in range(0, NODES, AT_ONCE))
    ]
    wanted: dict[str, PackedAttachments] = {}

    def compute() -> None:
        for ids, tasks in chunks:
            for node, wants in desired_state(ids, networks, tasks).items():
                wanted[node] = PackedAttachments.of(wants)

    def store_all() -> None:
        with database.write() as session:
            store.store_nodes(session, nodes, START, whole=True)
            store.store_networks(session, networks, START, whole=True)
        with database.read() as session:
            differing = store.differing(session, wanted)
        for at in range(0, len(differing), 200):
            with database.write() as session:
                portion = {node: wanted[node] for node in differing[at : at + 200]}
                store.store_attachments(session, portion, START)
        with database.write() as session:
            store.store_cluster(session, SwarmIdentity("s" * 25, 4789), START)

    computing = [_timed(compute) for _ in range(3)]
    first = _timed(store_all)
    with database.read() as session:
        count = session.scalar(select(func.count()).select_from(Attachment))
    again = [_timed(store_all) for _ in range(5)]
    print(f"{name}: {len(nodes)} nodes, {len(networks)} networks, {count} attachments")
    print(f"  which network belongs where, from the tasks: {statistics.median(computing):.2f} s")
    print(f"  stored for the first time: {first:.1f} s")
    print(
        f"  difference, nothing changed, reading what is stored: {statistics.median(again):.2f} s"
    )
    _event(database, swarm)
    database.close()


class _Asked:
    """A `controller.swarm.model.Swarm` of a big one, in which one service has another task now."""

    def __init__(self, swarm: BigSwarm) -> None:
        self._swarm = swarm
        self.extra: tuple[SwarmTask, ...] = ()
        self.nodes_asked = 0

    def identity(self) -> SwarmIdentity:
        return SwarmIdentity("s" * 25, 4789)

    def nodes(self, ids: object = ()) -> object:
        return self._swarm.nodes()

    def networks(self, ids: object = ()) -> object:
        return self._swarm.networks()

    def tasks_of_nodes(self, ids: list[str]) -> list[SwarmTask]:
        self.nodes_asked += len(ids)
        return [*self._swarm.tasks_of(ids), *(each for each in self.extra if each.node_id in ids)]

    def tasks_of_service(self, service_id: str) -> tuple[SwarmTask, ...]:
        return self.extra

    def restarting(self) -> tuple[SwarmTask, ...]:
        return ()


def _event(database: Database, swarm: BigSwarm) -> None:
    asked = _Asked(swarm)
    hints = Hints()
    sync = Sync(
        asked,  # type: ignore[arg-type] # as much of one as is asked here
        database,
        hints=hints,
        notify=lambda *_: None,
        period=2.0,
        resync=3600.0,
        share=0.1,
    )
    whole = _timed(sync.step)
    asked.nodes_asked = 0
    network = swarm.networks()[-1].id
    asked.extra = tuple(
        SwarmTask(f"e{node}", node, (network,), False, True, True, "", "e" * 25)
        for node in (swarm.node_ids[17], swarm.node_ids[4711])
    )
    hints.add(Hint(services=frozenset(["e" * 25])))
    statements = 0

    def count(*_: object) -> None:
        nonlocal statements
        statements += 1

    event.listen(database.engine, "before_cursor_execute", count)
    took = _timed(sync.step)
    event.remove(database.engine, "before_cursor_execute", count)
    print(
        f"  everything, step by step: {whole:.2f} s; an event of one service on two nodes: "
        f"{took * 1000:.0f} ms, {asked.nodes_asked} nodes asked about, {statements} statements"
    )


if __name__ == "__main__":
    main()
