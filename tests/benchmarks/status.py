"""What conditions, answers and metrics cost at 5,000 nodes with 50 devices each, against 50 nodes."""

import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from prometheus_client import generate_latest
from sqlalchemy import insert, update

from contract.verdicts import Mode, Urgency, Verdict
from controller.api.app import build
from controller.api.context import Context
from controller.conditions.store import ConditionStore
from controller.db.engine import Database, open_database
from controller.db.models import (
    Cluster,
    Device,
    DueNode,
    Node,
)
from controller.db.states import RunState
from controller.views import metrics
from tests.api_client import TestClient
from tests.benchmarks.measure import median_seconds
from tests.fake_clock import START, Clock
from tests.servers import PostgresServer

FEW, MANY, DEVICES = 50, 5_000, 50
RESYNC = timedelta(seconds=60)
_BATCH = 500


def main() -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory() as folder, PostgresServer() as server:
        for kind, new in (
            ("SQLite", lambda nodes: f"sqlite:///{Path(folder) / f'{nodes}.db'}"),
            ("PostgreSQL", lambda _: server.new_database()),
        ):
            few, many = ({**_measure(new, nodes)} for nodes in (FEW, MANY))
            for what, seconds in many.items():
                per_node = (seconds / MANY) / (few[what] / FEW)
                print(
                    f"{kind}, {MANY} nodes: {what} {seconds * 1000:.0f} ms "
                    f"(a node costs {per_node:.2f} of what it costs among {FEW})"
                )


def _measure(new: Callable[[int], str], nodes: int) -> dict[str, float]:
    database = open_database(new(nodes))
    try:
        _fill(database, nodes)
        clock = Clock()
        conditions = ConditionStore(database, mode=Mode.ENFORCE, resync=RESYNC, utcnow=clock)
        conditions.step()
        if database.engine.dialect.name == "postgresql":
            # As autovacuum does within a minute; without it every plan is a guess.
            with database.engine.begin() as connection:
                connection.exec_driver_sql("ANALYZE")

        def change_some() -> None:
            clock.advance(1)
            with database.write() as session:
                session.execute(
                    update(Node)
                    .where(Node.hostname < "node-01")
                    .values(limitations=[str(clock.now)])
                )
            conditions.step()

        def change_nothing() -> None:
            clock.advance(10)  # Else there is no need to derive them.
            conditions.step()

        context = Context(database, mode=Mode.ENFORCE, notify=lambda *_: None)
        with TestClient(build(context)) as client:

            def all_nodes() -> None:
                cursor: dict[str, str] | None = {}
                while cursor is not None:
                    following = client.get("/api/v1/nodes", params=cursor).json()["next"]
                    cursor = None if following is None else {"cursor": following}

            registry = metrics.registry(database, lambda: True, context.health)

            def afresh() -> None:
                generate_latest(registry)

            return {
                "a step in which nothing changed": median_seconds(change_nothing, 5),
                "a step in which a tenth did": median_seconds(change_some, 5),
                "/api/v1/status": median_seconds(lambda: client.get("/api/v1/status"), 5),
                "all nodes, page by page": median_seconds(all_nodes, 3),
                "/metrics, read afresh": median_seconds(afresh, 5),
                "/metrics, within a second of another scrape": median_seconds(
                    lambda: client.get("/metrics"), 5
                ),
            }
    finally:
        database.close()


def _fill(database: Database, nodes: int) -> None:
    with database.write() as session:
        session.add(Cluster(id=1, swarm_id="s" * 25, data_path_port=4789, synced_at=START))
        session.execute(insert(Node), [_node(number, nodes) for number in range(nodes)])
        session.execute(
            insert(DueNode),
            [
                {"node_id": _id(number), "due_at": START, "reasons": ["resync"]}
                for number in range(nodes)
            ],
        )
        for first in range(0, nodes, _BATCH):
            session.execute(
                insert(Device),
                [
                    _device(number, index)
                    for number in range(first, min(first + _BATCH, nodes))
                    for index in range(DEVICES)
                ],
            )


def _id(number: int) -> str:
    return f"n{number:024d}"


def _node(number: int, nodes: int) -> dict[str, object]:
    return {
        "id": _id(number),
        # So that a tenth of the names is below node-01.
        "hostname": f"node-{number * 100 // nodes:03d}-{number}",
        "role": "worker",
        "availability": "active",
        "state": "ready",
        "address": "192.0.2.1",
        "generation": 2,
        "attempted_generation": 2,
        "converged_generation": 2,
        "worker_version": "0.1.0",
        "worker_seen_at": START,
        "last_run_state": RunState.SUCCEEDED,
        "last_run_at": START,
    }


def _device(number: int, index: int) -> dict[str, object]:
    dead = index == 0 and number % 100 == 0
    return {
        "node_id": _id(number),
        "netns": "host" if dead else f"nsid:{index}",
        "ifindex": index + 1,
        "name": f"vx-{4096 + index:06x}-abcde",
        "vni": 4096 + index,
        "port": 4789,
        "verdict": Verdict.ORPHAN if dead else Verdict.IN_USE,
        "urgency": Urgency.STALE if dead else None,
        "network_id": None,
        "reason": "its sandbox has 2 endpoint(s)",
        "evidence": "UP, master br0",
        "first_seen_at": START,
        "judged_at": START,
        "verdict_at": START,
    }


if __name__ == "__main__":
    main()
