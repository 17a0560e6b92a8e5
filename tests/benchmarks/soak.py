"""A week's life in minutes: fails if memory, open files, threads or the database grow once retention works.

First a leader's parts with a clock of their own: a run of each node every quarter of an hour, a removal in
every tenth, runs and audit rows kept for a day. Then `vxctl controller` itself, with nodes due each second.
"""

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass, fields
from datetime import timedelta
from pathlib import Path

from sqlalchemy import func, select, text

from contract.messages import ReconcileRequest
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
from tests.benchmarks.throughput import answer_requests, process
from tests.big_swarm import BigDocker, BigSwarm
from tests.controller_process import ControllerProcess
from tests.fake_clock import START, Clock
from tests.reports import believed, device, report
from tests.sent import dispatcher, requests
from tests.servers import RedisServer, await_true
from tests.stored import put

DAYS = 7
STEP = timedelta(minutes=15)
KEPT = timedelta(days=1)
PROCESS_NODES = 20
PROCESS_SECONDS = (30.0, 30.0, 30.0)
_GROWTH = 1.1
"""Of memory and of the database, from the second day, or the second look, to the last."""


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
        grown = [*_week(Path(folder, "week")), *_real(Path(folder, "real"))]
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


def _real(folder: Path) -> Sequence[str]:
    """Let the controller's process work at a pace at which a minute is some hours of a small Swarm."""
    swarm = BigSwarm(PROCESS_NODES, networks=10, tasks=5, attached=1)
    for name in ("controller", "redis"):
        (folder / name).mkdir(parents=True)
    with RedisServer(folder / "redis") as redis, BigDocker(folder / "docker.sock", swarm) as docker:
        controller = ControllerProcess(
            folder / "controller",
            broker_url=redis.url,
            docker_url=docker.url,
            options=("--resync-seconds", "1"),
        )
        with (
            process(answer_requests, redis.url, redis.url.partition("//")[2], "node.n*"),
            controller.running(),
            closing(open_database(controller.database_url)) as database,
        ):
            controller.believe(*swarm.node_ids)
            looks = []
            for seconds in PROCESS_SECONDS:
                time.sleep(seconds)
                looks.append(_look(controller.pid, database))
                print(f"vxctl controller: {looks[-1]}", flush=True)
            await_true(lambda: _closed(database) > PROCESS_NODES, "runs end")
    # Nothing is old enough to be deleted, so the database may grow.
    return _grown(looks[1], looks[-1], database=False)


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
    """Name what grew: counts at all, and sizes by more than a tenth."""
    sizes = ["megabytes", *(("rows", "database_kilobytes") if database else ())]
    return [
        f"{name}: {getattr(before, name)} to {getattr(after, name)}"
        for name, limit in [*((name, _GROWTH) for name in sizes), ("files", 1.0), ("threads", 1.0)]
        if getattr(after, name) > getattr(before, name) * limit
    ]


if __name__ == "__main__":
    main()
