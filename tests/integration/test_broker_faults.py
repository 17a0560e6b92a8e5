"""Redis fails in every way it is known to, under real processes: noticed end to end, cured by no person."""

import base64
import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from contract.messages import Hello, ReconcileReport
from contract.queues import CONTROLLER_QUEUE, HELLO_TASK, REPORT_TASK
from contract.runtime.exit_status import ExitStatus
from contract.verdicts import Outcome
from tests import signed
from tests.builders import NODE
from tests.controller_process import ControllerProcess, controller_of
from tests.fake_docker import FakeDocker
from tests.fake_swarm import swarm_id
from tests.integration.namespaces import Namespace
from tests.integration.test_controller_process import answer_request, node_of
from tests.integration.test_worker_process import PROGRAM, Controller, Worker, start
from tests.proxy import Proxy
from tests.servers import RedisServer, await_true

pytestmark = pytest.mark.privileged

RECOVERY_SECONDS: Final = 90.0
"""Longer than Celery waits from one try to connect to the next.

(A process may be silent for long before it thinks that it hangs: it waits for a core beside other tests.)
"""


@pytest.fixture
def host(in_empty_namespace: int) -> Namespace:
    return Namespace(in_empty_namespace)


# The worker.


@pytest.fixture
def proxy(redis: RedisServer, tmp_path: Path) -> Iterator[Proxy]:
    """Before the Redis, on a Unix socket: a worker in a namespace of its own reaches nothing else."""
    with Proxy(redis.folder / "redis.sock", tmp_path / "proxy.sock") as proxy:
        yield proxy


@contextmanager
def worker_of(
    host: Namespace, folder: Path, broker_url: str, *program: str, **settings: str
) -> Iterator[Worker]:
    """A worker that is ready; killed in the end."""
    defaults = {
        "NODE_ID": NODE,
        "BROKER_URL": broker_url,
        "JOURNAL": str(folder / "journal.jsonl"),
        "GRACE_SECONDS": "0.2",
        **signed.give_worker(folder / "journal.jsonl", settings.get("NODE_ID") or NODE),
    }
    with (folder / "worker.log").open("ab") as log:
        command = (*(program or (PROGRAM,)), "run")
        process = start(host, command, defaults | settings, log.fileno())
    try:
        worker = Worker(process, folder)
        worker.await_log("worker started")
        yield worker
    finally:
        process.kill()
        process.wait(60)


@pytest.fixture
def worker(host: Namespace, proxy: Proxy, tmp_path: Path) -> Iterator[Worker]:
    with worker_of(host, tmp_path, proxy.url) as worker:
        yield worker


def answers_again(controller: Controller, redis: RedisServer) -> ReconcileReport:
    """Ask again and again, as the real one does, until there is an answer."""
    reports: list[ReconcileReport] = []

    def answered() -> bool:
        run_id = controller.ask()
        with redis.client() as client:
            for _ in range(10):
                popped: Any = client.brpop([CONTROLLER_QUEUE], timeout=1)
                if popped is None:
                    return False
                name, payload = parsed(popped[1])
                if name == "controller.report":
                    report = signed.message_of(payload, REPORT_TASK, ReconcileReport, NODE)
                    if report.run_id == run_id:
                        reports.append(report)
                        return True
        return False

    await_true(answered, "the worker answers", RECOVERY_SECONDS)
    return reports[0]


def parsed(raw: bytes) -> tuple[str, str]:
    """The task's name and its payload."""
    message = json.loads(raw)
    arguments = json.loads(base64.b64decode(message["body"]))[0]
    return message["headers"]["task"], str(arguments[0]) if arguments else ""


def hellos(redis: RedisServer) -> list[Hello]:
    """The Hellos that wait for a controller, the oldest first."""
    with redis.client() as client:
        waiting: Any = client.lrange(CONTROLLER_QUEUE, 0, -1)
    told = [parsed(each) for each in reversed(waiting)]
    return [
        signed.message_of(payload, HELLO_TASK, Hello, NODE)
        for name, payload in told
        if name == HELLO_TASK
    ]


def test_a_worker_says_hello_when_it_starts(worker: Worker, redis: RedisServer) -> None:
    await_true(lambda: hellos(redis), "a Hello waits")
    (hello,) = hellos(redis)
    assert (hello.node_id, hello.reason) == (NODE, "the worker has started")


def test_a_worker_that_nobody_asks_says_hello_and_goes_on_living(
    host: Namespace, redis: RedisServer, tmp_path: Path
) -> None:
    with worker_of(host, tmp_path, redis.url, SILENCE_SECONDS="12") as worker:
        await_true(lambda: len(hellos(redis)) >= 2, "it wants to be asked")
        assert "no request has come for" in hellos(redis)[1].reason
        assert "a new process is needed" not in worker.log


def test_a_worker_survives_that_redis_forgets_everything_under_its_connections(
    worker: Worker, redis: RedisServer
) -> None:
    controller = Controller(redis)
    controller.report_on(controller.ask())
    redis.flush()
    assert controller.report_on(controller.ask()).outcome is Outcome.DONE


def test_a_worker_finds_out_that_its_connections_are_half_open(
    worker: Worker, proxy: Proxy, redis: RedisServer
) -> None:
    """By Celery itself (kombu from 5.7 on): the process goes on."""
    controller = Controller(redis)
    controller.report_on(controller.ask())
    assert proxy.swallow() >= 2, "one that consumes, one that publishes"
    answers_again(controller, redis)
    assert "a new process is needed" not in worker.log


def test_a_worker_survives_a_redis_that_swallows_everything_for_a_while(
    worker: Worker, proxy: Proxy, redis: RedisServer
) -> None:
    controller = Controller(redis)
    controller.report_on(controller.ask())
    proxy.swallow_all()
    controller.ask()
    worker.await_log("BRPOP got no reply")
    proxy.heal()
    answers_again(controller, redis)
    assert worker.process.poll() is None


def test_acknowledging_asks_nothing_of_redis(worker: Worker, redis: RedisServer) -> None:
    """One that Redis did not get would take the consumer's only place, and nothing more be consumed."""
    controller = Controller(redis)
    controller.report_on(controller.ask())
    controller.report_on(controller.ask())
    with redis.client() as client:
        used: Any = client.info("commandstats")
    assert "cmdstat_brpop" in used
    assert not used.keys() & {f"cmdstat_{name}" for name in ("hset", "hdel", "zrem")}


def hanging(flag: Path, program: str) -> Sequence[str]:
    """The command of a program whose consumer hangs while there is this file."""
    return (sys.executable, "-m", "tests.hanging", str(flag), program)


def test_a_worker_whose_consumer_hangs_ends_to_be_started_again(
    host: Namespace, redis: RedisServer, tmp_path: Path
) -> None:
    flag = tmp_path / "hang"
    program = hanging(flag, "vxlan-worker")
    controller = Controller(redis)
    with worker_of(host, tmp_path, redis.url, *program, SILENCE_SECONDS="8") as worker:
        controller.report_on(controller.ask())
        flag.write_bytes(b"!")
        await_true(lambda: not flag.exists(), "it hangs")
        lost = controller.ask()
        assert worker.process.wait(RECOVERY_SECONDS) == ExitStatus.RESTART
        assert "the consumer has taken nothing" in worker.log
    with worker_of(host, tmp_path, redis.url, *program, SILENCE_SECONDS="8") as worker:
        report = controller.report_on(lost)
        assert report.outcome is Outcome.DONE, "the new process takes what waited"
        assert worker.end() == 0


# The controller.


class HangingController(ControllerProcess):
    """One whose consumer hangs while there is the file `hang` in its folder."""

    @property
    def flag(self) -> Path:
        """The file."""
        return self.folder / "hang"

    def command(self) -> Sequence[str]:
        """See `Server.command`."""
        names = [f"--unset={name}" for name in os.environ if name.startswith("VXLAN_")]
        return ("env", *names, *hanging(self.flag, "vxctl"), "controller", *self._options)


@pytest.fixture
def tcp(redis: RedisServer) -> Iterator[Proxy]:
    """Before the Redis, on TCP."""
    with Proxy(redis.folder / "redis.sock") as proxy:
        yield proxy


def test_a_controller_survives_that_redis_forgets_everything_under_its_connections(
    tmp_path: Path, docker: FakeDocker, redis: RedisServer
) -> None:
    with controller_of(tmp_path, docker, redis.url) as controller:
        answer_request(controller, redis)
        redis.flush()
        controller.ask_for_run("one")
        answer_request(controller, redis)


def test_a_controller_finds_out_that_its_connections_are_half_open(
    tmp_path: Path, docker: FakeDocker, redis: RedisServer, tcp: Proxy
) -> None:
    with controller_of(tmp_path, docker, tcp.url) as controller:
        answer_request(controller, redis)
        assert tcp.swallow() >= 2
        controller.ask_for_run("one")
        answer_request(controller, redis)
        assert "a new process is needed" not in controller.log()


def test_a_controller_says_that_redis_swallows_everything_and_goes_on_when_it_is_over(
    tmp_path: Path, docker: FakeDocker, redis: RedisServer, tcp: Proxy
) -> None:
    with controller_of(tmp_path, docker, tcp.url, "--silence-seconds=8") as controller:
        answer_request(controller, redis)
        tcp.swallow_all()
        await_true(lambda: "the broker takes no messages" in controller.log(), "it notices")
        await_true(lambda: controller.answers(503), "it says so")
        tcp.heal()
        controller.ask_for_run("one")
        answer_request(controller, redis)
        # A request may be answered before the next ping tells.
        await_true(lambda: "the broker takes messages again" in controller.log(), "it is said")


def test_a_controller_whose_consumer_hangs_ends_to_be_started_again(
    tmp_path: Path, docker: FakeDocker, redis: RedisServer
) -> None:
    with controller_of(
        tmp_path, docker, redis.url, "--silence-seconds=8", kind=HangingController
    ) as controller:
        assert isinstance(controller, HangingController)
        answer_request(controller, redis)
        controller.flag.write_bytes(b"!")
        await_true(lambda: not controller.flag.exists(), "it hangs")
        controller.await_restart()
        assert "the consumer has taken nothing" in controller.log()
        controller.ask_for_run("one")
        answer_request(controller, redis)
        assert controller.end() == 0


# Both together.

RESYNC: Final = 4.0
RUN_TIMEOUT: Final = 3.0


def runs(folder: Path) -> list[tuple[str, str, str, str | None]]:
    """State, begin, deadline and end of each run of node `one`, in the order in which they were asked for."""
    with closing(sqlite3.connect(folder / "controller.db")) as connection:
        query = (
            "SELECT state, requested_at, deadline, closed_at FROM runs"
            " WHERE node_id = ? ORDER BY requested_at"
        )
        return connection.execute(query, (swarm_id("one"),)).fetchall()


def succeeded(folder: Path) -> int:
    return sum(state == "succeeded" for state, *_ in runs(folder))


def reasons(folder: Path) -> set[str]:
    """Why the runs of node `one` that succeeded were asked for."""
    with closing(sqlite3.connect(folder / "controller.db")) as connection:
        query = "SELECT reasons FROM runs WHERE node_id = ? AND state = 'succeeded'"
        rows = connection.execute(query, (swarm_id("one"),)).fetchall()
    return {str(reason) for (row,) in rows for reason in json.loads(row)}


@pytest.mark.parametrize("fault", ["flushed", "restarted", "stopped"])
def test_everything_is_reconciled_again_by_itself_and_nothing_twice_at_once(
    host: Namespace, tmp_path: Path, docker: FakeDocker, redis: RedisServer, fault: str
) -> None:
    options = (f"--resync-seconds={RESYNC:g}", f"--run-timeout-seconds={RUN_TIMEOUT:g}")
    node = swarm_id("one")
    with (
        controller_of(tmp_path, docker, redis.url, *options),
        worker_of(host, tmp_path, redis.url, NODE_ID=node) as worker,
    ):
        await_true(lambda: succeeded(tmp_path), "a first run")
        for _ in range(2):
            if fault == "flushed":
                redis.flush()
            else:
                redis.stop(signal.SIGKILL)
                time.sleep(2.0 if fault == "stopped" else 0.0)
                redis.start()
            before = succeeded(tmp_path)
            await_true(lambda: succeeded(tmp_path) > before, "it is reconciled again")  # noqa: B023
        assert worker.process.poll() is None
    assert_one_at_a_time(tmp_path)


def assert_one_at_a_time(folder: Path) -> None:
    """Each run of node `one` was asked for when the one before had ended, or had been given up.

    The report of one that was given up may still come, and says then when it ended.
    """
    for (_, _, deadline, closed), (_, requested, _, _) in pairwise(runs(folder)):
        assert closed is not None
        assert min(closed, deadline) <= requested


def test_a_minute_without_redis_costs_a_minute_and_no_new_process(
    host: Namespace, tmp_path: Path, docker: FakeDocker, redis: RedisServer
) -> None:
    options = (f"--resync-seconds={RESYNC:g}", f"--run-timeout-seconds={RUN_TIMEOUT:g}")
    node = swarm_id("one")
    with (
        controller_of(tmp_path, docker, redis.url, *options) as controller,
        worker_of(host, tmp_path, redis.url, NODE_ID=node) as worker,
    ):
        await_true(lambda: succeeded(tmp_path), "a first run")
        redis.stop(signal.SIGKILL)
        kept = len(runs(tmp_path))
        time.sleep(60.0)
        assert controller.answers(503)
        assert len(runs(tmp_path)) <= kept + 1, "an outage does not fill the history"
        redis.start()
        before = succeeded(tmp_path)
        # Celery waits for up to half a minute between two tries to connect.
        await_true(lambda: succeeded(tmp_path) > before, "it is reconciled again")
        assert "a new process is needed" not in controller.log()
        assert "a new process is needed" not in worker.log
    assert_one_at_a_time(tmp_path)


def test_a_worker_that_comes_back_is_asked_at_once(
    host: Namespace, tmp_path: Path, docker: FakeDocker, redis: RedisServer
) -> None:
    node = swarm_id("one")
    with controller_of(tmp_path, docker, redis.url, "--run-timeout-seconds=1") as controller:
        await_true(lambda: node_of(controller.json("status"), "one")["failures"] >= 4, "long away")
        with worker_of(host, tmp_path, redis.url, NODE_ID=node):
            reason = "its worker says: the worker has started"
            await_true(lambda: reason in reasons(tmp_path), "it is asked because of that")
        await_true(lambda: "a worker says Hello" in controller.log(), "it is said")
