"""The controller at 5,000 nodes, on real Redis and PostgreSQL: runs a second, and how long a person waits.

The controller's parts are in this process as `controller.process.leader_loops` starts them; the
workers of all nodes are one process that answers every request at once, and the person is another.
With `--sqlite`: on SQLite.
"""

import base64
import json
import math
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import redis
import uvicorn
from sqlalchemy import func, insert, select, update

from contract.messages import ReconcileReport
from contract.queues import REPORT_TASK, node_queue
from contract.runtime.broker import celery_app, queue_for_controller
from contract.runtime.logs import configure_logging
from contract.runtime.transport import publish
from contract.signing.envelope import CONTROLLERS, Opened
from contract.verdicts import Mode, Verdict
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
from controller.process.controller import freeze_objects
from controller.process.loops import Loops, every
from controller.runs.dispatch import Dispatcher
from controller.runs.inbox import Inbox
from controller.runs.reports import ReportIntake
from controller.trust.reception import Reception
from controller.workqueue.priorities import PRIORITY_CLASSES, PriorityClass
from tests import reports
from tests.controller_process import free_port
from tests.fake_swarm import swarm_id
from tests.reports import device
from tests.servers import PostgresServer, RedisServer, await_true
from tests.signed import keyring, pin, worker
from tests.stored import wipe
from tests.tokens import HEADERS, give_token

SIZES: Final = (50, 500, 5_000)
NETWORKS: Final = 200
NETWORKS_A_NODE: Final = 10
REQUEUES: Final = ((50, 0.05), (20, 2.1))
"""How many, and seconds between them: of somebody who asks for many, and of many who ask for one each."""
RESYNC: Final = timedelta(hours=1)
_POLL_SECONDS: Final = 0.005
_NODE: Final = swarm_id("placeholder")
_RUN: Final = UUID(int=0)
"""In the report that each simulated worker sends, in place of what it was asked."""


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
        freeze_objects()
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


_TAKE_ALL: Final = """
local taken = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
    taken[#taken + 1] = redis.call('RPOP', key)
end
return taken
"""
"""All workers' requests at once: real workers have machines of their own, and cost this one nothing."""


def answer_requests(pipe: Connection, broker_url: str, socket: str, queues: str) -> None:
    """Be the workers of all nodes with such queues until told to end: answer each request with a report."""
    app = celery_app("workers", broker_url)
    take_all = redis.Redis(unix_socket_path=socket).register_script(_TAKE_ALL)
    devices = [
        device(number, Verdict.IN_USE, vni=4096 + number)
        for number in range(1, NETWORKS_A_NODE + 1)
    ]
    report = reports.report(node="placeholder", run_id=_RUN, devices=devices).model_dump_json()
    queue = queue_for_controller()
    pipe.send("ready")
    while not pipe.poll(_POLL_SECONDS):
        taken: Any = take_all(args=[queues])
        with app.producer_or_acquire() as producer, producer.batch():
            for message in taken:
                (request, *_), _options, _links = json.loads(
                    base64.b64decode(json.loads(message)["body"])
                )
                asked = json.loads(request.partition("\n")[2])
                told = report.replace(_NODE, asked["node_id"]).replace(str(_RUN), asked["run_id"])
                publish(
                    producer,
                    REPORT_TASK,
                    worker(asked["node_id"]).seal(told, audience=CONTROLLERS, task=REPORT_TASK),
                    queue=queue.name,
                    expires=datetime.now(UTC) + timedelta(minutes=1),
                )


def requeue_by_hand(
    pipe: Connection, url: str, socket: str, nodes: Sequence[str], pause: float
) -> None:
    """Be a person: requeue these idle nodes one after another, and tell when each worker was reached.

    From when the request is on the wire: a program that a person calls takes longer to start than all else.
    """
    listener = redis.Redis(unix_socket_path=socket, socket_timeout=40)
    pipe.send("ready")
    pipe.recv()
    taken = []
    connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
    for node in nodes:
        connection.putrequest("POST", f"/api/v1/nodes/{node}/requeue")
        connection.putheader("Content-Length", "0")
        for name, value in HEADERS.items():
            connection.putheader(name, value)
        begin = time.perf_counter()
        connection.endheaders()
        assert listener.brpop([node_queue(node)], timeout=30) is not None
        taken.append(time.perf_counter() - begin)
        with connection.getresponse() as answer:
            assert answer.status == HTTPStatus.ACCEPTED, answer.read()
            answer.read()
        time.sleep(pause)
    pipe.send(taken)


@contextmanager
def process(target: Any, *arguments: Any) -> Iterator[Connection]:
    """Another process, with a pipe to it; ends with whatever is said."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    child = multiprocessing.get_context("spawn").Process(
        target=target, args=(theirs, *arguments), daemon=True
    )
    child.start()
    theirs.close()  # So that nobody waits for one that died.
    assert ours.recv() == "ready"
    try:
        yield ours
    finally:
        with suppress(BrokenPipeError):
            ours.send("end")
        child.join(30)


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
