"""A week's life in minutes: fails if memory, open files, threads or the database grow once retention works.

First a leader's parts with a clock of their own: a run of each node every quarter of an hour, a removal in
every tenth, runs and audit rows kept for a day. Then a worker's process: as many runs, one after another. At
last `vxctl controller` itself with nodes due each second, one of them with a real worker, and clients that
follow lists.
"""

import itertools
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import astuple, dataclass, fields
from datetime import timedelta
from pathlib import Path

import httpx
from sqlalchemy import func, select, text

from contract.messages import Acknowledgement, ReconcileReport, ReconcileRequest
from contract.queues import node_queue
from contract.runtime.logs import configure_logging
from contract.verdicts import Mode, Verdict
from controller.audit.retention import AuditRetention
from controller.conditions.store import ConditionStore
from controller.db.audit_models import AuditRow
from controller.db.engine import Database, open_database
from controller.db.models import Event, Run
from controller.runs.dispatch import Dispatcher
from controller.runs.reports import ReportIntake
from controller.workqueue.retention import RunRetention
from tests.benchmarks.footprint import Process
from tests.benchmarks.peers import answer_requests, process
from tests.big_swarm import BigDocker, BigSwarm
from tests.builders import NAME, VNI
from tests.conftest import empty_namespace
from tests.controller_process import VXCTL, OwnProcess, environment
from tests.fake_clock import START, Clock
from tests.integration.namespaces import Namespace
from tests.integration.test_worker_process import PROGRAM, Controller, Worker, running
from tests.reports import believed, device, report
from tests.sent import dispatcher, requests
from tests.servers import RedisServer, await_true
from tests.stored import put
from tests.tokens import HEADERS
from tests.unit.test_worker_metrics import GET, Http

DAYS = 7
STEP = timedelta(minutes=15)
KEPT = timedelta(days=1)
RUNS_A_DAY = timedelta(days=1) // STEP
PROCESS_NODES = 30
"""The last one has a real worker."""
PROCESS_SECONDS = (60.0, 60.0, 60.0, 120.0, 120.0)
"""Between looks. What is kept for clients and SQLite's caches are full after some 5,000 runs."""
ORPHAN_SECONDS = 5.0
WORKER = ("env", PROGRAM, "run")
"""Not one that is forked from a process of the tests, which has more in its memory."""
FOLLOWED = ("nodes", "runs", "events", "audit")
"""By clients that come and go."""
FOLLOWERS = (
    ("get", "nodes", "-w"),
    ("get", "runs", "-w"),
    ("events", "-w"),
    ("audit", "--follow"),
)
"""What people leave running."""
_GROWTH = {"megabytes": 1.03, "rows": 1.1, "database_kilobytes": 1.1}
"""From the second day, or the last look but one, to the last."""
_PASSING = 2
"""Open files and threads that need not be left over."""


@dataclass(frozen=True)
class Look:
    """What may not grow."""

    megabytes: float
    files: int
    threads: int
    rows: int = 0
    database_kilobytes: int = 0

    def __str__(self) -> str:
        return ", ".join(
            f"{field.name} {value:.1f}" if isinstance(value, float) else f"{field.name} {value}"
            for field, value in zip(fields(self), astuple(self), strict=True)
        )


def main() -> None:
    """Measure, print, and end with status 1 if something grew."""
    configure_logging(level="error")
    with tempfile.TemporaryDirectory(prefix="vxlan-operator-soak-") as folder:
        grown = [
            *_week(Path(folder, "week")),
            *_worker_week(Path(folder, "worker")),
            *_real(Path(folder, "real")),
        ]
    for what in grown:
        print(f"GREW: {what}")
    sys.exit(bool(grown))


def _week(folder: Path) -> Sequence[str]:
    """Live a week by a clock of our own."""
    folder.mkdir()
    clock, looks = Clock(), []
    with (
        RedisServer(folder) as redis,
        closing(open_database(f"sqlite:///{folder}/controller.db")) as database,
    ):
        put(database)
        step = _life(database, redis, dispatcher(database, redis.url, clock), clock, folder)
        for day in range(1, DAYS + 1):
            while clock.now < START + timedelta(days=day):
                step()
            looks.append(_look(os.getpid(), database))
            print(f"day {day}: {looks[-1]}", flush=True)
    # The first day fills what is kept, and on the second it is emptied for the first time.
    return _grown(looks[1], looks[-1])


def _life(
    database: Database, redis: RedisServer, sender: Dispatcher, clock: Clock, folder: Path
) -> Callable[[], None]:
    """Return what happens in a quarter of an hour."""
    client, chance = redis.client(), random.Random(13)  # noqa: S311 -- the same week each time
    intake = ReportIntake(database, resync=STEP, notify=sender.notify, utcnow=clock)
    conditions = ConditionStore(database, mode=Mode.ENFORCE, resync=STEP, utcnow=clock)
    runs = RunRetention(database, retention=KEPT, utcnow=clock)
    audit = AuditRetention(database, days=KEPT.days, folder=folder)

    def answer(request: ReconcileRequest, name: str) -> None:
        devices = [device(number, vni=4096 + number) for number in range(1, 11)]
        if chance.random() < 0.1:
            devices.append(device(99, Verdict.ORPHAN, removed=True))
        told = report(request.run_id, node=name, devices=devices, generation=request.generation)
        intake.reports([believed(told)])

    def step() -> None:
        clock.advance(STEP.total_seconds())
        sender.step()
        for name in ("one", "two"):
            for request in requests(client, name):
                answer(request, name)
        client.flushdb()
        conditions.step()
        while runs.step():
            pass
        while audit.step(clock.now):
            pass

    return step


def _worker_week(folder: Path) -> Sequence[str]:
    """Let a worker's process serve the runs of a week, with the orphans that come meanwhile."""
    folder.mkdir()
    metrics = folder / "metrics.sock"
    with RedisServer(folder) as redis, empty_namespace() as pid:
        host, controller, looks = Namespace(pid), Controller(redis), []
        with running(
            host, folder, redis.url, command=WORKER, METRICS_LISTEN=str(metrics)
        ) as worker:
            report: ReconcileReport | None = None
            for day in range(1, DAYS + 1):
                for number in range(RUNS_A_DAY):
                    if number % 10 == 0:
                        host.add_vxlan(NAME, VNI)
                    report = _run(controller, report, until_removed=number % 10 == 0)
                    Http(metrics, GET)
                time.sleep(1)  # The last connection for metrics ends.
                looks.append(_look_at_worker(worker))
                print(f"worker, day {day}: {looks[-1]}", flush=True)
    return [f"worker, {each}" for each in _grown(looks[1], looks[-1])]


def _run(
    controller: Controller, last: ReconcileReport | None, *, until_removed: bool
) -> ReconcileReport:
    """Have the node reconciled, also again until something was removed; return the last report."""
    while True:
        known = None
        if last is not None and last.journal_id is not None and last.entries:
            through = last.entries[-1].sequence
            known = Acknowledgement(journal_id=last.journal_id, through=through)
        last = controller.report_on(controller.ask(acknowledged=known))
        if not until_removed or any(each.removed for each in last.devices):
            return last


def _look_at_worker(worker: Worker) -> Look:
    seen = Process(worker.process.pid)
    files, threads = seen.open_files(), seen.threads()
    journal = worker.journal.stat().st_size // 1024
    return Look(seen.rss_megabytes(), files, threads, len(worker.entries()), journal)


def _real(folder: Path) -> Sequence[str]:
    """Let the processes work at a pace at which a minute is some hours of a small Swarm."""
    swarm = BigSwarm(PROCESS_NODES, networks=10, tasks=5, attached=1)
    for name in ("controller", "redis"):
        (folder / name).mkdir(parents=True)
    with RedisServer(folder / "redis") as redis, BigDocker(folder / "docker.sock", swarm) as docker:
        controller = OwnProcess(
            folder / "controller",
            broker_url=redis.url,
            docker_url=docker.url,
            options=("--resync-seconds", "1"),
        )
        served = swarm.node_ids[-1]
        with ExitStack() as stack:
            enter = stack.enter_context
            others = f"{node_queue(served)[:-1]}[^{served[-1]}]"
            enter(process(answer_requests, redis.url, redis.url.partition("//")[2], others))
            enter(controller.running())
            database = enter(closing(open_database(controller.database_url)))
            controller.believe(*swarm.node_ids)
            host = Namespace(enter(empty_namespace()))
            worker = enter(running(host, folder, redis.url, command=WORKER, NODE_ID=served))
            enter(_orphans(host))
            enter(_clients_that_come_and_go(controller.url))
            watching = {
                f"vxctl {' '.join(verb)}": enter(_watch(controller.url, verb)) for verb in FOLLOWERS
            }
            pids = {"vxctl controller": controller.pid, "worker": worker.process.pid} | watching
            looks: dict[str, list[Look]] = {name: [] for name in pids}
            for seconds in PROCESS_SECONDS:
                time.sleep(seconds)
                for name, pid in pids.items():
                    looks[name].append(_look(pid, database))
                    print(f"{name}: {looks[name][-1]}", flush=True)
            await_true(lambda: _closed(database) > PROCESS_NODES, "runs end")
    # Nothing is old enough to be deleted, so the database may grow.
    return [
        f"{name}, {each}"
        for name, seen in looks.items()
        for each in _grown(seen[-2], seen[-1], database=False)
    ]


@contextmanager
def _orphans(host: Namespace) -> Iterator[None]:
    """Leak a device again and again, which the worker removes."""
    ended = threading.Event()

    def leak() -> None:
        for number in itertools.count():
            if ended.wait(ORPHAN_SECONDS):
                return
            host.add_vxlan(f"vx-{number:06x}-leak", VNI + number)

    with _in_a_thread(leak, ended):
        yield


@contextmanager
def _clients_that_come_and_go(url: str) -> Iterator[None]:
    """Begin to follow each list and end it, ten times a second."""
    ended = threading.Event()

    def follow() -> None:
        for what in itertools.cycle(FOLLOWED):
            if ended.wait(0.1):
                return
            path = f"{url}/api/v1/{what}"
            with httpx.stream(
                "GET", path, params={"watch": "true"}, headers=HEADERS, timeout=60
            ) as answer:
                assert "event: synced" in answer.iter_lines()

    with _in_a_thread(follow, ended):
        yield


@contextmanager
def _in_a_thread(target: Callable[[], None], ended: threading.Event) -> Iterator[None]:
    thread = threading.Thread(target=target)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(60)


@contextmanager
def _watch(url: str, verb: Sequence[str]) -> Iterator[int]:
    """A person's `vxctl` that follows a list; its pid."""
    follower = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", VXCTL, *verb],
        env=environment() | {"VXLAN_OPERATOR_URL": url},
        stdout=subprocess.DEVNULL,
    )
    try:
        yield follower.pid
    finally:
        assert follower.poll() is None, f"vxctl {' '.join(verb)} ended by itself"
        follower.terminate()
        follower.wait(60)


def _look(pid: int, database: Database) -> Look:
    seen = Process(pid)
    with database.read() as session:
        rows = sum(
            session.scalar(select(func.count()).select_from(kind)) or 0
            for kind in (Run, Event, AuditRow)
        )
        pages = session.scalar(text("PRAGMA page_count")) * session.scalar(text("PRAGMA page_size"))
    files, threads = seen.open_files(), seen.threads()
    return Look(seen.rss_megabytes(), files, threads, rows, pages // 1024)


def _closed(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).where(Run.closed_at.is_not(None))) or 0


def _grown(before: Look, after: Look, *, database: bool = True) -> Sequence[str]:
    """Name what grew: sizes by more than a share, counts by more than what comes and goes."""
    sizes = _GROWTH if database else ("megabytes",)
    most = {name: getattr(before, name) * _GROWTH[name] for name in sizes}
    most |= {name: getattr(before, name) + _PASSING for name in ("files", "threads")}
    return [
        f"{name}: {getattr(before, name)} to {getattr(after, name)}"
        for name, limit in most.items()
        if getattr(after, name) > limit
    ]


if __name__ == "__main__":
    main()
