"""Every advice can be typed as it stands, and does what it says: against a real controller."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from contract.messages import ReconcileReport, ReconcileRequest
from contract.queues import REPORT_TASK
from contract.runtime.broker import celery_app, queue_for_controller
from contract.verdicts import HELD_BY_WORKER, HeldBack, Verdict
from controller.cli.commands import TREE
from controller.conditions import holds
from controller.conditions.cluster import of_cluster
from controller.conditions.model import Reason
from controller.conditions.node import of_node
from controller.db.engine import open_database
from controller.db.key_models import NodeKey
from controller.db.states import NodeKeyState
from tests.controller_process import HTTP, ControllerProcess, controller_of, vxctl
from tests.fake_clock import START
from tests.fake_docker import FakeDocker
from tests.fake_swarm import snapshot, swarm_id, task
from tests.integration.test_safety_cli import next_request, taken
from tests.reports import device, report
from tests.servers import RedisServer, await_true
from tests.signed import key_of, message_text
from tests.unit import test_conditions as facts
from tests.unit.test_health import LIVE_REASONS

ONE = swarm_id("one")
_COMMAND = re.compile(r"`([^`]+)`")
ORPHAN = device(7, Verdict.ORPHAN)

READS_THE_NODE = {"journalctl", "systemctl", "ip", "nsenter", "vxlan-worker"}
"""Programs of advice that concern the node itself: they are not run here."""


def commands(text: str) -> list[str]:
    """The commands that a text advises."""
    return _COMMAND.findall(text)


def all_messages() -> dict[str, set[str]]:
    """Reason to messages: of all facts that `tests.unit.test_conditions` knows, with a real name."""
    found: dict[str, set[str]] = {}
    node = replace(facts.GOOD, typed="one", id=ONE)
    conditions = [of_node(replace(node, **changes)) for _, changes, _ in facts.NODES]
    conditions.append(of_node(replace(node, state="down", reports=True)))
    well = [("one", of_node(facts.GOOD))]
    of_all = [
        of_cluster(replace(facts.CLUSTER, **changes), well) for _, changes, _ in facts.CLUSTERS
    ]
    for _, nodes, _ in facts.WORKERS:
        its = [("one", of_node(replace(node, **changes))) for changes in nodes]
        of_all.append(of_cluster(facts.CLUSTER, its))
    for _, condition in (pair for each in (*conditions, *of_all) for pair in each.items()):
        found.setdefault(condition.reason, set()).add(condition.message)
    return found


def all_holds() -> list[str]:
    """What ends each hold that a worker or a missing proof makes."""
    ends = [holds.of_worker(reason, "one", "one", START).until for reason in sorted(HELD_BY_WORKER)]
    return [*ends, holds.without_proof("one", "one", START, "why").until]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def controller(
    tmp_path_factory: pytest.TempPathFactory, redis: RedisServer
) -> Iterator[ControllerProcess]:
    """A controller over a Swarm of two nodes; tests play the worker's part of node `one`."""
    folder = tmp_path_factory.mktemp("controller")
    full = snapshot(tasks=[task("t1", "one", "shop")])
    with (
        FakeDocker(folder / "docker.sock", full) as docker,
        controller_of(folder, docker, redis.url) as controller,
    ):
        yield controller


class World:
    """The controller, and the worker of node one."""

    def __init__(self, controller: ControllerProcess, redis: RedisServer) -> None:
        self.controller, self.redis = controller, redis

    def run(self, *devices: Any, request: ReconcileRequest | None = None) -> None:
        """Requeue node one, and report these devices."""
        if request is None:
            while taken(self.redis):
                pass
            self.controller.ask_for_run("one")
            request = next_request(self.redis)
        asked = request

        def is_stored() -> bool:
            """Whether the newest request is answered; another follows one that was given up or not sent."""
            nonlocal asked
            runs = self.get("runs", node="one")["items"]
            if any(run["id"] == str(asked.run_id) and run["state"] == "succeeded" for run in runs):
                return True
            newer = taken(self.redis)
            if newer is not None:
                asked = newer
                self._send(report(asked.run_id, devices=devices, generation=asked.generation))
            return False

        self._send(report(asked.run_id, devices=devices, generation=asked.generation))
        try:
            await_true(is_stored, "a report is stored")
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.controller.log()[-4000:]}") from None

    def _send(self, told: ReconcileReport) -> None:
        """Send a report, as its worker does."""
        with closing(celery_app("worker", self.redis.url)) as app:
            text = message_text(REPORT_TASK, told)
            app.send_task(REPORT_TASK, args=[text], queue=queue_for_controller())

    def get(self, path: str, **parameters: str) -> Any:
        """GET."""
        answer = HTTP.get(f"{self.controller.url}/api/v1/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def conditions(self) -> dict[str, dict[str, str]]:
        """Of node one, by type."""
        return {each["type"]: each for each in self.get("nodes/one")["conditions"]}

    def await_reason(self, type_: str, reason: str) -> str:
        """Wait until a condition of node one has a reason; return its message."""
        await_true(
            lambda: self.conditions()[type_]["reason"] == reason, f"{type_} has reason {reason}"
        )
        return self.conditions()[type_]["message"]

    def undo(self) -> None:
        """Undo all decisions."""
        for path in ("nodes/one", "networks/shop", "cluster"):
            for verb, body in (("resume", {}), ("mode", {"mode": "default"})):
                self.post(f"{path}/{verb}", body)
        self.post("breaker/reset", {})

    def post(self, path: str, body: dict[str, str]) -> None:
        """POST a decision."""
        answer = HTTP.post(f"{self.controller.url}/api/v1/{path}", json=body)
        assert answer.status_code == 200, answer.text

    def type(self, command: str) -> str:
        """Carry out a command of `vxctl` as it stands; return what it says."""
        program, *arguments = shlex.split(command)
        assert program == "vxctl", command
        done = vxctl(*arguments, url=self.controller.url)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout


@pytest.fixture
def world(controller: ControllerProcess, redis: RedisServer) -> Iterator[World]:
    world = World(controller, redis)
    world.run()
    yield world
    world.undo()


def test_every_reason_is_known_to_these_tests() -> None:
    """Those of broker and database advise no command: the sources below show it."""
    known = {str(reason) for reason in (*all_messages(), *LIVE_REASONS)}
    assert known == {reason.value for reason in Reason}


def test_each_command_of_a_condition_or_hold_can_be_typed_as_it_stands(world: World) -> None:
    texts = [*all_holds(), *(text for texts in all_messages().values() for text in texts)]
    advised = sorted({command for text in texts for command in commands(text)})
    assert len(advised) > 10
    show_key(world.controller, facts.KEY)
    ask_to_rotate(world.controller)
    for command in advised:
        try_out(world, command)
    # The worker of these tests has another key.
    world.controller.believe(ONE)
    world.type(f"vxctl node revoke one {facts.KEY}")


def show_key(controller: ControllerProcess, key_id: str) -> None:
    """Let a worker of node one have shown a key."""
    with closing(open_database(controller.database_url)) as database, database.write() as session:
        session.add(
            NodeKey(
                id=key_id,
                node_id=ONE,
                public_key=key_of(key_id).public.text,
                state=NodeKeyState.PENDING,
                origin="introduced by the worker",
                created_at=START,
            )
        )


def ask_to_rotate(controller: ControllerProcess) -> None:
    """Let the worker of node one be asked to replace its key, which is too new to ask by a command."""
    with closing(open_database(controller.database_url)) as database, database.write() as session:
        believed = NodeKey.node_id == ONE, NodeKey.state == NodeKeyState.TRUSTED
        session.execute(update(NodeKey).where(*believed).values(rotation_asked_at=START))


def try_out(world: World, command: str) -> None:
    """Carry out a command of ours; of another's program check that it knows the verb and options."""
    program, *arguments = shlex.split(command)
    assert not re.search(r"\b(NODE|NAME|NET|NETWORK)\b", command), command
    if program == "vxctl":
        world.type(command)
    elif program == "docker":
        if shutil.which("docker") is None:
            pytest.skip("no docker command to ask")
        verbs = arguments[: 2 if arguments[0] != "ps" else 1]
        done = subprocess.run(
            ["docker", *verbs, "--help"], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, command
        for option in (each for each in arguments if each.startswith("--")):
            assert option in done.stdout, command
    else:
        assert program in READS_THE_NODE, command


def modes_of(request: ReconcileRequest) -> set[str]:
    """The modes of a request and of its networks."""
    return {request.mode, *(network.mode for network in request.desired)}


HOLDS: list[tuple[str, str, HeldBack]] = [
    ("pause one --reason why", "Paused", HeldBack.PAUSE),
    ("pause --cluster --reason why", "ClusterPaused", HeldBack.PAUSE),
    ("pause --network shop --reason why", "OrphansLeft", HeldBack.PAUSE),
    ("mode observe one --reason why", "ObserveMode", HeldBack.MODE),
    ("mode observe --cluster --reason why", "ObserveMode", HeldBack.MODE),
    ("mode observe --network shop --reason why", "OrphansLeft", HeldBack.MODE),
]


@pytest.mark.parametrize(("command", "reason", "held"), HOLDS, ids=[each[0] for each in HOLDS])
def test_what_holds_back_ends_by_the_command_that_the_condition_names(
    world: World, command: str, reason: str, held: HeldBack
) -> None:
    world.run(ORPHAN)
    world.type(f"vxctl {command}")
    await_true(
        lambda: "why" in world.conditions()["Ready"]["message"], "the condition says who and why"
    )
    message = world.await_reason("Ready", reason)
    (item,) = world.get("suppressed", node="one")["items"]
    (hold,) = item["held_back"]
    assert hold["reason"] == held
    assert (hold["why"], hold["command"] in commands(message)) == ("why", True)
    for advised in commands(message):
        world.type(advised)
    assert world.get("suppressed", node="one")["items"] == []
    # What the advice promises: the node is asked at once, and may remove.
    request = next_request(world.redis)
    if "observe" in modes_of(request):  # That of the decision before, which was under way.
        world.run(ORPHAN, request=request)
        request = next_request(world.redis)
    assert modes_of(request) == {"enforce"}
    world.run(request=request)
    world.await_reason("Ready", "Converged")


def test_a_tripped_breaker_of_a_node_is_reset_by_its_own_advice(world: World) -> None:
    removed = [device(number, Verdict.ORPHAN, removed=True) for number in range(10, 210)]
    world.run(*removed, ORPHAN)
    message = world.await_reason("Stalled", "BreakerTripped")
    assert "`vxctl breaker reset one`" in message
    assert "`vxctl audit --node one`" in message
    assert world.conditions()["Ready"]["reason"] == "BreakerTripped"
    for advised in commands(message):
        world.type(advised)
    assert world.get("suppressed", node="one")["items"] == []
    world.run(request=next_request(world.redis))
    assert world.await_reason("Ready", "Converged")


def test_an_orphan_that_nothing_forbids_goes_by_the_command_of_its_advice(world: World) -> None:
    world.run(ORPHAN)
    message = world.await_reason("Ready", "OrphansLeft")
    assert commands(message) == ["vxctl requeue one"]
    world.type(commands(message)[0])
    world.run(request=next_request(world.redis))
    world.await_reason("Ready", "Converged")


def test_a_conflict_is_shown_by_the_command_of_its_advice(world: World) -> None:
    world.run(device(7, Verdict.CONFLICT))
    message = world.await_reason("Ready", "DeviceConflict")
    (command,) = commands(message)
    assert device(7).identity.name in world.type(command)


SOURCES = sorted(
    path
    for package in ("controller", "worker", "contract")
    for path in (Path(__file__).parents[2] / package).rglob("*.py")
)


def test_no_message_or_hint_advises_a_verb_that_vxctl_has_not() -> None:
    """Also those that no condition gives: errors, hints of problems, log lines."""
    advised = {
        match[1]
        for path in SOURCES
        for match in re.finditer(r"`vxctl ((?:[a-z]+(?:-[a-z]+)* ?)+)", path.read_text())
    }
    assert len(advised) > 20
    for text in sorted(advised):
        words = text.split()
        found: Any = TREE
        verbs: Any = found if hasattr(found, "keys") else found.verbs
        assert words[0] in verbs, text
        group = verbs[words[0]]
        if len(words) > 1 and hasattr(group, "verbs") and group.alone is None:
            assert words[1] in group.verbs, text
