"""`vxctl pause`, `resume`, `mode` and `breaker` against a real controller, with a worker's part played."""

import base64
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from contract.messages import ReconcileRequest
from contract.queues import REPORT_TASK
from contract.runtime.broker import celery_app, queue_for_controller
from contract.verdicts import Mode, Verdict
from tests.controller_process import (
    HTTP,
    ControllerProcess,
    assert_clear_error,
    controller_of,
    vxctl,
)
from tests.fake_docker import FakeDocker
from tests.fake_swarm import snapshot, swarm_id
from tests.reports import device, report
from tests.servers import RedisServer, await_true
from tests.signed import message_text, request_of

ONE = swarm_id("one")
NAME = f"node one ({ONE})"


def taken(redis: RedisServer) -> ReconcileRequest | None:
    """The next request for node `one`, taken off its queue."""
    with redis.client() as client:
        raw: Any = client.rpop(f"node.{ONE}")
    if raw is None:
        return None
    (payload,), _options, _links = json.loads(base64.b64decode(json.loads(raw)["body"]))
    return request_of(payload)


def next_request(redis: RedisServer) -> ReconcileRequest:
    """The next request for node `one`."""
    found: list[ReconcileRequest] = []

    def came() -> bool:
        request = taken(redis)
        if request is not None:
            found.append(request)
        return bool(found)

    await_true(came, "a request for node one")
    return found[0]


def answer(
    controller: ControllerProcess,
    redis: RedisServer,
    request: ReconcileRequest,
    *,
    removed: int = 0,
) -> None:
    """Report a run that removed so many, and wait until that is taken in."""
    devices = [device(number, Verdict.ORPHAN, removed=True) for number in range(1, removed)]
    devices += [device(9_999, Verdict.ORPHAN, removed=removed > 0)]
    told = report(request.run_id, devices=devices, generation=request.generation)
    with closing(celery_app("worker", redis.url)) as app:
        app.send_task(
            REPORT_TASK, args=[message_text(REPORT_TASK, told)], queue=queue_for_controller()
        )

    def taken_in() -> bool:
        run = next(each for each in runs(controller) if each["id"] == str(request.run_id))
        return bool(run["state"] == "succeeded")

    await_true(taken_in, "the report is taken in")


def runs(controller: ControllerProcess) -> list[dict[str, Any]]:
    """The runs of node `one`."""
    found: list[dict[str, Any]] = HTTP.get(f"{controller.url}/api/v1/runs?node=one").json()["items"]
    return found


def test_a_paused_node_is_not_asked_and_one_that_is_resumed_is_asked_once(
    controller: ControllerProcess, redis: RedisServer
) -> None:
    answer(controller, redis, next_request(redis))
    said = controller.vxctl("pause", "one", "--reason", "a new disk", "--as", "alice@desk")
    assert said.splitlines() == [
        f"{NAME} is paused",
        "Effective mode: paused (node one is paused by admin (as alice@desk): a new disk)",
    ]
    again = controller.vxctl("pause", "one", "--as", "bob")
    assert again.splitlines()[0] == f"{NAME} is paused, as before: nothing was changed"
    told = next_request(redis)
    assert told.mode is Mode.OBSERVE
    answer(controller, redis, told)
    before = len(runs(controller))
    assert runs(controller)[0]["reasons"] == ["resync", "paused by admin (as alice@desk)"]
    assert taken(redis) is None

    said = controller.vxctl("resume", ONE[:5], "--as", "bob")
    assert said.splitlines() == [
        f"{NAME} is not paused manually",
        "Effective mode: enforce (set in the controller's settings)",
    ]
    request = next_request(redis)
    assert request.mode is Mode.ENFORCE
    answer(controller, redis, request)
    assert len(runs(controller)) == before + 1
    assert runs(controller)[0]["reasons"][-1] == "resumed by admin (as bob)"
    rows = [
        (row["stage"], row["actor"], row["claimed_name"])
        for row in reversed(controller_audit(controller))
        if row["stage"] in ("paused", "resumed")
    ]
    assert rows == [("paused", "admin", "alice@desk"), ("resumed", "admin", "bob")]


def controller_audit(controller: ControllerProcess) -> list[dict[str, Any]]:
    """All audit rows, the newest first."""
    answered = controller.json("audit")
    found: list[dict[str, Any]] = answered if isinstance(answered, list) else answered["items"]
    return found


def test_the_mode_of_a_network_is_in_the_next_request(
    controller: ControllerProcess, redis: RedisServer
) -> None:
    answer(controller, redis, next_request(redis))
    decided = controller.json("mode", "observe", "--network", "shop", "--reason", "leak 4711")
    assert (decided["changed"], decided["mode"], decided["effective_mode"]) == (
        True,
        "observe",
        "observe",
    )
    request = next_request(redis)
    assert {each.name: each.mode for each in request.desired} == {
        "ingress": Mode.ENFORCE,
        "shop": Mode.OBSERVE,
    }
    answer(controller, redis, request)
    said = controller.vxctl("mode", "observe", "--network", "shop")
    assert said.splitlines() == [
        f"network shop ({swarm_id('shop')}) has the mode observe, as before: nothing was changed",
        "Effective mode: observe (set manually on network shop)",
    ]
    controller.vxctl("mode", "default", "--network", "shop")
    controller.vxctl("mode", "observe", "--cluster")
    while (request := next_request(redis)).mode is not Mode.OBSERVE:
        answer(controller, redis, request)
    assert {each.mode for each in request.desired} == {Mode.ENFORCE}


def test_the_breaker_is_shown_and_reset(controller: ControllerProcess, redis: RedisServer) -> None:
    said = controller.vxctl("breaker")
    assert "0 node(s) removed devices in the last 600 s; the cluster breaker trips above 5" in said
    assert "200 removals" in said
    request = next_request(redis)
    assert request.max_removals == 200
    answer(controller, redis, request, removed=200)

    shown = controller.json("breaker")
    assert [(each["hostname"], each["removals"]) for each in shown["nodes"]] == [("one", 200)]
    assert "one   " in controller.vxctl("breaker")
    assert "tripped" in controller.vxctl("breaker")
    assert "THE BREAKER HAS TRIPPED" in controller.log()

    controller.vxctl("requeue", "one")
    request = next_request(redis)
    assert request.mode is Mode.OBSERVE
    answer(controller, redis, request)

    said = controller.vxctl("breaker", "reset", "two")
    assert said == "No breaker had tripped there: nothing was changed.\n"
    said = controller.vxctl("breaker", "reset", "--reason", "seen", "--as", "alice")
    assert said == "The breaker of node one is reset.\n"
    request = next_request(redis)
    assert (request.mode, request.max_removals) == (Mode.ENFORCE, 200)
    rows = controller.json("audit", "--stage", "breaker_tripped", "--stage", "breaker_reset")
    stages = [(row["stage"], row["actor"], row["claimed_name"]) for row in rows]
    assert ("breaker_tripped", "controller", None) in stages
    assert stages[0] == ("breaker_reset", "admin", "alice")


@pytest.mark.parametrize(
    ("command", "problem", "status"),
    [
        (["pause"], "exactly one target", 2),
        (["pause", "one", "--cluster"], "exactly one target", 2),
        (["mode", "observe", "one", "--network", "shop"], "exactly one target", 2),
        (["pause", "nosuch"], "no node has", 1),
        (["resume", "--network", "nosuch"], "no network has", 1),
        (["pause", "one", "--reason", "a\nb"], "reason: ", 2),
        (["pause", "one", "--as", ""], "actor: ", 2),
        (["breaker", "reset", "nosuch"], "no node has", 1),
    ],
)
def test_commands_that_cannot_be_done(
    shared: ControllerProcess, command: list[str], problem: str, status: int
) -> None:
    assert_clear_error(vxctl(*command, url=shared.url), problem, status)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerProcess]:
    """A controller of which nobody changes anything."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "redis").mkdir()
    with (
        RedisServer(folder / "redis") as redis,
        FakeDocker(folder / "docker.sock", snapshot()) as docker,
        controller_of(folder, docker, redis.url) as controller,
    ):
        yield controller
