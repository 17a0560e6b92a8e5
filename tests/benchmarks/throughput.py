"""The controller at 5,000 nodes, on real Redis and PostgreSQL: runs a second, and how long a person waits.

The controller's parts are in this process as `controller.process.leader_loops` starts them; the
workers of all nodes are one process that answers every request at once, and the person is another.
With `--sqlite`: on SQLite.
"""

import math
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import closing, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import uvicorn
from sqlalchemy import func, insert, select, update

from contract.messages import ReconcileReport
from contract.queues import REPORT_TASK, node_queue
from contract.runtime.broker import celery_app, queue_for_controller
from contract.runtime.logs import configure_logging
from contract.signing.envelope import Opened
from contract.verdicts import Mode
from controller.api.app import build
from controller.api.context import Context
from controller.db import models
from controller.db.access_models import ApiToken
from controller.db.engine import Database, open_database
from controller.db.models import (
    Attachment,
    Cluster,
    DueNode,
    Network,
    NetworkVni,
    Node,
)
from controller.leadership.fenced import FencedDatabase
from controller.leadership.lease import RENEW_SECONDS, Lease, this_process
from controller.process.consumer import Consumer
from controller.process.controller import tune_garbage_collection
from controller.process.loops import Loops, every
from controller.runs.dispatch import Dispatcher
from controller.runs.inbox import Inbox
from controller.runs.reports import ReportIntake
from controller.trust.reception import Reception
from controller.workqueue.priorities import PRIORITY_CLASSES, PriorityClass
from tests.benchmarks.peers import NETWORKS_A_NODE, answer_requests, process, requeue_by_hand
from tests.controller_process import free_port
from tests.fake_swarm import swarm_id
from tests.servers import PostgresServer, RedisServer, await_true
from tests.signed import keyring, pin
from tests.stored import wipe
from tests.tokens import give_token

SIZES: Final = (50, 500, 5_000)
NETWORKS: Final = 200
REQUEUES: Final = ((50, 0.05), (20, 2.1))
"""How many, and seconds between them: of somebody who asks for many, and of many who ask for one each."""
RESYNC: Final = timedelta(hours=1)


def names(count: int, prefix: str = "n") -> list[str]:
    """Node ids."""
    return [swarm_id(f"{prefix}{number}x") for number in range(count)]


class Controller:
    """Dispatch, intake and API, as a controller's process has them."""

    def __init__(self, database: Database, broker_url: str) -> None:
        app = celery_app("controller", broker_url)
        self.database = database
        lease = Lease(database, this_process())
        assert lease.take()
        led = FencedDatabase(database, lease)
        keys = self.keys = keyring(database)
        reception = Reception(led, keys)
        self.dispatcher = Dispatcher(
            led,
            app,
            keys,
            mode=Mode.ENFORCE,
            run_timeout=timedelta(seconds=60),
            resync=RESYNC,
            fence=lease.fence,
        )
        self._candidacy = Loops({"lease": every(RENEW_SECONDS, lease.renew)})
        self.ended = 0
        """How many runs have ended; to ask the database would be work for it."""
        intake = ReportIntake(led, resync=RESYNC, notify=self.dispatcher.notify, taken=self._count)
        inbox = Inbox(intake.reports)
        self._consumer = Consumer(
            app,
            {REPORT_TASK: reception.handler(REPORT_TASK, ReconcileReport, inbox.put)},
            [queue_for_controller()],
            silence=math.inf,
        )
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._dispatch, args=[priority_class], daemon=True)
            for priority_class in PRIORITY_CLASSES
        ]
        self._threads.append(threading.Thread(target=self._take_in, args=[inbox], daemon=True))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        give_token(database)
        api = build(
            Context(
                database,
                mode=Mode.ENFORCE,
                notify=self.dispatcher.notify,
                requeue=self.dispatcher.requeue,
            )
        )
        self._server = uvicorn.Server(
            uvicorn.Config(api, port=port, log_config=None, lifespan="off")
        )
        self._threads.append(threading.Thread(target=self._server.run, daemon=True))

    def __enter__(self) -> "Controller":
        self._candidacy.start()
        self._consumer.start()
        for thread in self._threads:
            thread.start()
        await_true(lambda: self._server.started, "the API answers")
        tune_garbage_collection()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.should_exit = True
        self.dispatcher.notify()
        self._consumer.stop()
        self._candidacy.stop(10)
        for thread in self._threads:
            thread.join(10)

    def _count(self, _report: ReconcileReport, _recorded: bool) -> None:
        self.ended += 1

    def _take_in(self, inbox: Inbox[Opened[ReconcileReport]]) -> None:
        while not self._stopping.is_set():
            inbox.step()

    def _dispatch(self, priority_class: PriorityClass) -> None:
        while not self._stopping.is_set():
            self._stopping.wait(self.dispatcher.step(priority_class))
            self.dispatcher.wait(priority_class)


def fill(database: Database, nodes: Sequence[str]) -> None:
    """Store a Swarm of these nodes at rest, each with its networks."""
    now = datetime.now(UTC)
    networks = [swarm_id(f"net{number}x") for number in range(NETWORKS)]
    wipe(database, keep=[models.Lease.__tablename__, ApiToken.__tablename__])
    with database.write() as session:
        session.add(Cluster(id=1, swarm_id=swarm_id("s"), data_path_port=4789, synced_at=now))
        session.flush()
        session.execute(
            insert(Node),
            [
                {"id": id_, "hostname": id_, "role": "worker", "availability": "active",
                 "state": "ready", "address": "192.0.2.1"}
                for id_ in nodes
            ],
        )  # fmt: skip
        session.execute(
            insert(Network), [{"id": id_, "name": id_, "ingress": False} for id_ in networks]
        )
        session.execute(
            insert(NetworkVni),
            [{"network_id": id_, "vni": 4096 + number} for number, id_ in enumerate(networks)],
        )
        session.execute(
            insert(Attachment),
            [
                {"node_id": node, "network_id": networks[(number + each) % NETWORKS],
                 "reasons": ["service"], "running": True}
                for number, node in enumerate(nodes)
                for each in range(NETWORKS_A_NODE)
            ],
        )  # fmt: skip
        session.execute(
            insert(DueNode),
            [{"node_id": id_, "due_at": now + RESYNC, "reasons": ["resync"]} for id_ in nodes],
        )
    if database.engine.dialect.name == "postgresql":
        # Else its own vacuum comes at some moment of the measurement.
        autocommit = database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        with autocommit as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")


def make_due(database: Database, after: timedelta = timedelta()) -> None:
    """Make all nodes due after so long that are at rest, but for those that a person asks for."""
    at_rest = DueNode.node_id.startswith("n"), DueNode.run_id.is_(None)
    with database.write() as session:
        # Locked in the controller's order, or the two would wait for each other.
        session.execute(
            select(DueNode.node_id).where(*at_rest).order_by(DueNode.node_id).with_for_update()
        )
        session.execute(update(DueNode).where(*at_rest).values(due_at=datetime.now(UTC) + after))


def at_rest(database: Database) -> bool:
    """Whether no run is under way of a node whose worker answers."""
    running = DueNode.run_id.is_not(None), DueNode.node_id.startswith("n")
    with database.read() as session:
        return not session.scalar(select(func.count()).where(*running))


def measure_runs(controller: Controller, broker: RedisServer, size: int) -> float:
    """Claim, send and take in the runs of so many nodes; return seconds a node.

    In the first round all devices are new, in the others all are as they were.
    """
    database, nodes = controller.database, names(size)
    fill(database, nodes)
    pin(database, *nodes)
    controller.keys.refresh()
    seconds = []
    socket = broker.url.partition("//")[2]
    with process(answer_requests, broker.url, socket, node_queue("n*")):
        cpu = time.process_time()
        for _ in range(max(2, 1_000 // size)):
            begin, ended = time.perf_counter(), controller.ended
            make_due(database)
            controller.dispatcher.notify()
            while controller.ended - ended < size:
                time.sleep(0.005)
            seconds.append(time.perf_counter() - begin)
        cpu = time.process_time() - cpu
    first, *others = seconds
    a_node = sum(seconds) / len(seconds) / size
    cpu /= len(seconds) * size
    print(
        f"{size} nodes: {first:.2f} s with new devices, then {statistics.median(others):.2f} s; "
        f"{a_node * 1000:.2f} ms a node, {cpu * 1000:.2f} of CPU in the controller"
    )
    return a_node


def measure_requeues(controller: Controller, broker: RedisServer, count: int, pause: float) -> None:
    """Requeue idle nodes by hand while all others are due for a resync, again and again."""
    busy, idle = names(SIZES[-1]), names(count, "idle")
    database = controller.database
    fill(database, [*busy, *idle])
    pin(database, *busy, *idle)
    controller.keys.refresh()
    socket = broker.url.partition("//")[2]
    with (
        process(answer_requests, broker.url, socket, node_queue("n*")),
        process(requeue_by_hand, controller.url, socket, idle, pause) as person,
    ):
        make_due(database)
        controller.dispatcher.notify()
        person.send("begin")
        waiting = []
        while not person.poll(0.5):
            with database.read() as session:
                waiting.append(
                    session.scalar(select(func.count()).where(DueNode.due_at <= datetime.now(UTC)))
                    or 0
                )
            if waiting[-1] < SIZES[-1] // 2:
                make_due(database)
        taken = person.recv()
        make_due(database, after=RESYNC)
        # The last reports are taken in before another Swarm is stored.
        await_true(partial(at_rest, database), "all runs have ended", 60)
    print(
        f"requeue by hand to the worker, {count} times, one {pause:g} s after another, while a median of "
        f"{statistics.median(waiting):.0f} resyncs wait: {told(taken)}"
    )


def told(taken: Sequence[float]) -> str:
    """Seconds, for a person to read."""
    median, late = statistics.median(taken), sorted(taken)[-len(taken) // 20]
    return f"median {median * 1000:.1f} ms, p95 {late * 1000:.1f} ms"


def main() -> None:
    """Measure, and print."""
    configure_logging(level="warning")
    with (
        tempfile.TemporaryDirectory(prefix="vxlan-operator-throughput-") as folder,
        RedisServer(Path(folder)) as broker,
        nullcontext() if "--sqlite" in sys.argv else PostgresServer() as server,
        closing(
            open_database(server.new_database() if server else f"sqlite:///{folder}/controller.db")
        ) as database,
        Controller(database, broker.url) as controller,
    ):
        costs = [measure_runs(controller, broker, size) for size in SIZES]
        print(f"a node of {SIZES[-1]} against one of {SIZES[0]}: ratio {costs[-1] / costs[0]:.2f}")
        for count, pause in REQUEUES:
            measure_requeues(controller, broker, count, pause)


if __name__ == "__main__":
    main()
