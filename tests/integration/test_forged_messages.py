"""What somebody can do who owns the broker, or one node: a real controller on a real Redis believes nothing.

Each attack is of those that were tried on a version without signatures, and did something there.
"""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from contract.messages import Hello, SignOfLife
from contract.queues import ALIVE_TASK, DRIFT_TASK, HELLO_TASK, REPORT_TASK
from contract.runtime.broker import celery_app, queue_for_controller
from contract.signing.envelope import CONTROLLERS, Signer, node_address
from contract.signing.keys import SigningKey
from contract.signing.refusals import Reason
from contract.verdicts import Verdict
from controller.trust.quota import CAPACITY
from tests.controller_process import HTTP, ControllerProcess
from tests.fake_clock import START
from tests.fake_docker import FakeDocker
from tests.fake_swarm import snapshot, swarm_id
from tests.integration.test_controller_process import last_request
from tests.integration.test_safety_cli import next_request
from tests.reports import STAMP, device, drift, report
from tests.servers import RedisServer, await_true
from tests.signed import key_of, message_text, worker

ONE, TWO = swarm_id("one"), swarm_id("two")
MALLORY = SigningKey.generate()
DAYS = timedelta(days=8)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "redis"
    folder.mkdir()
    with RedisServer(folder) as server:
        yield server


@pytest.fixture
def controller(tmp_path: Path, redis: RedisServer) -> Iterator[ControllerProcess]:
    with FakeDocker(tmp_path / "docker.sock", snapshot("one", "two")) as docker:
        options = ("--run-timeout-seconds", "3600", "--resync-seconds", "3600")
        process = ControllerProcess(
            tmp_path, broker_url=redis.url, docker_url=docker.url, options=options
        )
        try:
            process.start()
            yield process
        finally:
            process.stop(signal.SIGKILL)


class Attacker:
    """Whoever can write to Redis, beside what the controller then shows."""

    def __init__(self, controller: ControllerProcess, redis: RedisServer) -> None:
        self.controller, self.redis = controller, redis

    def put(self, task: str, argument: object) -> None:
        """Put a message into the controllers' queue."""
        with closing(celery_app("mallory", self.redis.url)) as app:
            app.send_task(task, args=[argument], queue=queue_for_controller())

    def refused(self) -> dict[str, int]:
        """What the controller has refused so far, by reason, by its metrics."""
        text = HTTP.get(f"{self.controller.url}/metrics").text
        lines = [line for line in text.splitlines() if "messages_refused_total{" in line]
        assert len(lines) == len(Reason)
        return {line.split('"')[1]: int(float(line.split()[-1])) for line in lines}

    def nodes(self) -> list[dict[str, Any]]:
        """All that the controller shows of nodes, but for what the conditions say of the silence."""
        items = HTTP.get(f"{self.controller.url}/api/v1/nodes").json()["items"]
        return [
            {key: value for key, value in item.items() if key not in ("conditions", "due_at")}
            for item in items
        ]

    def audit(self) -> list[str]:
        """The stages in the audit trail."""
        items = HTTP.get(f"{self.controller.url}/api/v1/audit?limit=1000").json()["items"]
        return [item["stage"] for item in items if not item["stage"].startswith("token")]


def sealed(
    message: BaseModel,
    task: str,
    key: SigningKey,
    sender: str,
    audience: str,
    ahead: timedelta = timedelta(),
) -> str:
    """Seal a message by a clock that is ahead (or behind, if negative)."""
    signer = Signer(key, sender, now=lambda: datetime.now(UTC) + ahead)
    return signer.seal(message.model_dump_json(), audience=audience, task=task)


def test_forged_messages_do_nothing_and_are_counted_and_shown(
    controller: ControllerProcess, redis: RedisServer
) -> None:
    attacker = Attacker(controller, redis)
    request = next_request(redis)
    removed = [device(number, Verdict.ORPHAN, removed=True) for number in range(1, 300)]
    forged = report(request.run_id, devices=removed, generation=2**31 - 1)
    before, rows = attacker.nodes(), attacker.audit()
    of_one, of_two = node_address(ONE), node_address(TWO)
    drifted = drift(7).model_copy(update={"stamp": STAMP})
    hello = Hello(node_id=ONE, worker_version="evil", at=START, reason="x")
    genuine = message_text(DRIFT_TASK, drifted)

    def of_a_day(ahead: timedelta) -> str:
        return sealed(drifted, DRIFT_TASK, key_of(ONE), of_one, CONTROLLERS, ahead)

    attacks: list[tuple[str, Any, Reason]] = [
        (REPORT_TASK, forged.model_dump_json(), Reason.UNSIGNED),
        (REPORT_TASK, json.loads(forged.model_dump_json()), Reason.UNSIGNED),
        (HELLO_TASK, hello.model_dump_json(), Reason.UNSIGNED),
        (REPORT_TASK, sealed(forged, REPORT_TASK, MALLORY, of_one, CONTROLLERS), Reason.UNKNOWN_KEY),
        (HELLO_TASK, sealed(hello, HELLO_TASK, MALLORY, of_one, CONTROLLERS), Reason.UNKNOWN_KEY),
        # Node two has a key of its own, and speaks of node one.
        (REPORT_TASK, sealed(forged, REPORT_TASK, key_of(TWO), of_two, CONTROLLERS), Reason.WRONG_SENDER),
        (REPORT_TASK, sealed(forged, REPORT_TASK, key_of(TWO), of_one, CONTROLLERS), Reason.WRONG_SENDER),
        (DRIFT_TASK, sealed(drifted, DRIFT_TASK, key_of(ONE), of_one, of_two), Reason.WRONG_AUDIENCE),
        # Its own word, which the broker has kept for days, or by a clock that is days ahead.
        (DRIFT_TASK, of_a_day(-DAYS), Reason.EXPIRED),
        (DRIFT_TASK, of_a_day(DAYS), Reason.FROM_THE_FUTURE),
        (REPORT_TASK, genuine, Reason.WRONG_TASK),
        (DRIFT_TASK, genuine.replace("vx-001001", "vx-001002"), Reason.BAD_SIGNATURE),
        (DRIFT_TASK, "vxs1." + "x" * 200_000, Reason.TOO_LARGE),
        (DRIFT_TASK, "vxs1.", Reason.MALFORMED),
    ]  # fmt: skip
    began = time.monotonic()
    for task, argument, _ in attacks:
        attacker.put(task, argument)
    expected = {reason.value: 0 for reason in Reason}
    for _, _, reason in attacks:
        expected[reason] += 1
    await_true(lambda: sum(attacker.refused().values()) >= len(attacks), "all were refused")
    assert attacker.refused() == expected
    assert attacker.nodes() == before
    assert attacker.audit() == rows

    def condition() -> dict[str, Any]:
        cluster = HTTP.get(f"{controller.url}/api/v1/status").json()["cluster"]
        return next(each for each in cluster["conditions"] if each["type"] == "MessagesBelieved")

    await_true(lambda: "unknown_key 2" in condition()["message"], "the status shows it")
    assert condition()["reason"] == "MessagesRefused"
    most = 3 + (time.monotonic() - began) / 10
    assert controller.log().count("dropped invalid messages") <= most, "and the log does not fill"


def test_a_message_that_comes_again_does_nothing_more(
    controller: ControllerProcess, redis: RedisServer
) -> None:
    attacker = Attacker(controller, redis)
    request = next_request(redis)
    told = message_text(REPORT_TASK, report(request.run_id, generation=request.generation))
    for _ in range(5):
        attacker.put(REPORT_TASK, told)
    await_true(lambda: attacker.refused()["replayed"] == 4, "four were refused")
    assert attacker.nodes()[0]["worker_version"] == "1.2.3", "and the first was taken in"


def test_a_node_that_sends_without_end_is_dropped_and_named_and_keeps_no_other_waiting(
    controller: ControllerProcess, redis: RedisServer
) -> None:
    """By signed hints. Its report on a request is taken all the same."""
    attacker = Attacker(controller, redis)
    await_true(lambda: last_request(redis) and last_request(redis, "two"), "both are asked")
    flood, began = 2 * int(CAPACITY), time.monotonic()
    with closing(celery_app("mallory", redis.url)) as app:
        for _ in range(flood):
            text = message_text(DRIFT_TASK, drift(1, node="two"))
            app.send_task(DRIFT_TASK, args=[text], queue=queue_for_controller())
    for name in ("two", "one"):
        request = last_request(redis, name)
        assert request is not None
        attacker.put(REPORT_TASK, message_text(REPORT_TASK, report(request.run_id, node=name)))
    heard = ["1.2.3", "1.2.3"]
    await_true(
        lambda: [node["worker_version"] for node in attacker.nodes()] == heard, "both are heard"
    )
    flowed = (time.monotonic() - began) * 10
    assert attacker.refused()["too_many"] > flood - CAPACITY - flowed - 9

    def degraded(name: str) -> str:
        node = HTTP.get(f"{controller.url}/api/v1/nodes/{name}").json()
        found = {each["type"]: str(each["reason"]) for each in node["conditions"]}
        return found.get("Degraded", "not derived yet")

    await_true(lambda: degraded("two") == "TooManyMessages", "and node two is named")
    assert degraded("one") != "TooManyMessages"
    assert controller.log().count("dropped invalid messages") <= 3 + (time.monotonic() - began) / 10


def test_a_dead_worker_is_not_made_to_live(
    controller: ControllerProcess, redis: RedisServer
) -> None:
    """By its own last sign of life, that of another node, or one of nobody."""

    def sign(node_id: str, count: int) -> str:
        told = SignOfLife(
            node_id=node_id, worker_version="1", session=STAMP.session, count=count, every=2.5
        )
        return worker(node_id).seal(told.model_dump_json(), audience=CONTROLLERS, task=ALIVE_TASK)

    def reason() -> str:
        node = HTTP.get(f"{controller.url}/api/v1/nodes/one").json()
        found = {each["type"]: str(each["reason"]) for each in node["conditions"]}
        return found.get("Stalled", "not derived yet")

    attacker = Attacker(controller, redis)
    request = next_request(redis)
    first, last = sign(ONE, 1), sign(ONE, 2)
    forged = sealed(
        SignOfLife(node_id=ONE, worker_version="1", session=STAMP.session, count=9, every=1e6),
        ALIVE_TASK, MALLORY, node_address(ONE), CONTROLLERS,
    )  # fmt: skip
    attacker.put(
        REPORT_TASK,
        message_text(REPORT_TASK, report(request.run_id, generation=request.generation)),
    )
    with redis.client() as client:
        key = f"node.{ONE}.alive"
        client.set(key, first)
        await_true(lambda: reason() == "Progressing", "it lives")
        client.set(key, last)
        # Now it is dead; the attacker writes whatever there is, again and again.
        tries = [first, last, sign(TWO, 3), forged, "{}"]

        def is_away() -> bool:
            client.set(key, tries[0])
            tries.append(tries.pop(0))
            return reason() == "WorkerAway"

        await_true(is_away, "it is called away all the same", pause=0.5)
