"""Signs of life on a real Redis: a worker that dies, or that serves an old id, is known within seconds."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from contract.messages import SignOfLife
from contract.queues import ALIVE_TASK
from contract.runtime.broker import celery_app
from contract.runtime.exit_status import ExitStatus
from contract.runtime.presence import Presence
from contract.runtime.refusals import Refusals
from contract.signing.envelope import CONTROLLERS, Signer, node_address
from contract.signing.refusals import Reason
from contract.verdicts import Mode
from controller.access.store import By
from controller.conditions.store import ConditionStore
from controller.db.engine import Database
from controller.db.models import Node
from controller.runs.presence import PresenceWatch, pause
from controller.trust import store
from controller.trust.reception import Reception
from tests.controller_process import ControllerProcess, controller_of
from tests.fake_clock import Clock
from tests.fake_docker import FakeDocker
from tests.fake_swarm import node, snapshot, swarm_id
from tests.integration.namespaces import Namespace
from tests.integration.test_broker_faults import worker_of
from tests.integration.test_dependencies import RARELY, node_ready, status
from tests.servers import RedisServer, await_true
from tests.signed import key_of, keyring, pin
from tests.stored import RESYNC, node_row, put

ONE = swarm_id("one")


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[FakeDocker]:
    with FakeDocker(tmp_path / "docker.sock", snapshot("one")) as docker:
        yield docker


class Swarm:
    """A leader's view of workers' signs, by a clock that goes on when told to."""

    def __init__(self, database: Database, url: str) -> None:
        self.clock = Clock()
        self.database = database
        self.app = celery_app("test", url)
        self.signs = Presence(self.app)
        self.restart()
        self._count = 0
        self._signers: dict[str, Signer] = {}
        put(database)

    def restart(self) -> None:
        """Another leader takes over."""
        self.refused = Refusals()
        self.keys = keyring(self.database)
        reception = Reception(self.database, self.keys, refused=self.refused, utcnow=self.clock)
        self.watch = PresenceWatch(
            self.database,
            Presence(self.app).read,
            reception.sign_of_life,
            resync=RESYNC,
            utcnow=self.clock,
        )
        self.conditions = ConditionStore(
            self.database,
            mode=Mode.ENFORCE,
            resync=RESYNC,
            sign_of=self.watch.of,
            signs=self.watch.changes,
            utcnow=self.clock,
        )

    def change_key(self, *, introduced: bool) -> None:
        """Let the worker of node one sign by another key from now on; the controllers know it, or not."""
        self._signers[ONE] = Signer(key_of("new"), node_address(ONE), now=self.clock)
        if introduced:
            by = By("ann", None, self.clock())
            with self.database.write() as session:
                node = session.get_one(Node, ONE)
                store.trust(session, node, key_of("new").public.text, by)
            self.keys.refresh()

    def is_told(self) -> bool:
        """Whether a refused sign is told of."""
        return self.refused.newest is not None

    def give(self, *, serves: str = ONE, ended: bool = False) -> None:
        self._count += 1
        told = SignOfLife(
            node_id=serves,
            worker_version="1",
            session=UUID(int=1),
            count=self._count,
            every=2.5,
            ended=ended,
        )
        if serves not in self._signers:
            pin(self.database, serves)
            address = node_address(serves)
            self._signers[serves] = Signer(key_of(serves), address, now=self.clock)
        text = self._signers[serves].seal(
            told.model_dump_json(), audience=CONTROLLERS, task=ALIVE_TASK
        )
        self.signs.write(ONE, text)

    def look(self, seconds: float = 0.0) -> tuple[str, str]:
        """Let time pass; return reason and message of the node's condition `Stalled`."""
        self.clock.advance(seconds)
        self.watch.step()
        self.conditions.step()
        stalled = node_row(self.database).conditions["Stalled"]
        return stalled["reason"], stalled["message"]


@pytest.fixture
def swarm(database: Database, broker_url: str) -> Iterator[Swarm]:
    swarm = Swarm(database, broker_url)
    yield swarm
    swarm.app.close()


def test_a_worker_that_gives_no_sign_is_away_within_ten_seconds(swarm: Swarm) -> None:
    swarm.give()
    assert swarm.look()[0] == "NeverSeen"
    swarm.give()
    swarm.look(2)
    assert swarm.look(9)[0] == "NeverSeen"
    reason, message = swarm.look(1)
    assert reason == "WorkerAway"
    assert (
        "no sign of life, which is due every 2.5 s; the last came at 2030-01-01 12:00:02" in message
    )
    swarm.give()
    assert swarm.look(1)[0] == "NeverSeen"


def test_a_sign_in_the_moment_of_a_rotation_is_no_alarm(swarm: Swarm) -> None:
    """It is by the key before, or by the next one, of which the controllers are about to hear."""
    swarm.give()
    swarm.look()
    swarm.give()
    swarm.change_key(introduced=True)
    swarm.look(2)
    assert swarm.refused.counts == {Reason.REVOKED_KEY: 1}
    for _ in range(2):
        swarm.give()
        swarm.look(2)
    assert not swarm.is_told()
    assert sum(swarm.refused.counts.values()) == 1


def test_signs_by_a_key_that_is_not_believed_are_an_alarm_from_the_second_on(swarm: Swarm) -> None:
    swarm.give()
    swarm.look()
    swarm.change_key(introduced=False)
    swarm.give()
    swarm.look(2)
    assert swarm.watch.of(ONE) is not None
    assert not swarm.is_told()
    swarm.look(2)
    assert not swarm.is_told(), "the same one again"
    swarm.give()
    swarm.look(2)
    assert swarm.is_told()
    assert swarm.refused.counts == {Reason.UNKNOWN_KEY: 2}


@pytest.mark.parametrize("restarted", [False, True])
def test_signs_that_were_kept_back_make_no_dead_worker_live(swarm: Swarm, restarted: bool) -> None:
    """The broker's owner kept each, and lets them come one after another, as if they were new."""
    if restarted:
        swarm.give()
        swarm.look()
    kept = []
    for _ in range(30):
        swarm.clock.advance(2.5)
        swarm.give()
        kept.append(swarm.signs.read([ONE])[0])
    swarm.clock.advance(1800)
    found = []
    with closing(Presence(swarm.app)) as broker:
        if restarted:
            assert kept[0] is not None
            broker.write(ONE, kept[0].decode())
            swarm.restart()
            swarm.look()
        for raw in kept:
            assert raw is not None
            broker.write(ONE, raw.decode())
            found.append(swarm.look(2.5)[0])
    assert set(found[8:]) == {"WorkerAway"}
    swarm.give()
    assert swarm.look(1)[0] == "NeverSeen", "and one of now counts"


@pytest.mark.parametrize("seconds", [3600, 290, 120, 30])
def test_a_node_whose_clock_was_ahead_and_was_put_right_is_heard_again(
    swarm: Swarm, seconds: int
) -> None:
    """The controller's was ahead as well, so it believed the sign."""
    swarm.look()
    swarm.clock.advance(seconds)
    swarm.give()
    assert swarm.look(1)[0] == "NeverSeen"
    swarm.clock.advance(-seconds)
    swarm.look()
    swarm.give()
    swarm.look(1)
    sign = swarm.watch.of(ONE)
    assert sign is not None
    assert sign.at == swarm.clock()


def test_a_node_that_makes_its_sign_huge_or_none_keeps_no_other_from_being_read(
    swarm: Swarm, redis_server: RedisServer
) -> None:
    swarm.give()
    two, three, four = map(swarm_id, ("two", "three", "four"))
    with redis_server.client() as client:
        client.set(f"node.{two}.alive", b"x" * 2**20)
        client.lpush(f"node.{three}.alive", b"x")
        one, huge, listed, none = swarm.signs.read([ONE, two, three, four])
    assert one is not None
    assert huge is not None
    assert 2**12 < len(huge) <= 2**12 + 1, "and refused as too large"
    assert (listed, none) == (None, None)
    swarm.look()
    assert swarm.watch.of(ONE) is not None


def test_a_worker_that_was_stopped_says_so_itself(swarm: Swarm) -> None:
    swarm.look()
    swarm.give(ended=True)
    reason, message = swarm.look(1)
    assert (reason, message.split(":")[0]) == (
        "WorkerAway",
        "its worker was stopped at 2030-01-01 12",
    )


def test_a_new_leader_gives_every_worker_its_time_and_knows_who_lived_before(swarm: Swarm) -> None:
    swarm.give()
    swarm.look()
    swarm.restart()
    assert swarm.look(3600)[0] == "NeverSeen"
    reason, message = swarm.look(10)
    assert (reason, "none has come since 2030-01-01 13:00:00" in message) == ("WorkerAway", True)


def test_a_worker_that_serves_an_old_id_is_named_with_the_command(swarm: Swarm) -> None:
    old = swarm_id("left")
    swarm.look()
    swarm.give(serves=old)
    reason, message = swarm.look(1)
    assert reason == "NeverSeen"
    assert f"serves the id {old}" in message
    assert f"VXLAN_OPERATOR_NODE_ID={ONE}" in message


def conditions_of(swarm: Swarm, name: str) -> tuple[str, str]:
    """Reason and message of a node's condition `Ready`."""
    ready = node_row(swarm.database, name).conditions["Ready"]
    return ready["reason"], ready["message"]


@pytest.mark.parametrize(
    ("hostname", "address", "again"),
    [("one", "192.0.2.1", True), ("one", "192.0.2.2", False), ("other", "192.0.2.1", False)],
)
def test_a_node_that_joined_again_is_known_where_its_worker_cannot_ask_for_its_id(
    swarm: Swarm, hostname: str, address: str, again: bool
) -> None:
    new = swarm_id("new")
    old = node("one", state="down")
    joined = replace(node("new", address=address), hostname=hostname)
    put(swarm.database, snapshot(old, joined))
    swarm.look()
    assert "no worker has ever reported" in conditions_of(swarm, "new")[1]
    swarm.give()  # Under the old id, and serving that.
    swarm.look(1)
    reason, message = conditions_of(swarm, "new")
    assert reason == "NeverSeen"
    assert (f"serves the id {ONE}" in message) is again
    assert (f"VXLAN_OPERATOR_NODE_ID={new}" in message) is again
    reason, message = conditions_of(swarm, "one")
    assert reason == "NodeDown"
    assert (f"is there as {new}" in message) is again
    assert f"`docker node rm {ONE}`" in message
    swarm.look(60)
    assert "no worker has ever reported" in conditions_of(swarm, "new")[1]


def test_garbage_is_no_sign(swarm: Swarm, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        for garbage in (b"", b"\xff", b"{}", b"x" * 5000, json.dumps([1] * 300).encode()):
            client.set(f"node.{ONE}.alive", garbage)
            assert swarm.look(30)[0] == "NeverSeen"


@pytest.mark.parametrize(
    ("nodes", "resync", "seconds"),
    [(1, 60, 2.5), (100, 60, 2.5), (400, 60, 10.0), (5000, 60, 56 / 3), (5000, 5, 2.5)],
)
def test_signs_are_rarer_in_a_large_swarm_and_three_fit_into_a_resync(
    nodes: int, resync: float, seconds: float
) -> None:
    assert pause(nodes, timedelta(seconds=resync)) == pytest.approx(seconds)


def message_of(controller: ControllerProcess) -> str:
    (node,) = status(controller)["nodes"]
    return next(str(each["message"]) for each in node["conditions"] if each["type"] == "Ready")


@pytest.mark.privileged
def test_a_real_worker_that_is_killed_is_known_long_before_its_next_run(
    in_empty_namespace: int, tmp_path: Path, redis: RedisServer, docker: FakeDocker
) -> None:
    host = Namespace(in_empty_namespace)
    with controller_of(tmp_path / "c", docker, redis.url, RARELY) as controller:
        with worker_of(host, tmp_path, redis.url, NODE_ID=ONE) as worker:
            await_true(lambda: node_ready(controller) == "True/Converged", "the node is ready")
            os.kill(worker.process.pid, signal.SIGKILL)
            await_true(lambda: node_ready(controller) == "Unknown/WorkerAway", "its death is known")
            assert "gives no sign of life" in message_of(controller)
        with worker_of(host, tmp_path, redis.url, NODE_ID=ONE) as worker:
            await_true(lambda: node_ready(controller) == "True/Converged", "it is back")
            os.kill(worker.process.pid, signal.SIGTERM)
            await_true(
                lambda: "its worker was stopped at" in message_of(controller), "its end is known"
            )


@pytest.fixture
def dockerd(tmp_path: Path) -> Iterator[FakeDocker]:
    """The node's own dockerd."""
    with FakeDocker(tmp_path / "own.sock") as dockerd:
        dockerd.info = {"Swarm": {"LocalNodeState": "active", "NodeID": ONE}}
        yield dockerd


def rejoin(dockerd: FakeDocker, node_id: str) -> None:
    """Give the node a new id: its worker asks for it every half a minute."""
    dockerd.info = {"Swarm": {"LocalNodeState": "active", "NodeID": node_id}}


@pytest.mark.privileged
def test_a_worker_without_a_given_id_follows_its_node_into_the_swarm_again(
    in_empty_namespace: int, tmp_path: Path, redis: RedisServer, dockerd: FakeDocker
) -> None:
    host, new = Namespace(in_empty_namespace), swarm_id("new")
    own = {"NODE_ID": "", "DOCKER_SOCKET": str(tmp_path / "own.sock")}
    with worker_of(host, tmp_path, redis.url, **own) as worker:
        assert f'"node_id": "{ONE}"' in worker.log
        rejoin(dockerd, new)
        assert worker.process.wait(90) == ExitStatus.RESTART
    with worker_of(host, tmp_path, redis.url, **own) as worker:
        worker.await_log(f'"node_id": "{new}"')


@pytest.mark.privileged
def test_a_worker_with_a_given_id_goes_on_and_the_status_names_the_command(
    in_empty_namespace: int,
    tmp_path: Path,
    redis: RedisServer,
    docker: FakeDocker,
    dockerd: FakeDocker,
) -> None:
    host, old = Namespace(in_empty_namespace), swarm_id("old")
    own = {"NODE_ID": old, "DOCKER_SOCKET": str(tmp_path / "own.sock")}
    dockerd.info = {"Swarm": {"LocalNodeState": "active", "NodeID": old}}
    with (
        controller_of(tmp_path / "c", docker, redis.url, RARELY) as controller,
        worker_of(host, tmp_path, redis.url, **own) as worker,
    ):
        await_true(lambda: node_ready(controller) == "Unknown/NeverSeen", "nobody serves the node")
        controller.believe(old)
        assert "no worker has ever reported" in message_of(controller)
        rejoin(dockerd, ONE)
        await_true(lambda: f"serves the id {old}" in message_of(controller), "it is said why")
        assert f"VXLAN_OPERATOR_NODE_ID={ONE}" in message_of(controller)
        worker.await_log("this node has another id in the Swarm than this worker serves")
        assert worker.process.poll() is None
