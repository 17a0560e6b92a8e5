"""Whatever anybody puts into a queue costs little memory, little time, and no answer."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, cycle, islice
from pathlib import Path
from queue import Empty
from typing import Final

import pytest
from kombu import Connection

from contract.queues import (
    CONTROLLER_QUEUE,
    PING_TASK,
    RECONCILE_TASK,
    REPORT_TASK,
    WORKER_PING_TASK,
    node_queue,
)
from contract.runtime.broker import celery_app, queue_for_controller
from contract.signing.envelope import MARK
from tests import garbage
from tests.builders import NODE
from tests.controller_process import ControllerProcess, controller_of
from tests.fake_docker import FakeDocker
from tests.fake_swarm import snapshot, task
from tests.garbage import arguments, message
from tests.integration.namespaces import Namespace
from tests.integration.test_broker_faults import worker_of
from tests.integration.test_controller_process import answer_request
from tests.integration.test_worker_process import Controller, Worker
from tests.servers import RedisServer

pytestmark = pytest.mark.privileged

MANY: Final = 200
"""Messages. A consumer that starts anew after each takes as many seconds."""
SLACK: Final = 60.0
"""Seconds, far from those of such a consumer: the machine may be busier than it was a moment before."""

SMALL_BOMBS: Final = 60
"""Megabytes that messages of some kilobytes may cost; each of them says to be a hundred megabytes."""
LARGE_BOMBS: Final = 250
"""The same for messages that have 20 to 50 megabytes themselves, and would be up to a gigabyte."""


@pytest.fixture
def redis(redis_server: RedisServer) -> RedisServer:
    """An empty Redis."""
    redis_server.flush()
    return redis_server


@pytest.fixture
def worker(in_empty_namespace: int, redis: RedisServer, tmp_path: Path) -> Iterator[Worker]:
    with worker_of(Namespace(in_empty_namespace), tmp_path, redis.url) as worker:
        yield worker


@pytest.fixture
def controller(redis: RedisServer, tmp_path: Path) -> Iterator[ControllerProcess]:
    full = snapshot(tasks=[task("t1", "one", "shop")])
    with (
        FakeDocker(tmp_path / "docker.sock", full) as docker,
        controller_of(tmp_path, docker, redis.url) as controller,
    ):
        yield controller


def put(redis: RedisServer, queue: str, messages: Iterator[bytes]) -> None:
    """Put messages into a queue, one after the other."""
    with redis.client() as client:
        for raw in messages:
            client.lpush(queue, raw)


def everything(to: str) -> Iterator[bytes]:
    """All kinds of messages that are none."""
    return chain(
        garbage.no_messages(),
        garbage.odd_messages(to),
        garbage.harmless_messages(to),
        garbage.compressed(to),
        garbage.blown_up(to),
        garbage.too_long(to),
    )


def peak(pid: int) -> float:
    """The most memory that a process has had, in megabytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmHWM")


@contextmanager
def consuming(redis: RedisServer, taken: list[str]) -> Iterator[Connection]:
    """A connection that adds the arguments of the controllers' messages to `taken`."""
    app = celery_app("test", redis.url)
    with (
        app.connection_for_read() as reading,
        reading.Consumer(queue_for_controller(), callbacks=[lambda body, _: taken.extend(body[0])]),
    ):
        yield reading


def test_reports_are_taken_ten_at_a_time_and_no_bad_one_keeps_another_out(
    redis: RedisServer,
) -> None:
    reports = [message(arguments(f"{MARK}{number}"), task=REPORT_TASK) for number in range(28)]
    put(redis, CONTROLLER_QUEUE, iter([b"bad", *reports[:15], b"bad", *reports[15:]]))
    taken: list[str] = []
    with redis.client() as client, consuming(redis, taken) as reading:
        client.config_resetstat()
        while len(taken) < len(reports):
            with suppress(Empty):
                reading.drain_events(timeout=60)
        asked = client.info("commandstats")
    assert taken == [f"{MARK}{number}" for number in range(28)]
    assert asked["cmdstat_brpop"]["calls"] == 3


def test_large_messages_are_taken_alone_so_that_redis_ends_no_connection_for_them(
    redis: RedisServer,
) -> None:
    """A popped message takes Redis some two and a half times its size, and what is cut off is lost."""
    texts = [f"{MARK}{number}" + "x" * (3_000_000 * (number % 2)) for number in range(10)]
    put(redis, CONTROLLER_QUEUE, (message(arguments(text), task=REPORT_TASK) for text in texts))
    taken: list[str] = []
    with redis.client() as client, consuming(redis, taken) as reading:
        client.config_set("maxmemory-clients", "16mb")
        try:
            while len(taken) < len(texts):
                reading.drain_events(timeout=60)
        finally:
            client.config_set("maxmemory-clients", "0")
    assert taken == texts


def test_a_worker_answers_after_everything_that_is_no_message(
    worker: Worker, redis: RedisServer
) -> None:
    controller = Controller(redis)
    put(redis, node_queue(NODE), everything(RECONCILE_TASK))
    controller.report_on(controller.ask())
    assert "the consumer failed" not in worker.log
    assert "dropped invalid messages" in worker.log


def test_a_controller_answers_after_everything_that_is_no_message(
    controller: ControllerProcess, redis: RedisServer
) -> None:
    put(redis, CONTROLLER_QUEUE, everything(REPORT_TASK))
    answer_request(controller, redis)
    assert "the consumer failed" not in controller.log()
    assert "dropped invalid messages" in controller.log()


@pytest.mark.parametrize(
    ("kind", "most"), [(garbage.compressed, SMALL_BOMBS), (garbage.blown_up, LARGE_BOMBS)]
)
def test_no_message_makes_a_worker_large(
    worker: Worker, redis: RedisServer, kind: Callable[[str], Iterator[bytes]], most: float
) -> None:
    controller = Controller(redis)
    controller.report_on(controller.ask())
    before = peak(worker.process.pid)
    put(redis, node_queue(NODE), kind(RECONCILE_TASK))
    controller.report_on(controller.ask())
    assert peak(worker.process.pid) - before < most


def test_no_message_makes_a_controller_large(
    controller: ControllerProcess, redis: RedisServer
) -> None:
    answer_request(controller, redis)
    before = peak(controller.pid)
    put(redis, CONTROLLER_QUEUE, garbage.compressed(REPORT_TASK))
    controller.vxctl("requeue", "one")
    answer_request(controller, redis)
    assert peak(controller.pid) - before < SMALL_BOMBS


def test_garbage_costs_a_worker_no_more_time_than_good_messages(
    worker: Worker, redis: RedisServer
) -> None:
    controller = Controller(redis)
    queue = node_queue(NODE)

    def answered(messages: Iterator[bytes]) -> float:
        begin = time.monotonic()
        put(redis, queue, islice(messages, MANY))
        controller.report_on(controller.ask())
        return time.monotonic() - begin

    good = answered(cycle([message(arguments(), task=WORKER_PING_TASK)]))
    bad = cycle(chain(garbage.no_messages(), garbage.odd_messages(RECONCILE_TASK)))
    assert answered(bad) < 5 * good + SLACK


def test_garbage_costs_a_controller_no_more_time_than_good_messages(
    controller: ControllerProcess, redis: RedisServer
) -> None:
    answer_request(controller, redis)

    def answered(messages: Iterator[bytes]) -> float:
        begin = time.monotonic()
        put(redis, CONTROLLER_QUEUE, islice(messages, MANY))
        controller.vxctl("requeue", "one")
        answer_request(controller, redis)
        return time.monotonic() - begin

    good = answered(cycle([message(arguments(), task=PING_TASK)]))
    bad = cycle(chain(garbage.no_messages(), garbage.odd_messages(REPORT_TASK)))
    assert answered(bad) < 5 * good + SLACK
