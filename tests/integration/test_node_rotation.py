"""`vxctl node rotate`: a person asks, and the node's worker replaces its key while it goes on."""

import json
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import select, update

from contract.messages import KEY_KEPT, Hello, ReconcileReport
from contract.queues import CONTROLLER_QUEUE, HELLO_TASK, REPORT_TASK
from contract.runtime.key_file import read_key
from contract.signing.envelope import node_address
from contract.signing.join import changes_key
from contract.signing.keys import SigningKey
from contract.verdicts import Stage
from controller.access.store import By
from controller.conditions.instant import Instant
from controller.conditions.keys import unreplaced
from controller.conditions.node_facts import Unreplaced
from controller.db.engine import Database, open_database
from controller.db.key_models import NodeKey
from controller.db.models import Node, Run
from controller.db.states import RunState
from controller.runs.dispatch import Dispatcher
from controller.trust import node_rotation, store
from controller.workqueue.priorities import Priority
from tests import signed
from tests.api_client import TestClient, assert_problem, shared_app
from tests.bell import Bell
from tests.builders import NODE
from tests.controller_process import VXCTL, environment
from tests.fake_docker import FakeDocker
from tests.fake_swarm import snapshot, swarm_id
from tests.integration.namespaces import Namespace
from tests.integration.test_worker_process import Controller, argument, running
from tests.sent import requests
from tests.servers import RedisServer, await_true
from tests.stored import audit, due_row, put

ONE, TWO = swarm_id("one"), swarm_id("two")
KEY = signed.key_of(ONE).public
ROUTE = "/api/v1/nodes/one/keys/rotate"
WHY = {"actor": "ann", "reason": "the disk was copied"}


def age(database: Database, node_id: str = ONE) -> None:
    """Let a node's key be trusted for eleven minutes."""
    with database.write() as session:
        at = datetime.now(UTC) - timedelta(minutes=11)
        session.execute(update(NodeKey).where(NodeKey.node_id == node_id).values(decided_at=at))


class TestApi:
    @pytest.fixture
    def bell(self) -> Bell:
        return Bell()

    @pytest.fixture
    def api(self, database: Database, bell: Bell) -> TestClient:
        put(database)
        return TestClient(shared_app(database, notify=bell))

    def test_a_wish_is_stored_once_and_makes_the_node_due(
        self, api: TestClient, database: Database, bell: Bell
    ) -> None:
        signed.pin(database, ONE)
        age(database)
        first = api.post(ROUTE, json=WHY)
        assert first.status_code == 200, first.text
        assert (first.json()["id"], first.json()["state"]) == (KEY.id, "trusted")
        assert first.json()["rotation_asked_at"] is not None
        assert api.post(ROUTE, json=WHY).json() == first.json()
        (listed,) = api.get("/api/v1/node-keys", params={"node": "one"}).json()["items"]
        assert listed == first.json()
        (row,) = [row for row in audit(database) if row.stage is Stage.ROTATION_ASKED]
        assert row.claimed_name == "ann"
        assert row.reason.endswith(": the disk was copied")
        assert KEY.id in row.reason
        due = due_row(database)
        assert due.priority == Priority.MANUAL
        assert any("replacement" in reason for reason in due.reasons)

    def test_what_cannot_be_rotated_is_told(self, api: TestClient, database: Database) -> None:
        assert_problem(api.post("/api/v1/nodes/nobody/keys/rotate", json=WHY), 404, "nobody")
        assert_problem(api.post(ROUTE, json=WHY), 409, "no key of one is trusted")
        signed.pin(database, ONE)
        assert_problem(api.post(ROUTE, json=WHY), 409, "less than ten minutes", "ask again after")
        assert [row for row in audit(database) if row.stage is Stage.ROTATION_ASKED] == []

    def test_a_wish_ends_with_the_key(self, api: TestClient, database: Database) -> None:
        signed.pin(database, ONE)
        age(database)
        api.post(ROUTE, json=WHY)
        (revoked,) = api.post("/api/v1/nodes/one/keys/revoke").json()["items"]
        assert (revoked["state"], revoked["rotation_asked_at"]) == ("revoked", None)
        back = api.post(f"/api/v1/nodes/one/keys/{KEY.id}/trust").json()
        assert (back["state"], back["rotation_asked_at"]) == ("trusted", None)

    def test_a_wish_is_withdrawn(
        self, api: TestClient, database: Database, sender: Dispatcher, client: Redis
    ) -> None:
        assert_problem(api.post(f"{ROUTE}/withdraw", json=WHY), 409, "is not asked to replace")
        signed.pin(database, ONE)
        age(database)
        api.post(ROUTE, json=WHY)
        kept = api.post(
            f"{ROUTE}/withdraw", json={"actor": "ann", "reason": "it is on tape"}
        ).json()
        assert (kept["id"], kept["state"], kept["rotation_asked_at"]) == (KEY.id, "trusted", None)
        assert_problem(api.post(f"{ROUTE}/withdraw", json=WHY), 409, "is not asked to replace")
        (row,) = [row for row in audit(database) if row.stage is Stage.ROTATION_DROPPED]
        assert row.claimed_name == "ann"
        assert row.reason.endswith(": it is on tape")
        assert KEY.id in row.reason
        sender.step()
        (one,) = requests(client, "one")
        assert one.rotate_key is None

    def test_a_key_that_is_not_replaced_for_ten_minutes_is_a_finding(
        self, api: TestClient, database: Database
    ) -> None:
        signed.pin(database, ONE)
        age(database)
        asked = datetime.fromisoformat(api.post(ROUTE, json=WHY).json()["rotation_asked_at"])
        bound = asked + timedelta(minutes=10)

        def found(now: datetime, seen_at: datetime | None) -> Mapping[str, Unreplaced]:
            with database.write() as session:
                session.get_one(Node, ONE).worker_seen_at = seen_at
            with database.read() as session:
                return unreplaced(session, Instant(now))

        after = bound + timedelta(seconds=1)
        assert found(bound, bound) == {}, "most are replaced within seconds"
        assert found(after, asked) == found(after, None) == {}, "it is away, and was not asked"
        assert found(after + timedelta(days=1), after) == {ONE: Unreplaced(KEY.id, asked)}
        api.post(f"{ROUTE}/withdraw", json=WHY)
        assert found(after, after) == {}

    def test_the_nodes_requests_name_the_key_until_then(
        self,
        api: TestClient,
        database: Database,
        sender: Dispatcher,
        client: Redis,
    ) -> None:
        signed.pin(database, ONE, TWO)
        age(database)
        api.post(ROUTE, json=WHY)
        sender.step()
        (one,), (two,) = (requests(client, name) for name in ("one", "two"))
        assert (one.rotate_key, two.rotate_key) == (KEY.id, None)


@pytest.mark.privileged
def test_the_report_under_way_is_signed_by_the_key_before_and_the_hello_by_both(
    in_empty_namespace: int, tmp_path: Path, redis: RedisServer
) -> None:
    controller, key = Controller(redis), signed.key_of(NODE)

    def heard() -> tuple[str, str]:
        """The task and argument of the next message that is no hint about devices."""
        while True:
            with redis.client() as client:
                popped: Any = client.brpop([CONTROLLER_QUEUE], timeout=60)
            assert popped is not None, "the worker says nothing"
            message = json.loads(popped[1])
            text = argument(message)
            if message["headers"]["task"] == REPORT_TASK or '"key":' in text:
                return message["headers"]["task"], text

    with running(Namespace(in_empty_namespace), tmp_path, redis.url) as worker:
        controller.report_on(controller.ask(node_key=key.public.id))
        (tmp_path / "node.key.next").mkdir()
        controller.report_on(controller.ask(node_key=key.public.id, rotate_key=key.public.id))
        told = controller.report_on(controller.ask(node_key=key.public.id)).limitations
        assert [text for text in told if text.startswith(KEY_KEPT) and "node.key cannot be" in text]
        (tmp_path / "node.key.next").rmdir()
        run = controller.ask(node_key=key.public.id, rotate_key=signed.key_of("x").public.id)
        controller.report_on(run)
        assert held(tmp_path).public == key.public, "another key than its own is asked for"
        controller.ask(node_key=key.public.id, rotate_key=key.public.id)
        task, text = heard()
        assert task == REPORT_TASK
        signed.message_of(text, REPORT_TASK, ReconcileReport, NODE)
        task, text = heard()
        new = held(tmp_path).public
        hello = signed.opened(text, HELLO_TASK, Hello, new, node_address(NODE))
        assert hello.introduction is not None
        assert hello.introduction.change is not None
        assert changes_key(hello.introduction.change, key.public, NODE, new)
        controller.ask(node_key=new.id, rotate_key=key.public.id)
        task, text = heard()
        assert task == REPORT_TASK
        signed.opened(text, REPORT_TASK, ReconcileReport, new, node_address(NODE))
        assert held(tmp_path).public == new, "that key was replaced before"
        assert worker.process.poll() is None


def held(folder: Path) -> SigningKey:
    """The key of the worker in a folder."""
    key = read_key(folder / "node.key")
    assert key is not None
    return key


@pytest.mark.privileged
def test_the_worker_of_vxctl_up_replaces_its_key(in_empty_namespace: int, tmp_path: Path) -> None:
    host, url = Namespace(in_empty_namespace), f"sqlite:///{tmp_path / 'controller.db'}"
    subprocess.run(host.command("ip", "link", "set", "lo", "up"), check=True)
    with FakeDocker(tmp_path / "docker.sock", snapshot("one")) as docker, ExitStack() as opened:
        given = "--docker-host", docker.url, "--journal", str(tmp_path / "journal.jsonl")
        process = subprocess.Popen(
            host.command(VXCTL, "up", "--database-url", url, *given), env=environment()
        )
        opened.callback(process.wait)
        opened.callback(process.kill)
        await_true((tmp_path / "node.key").exists, "it made its database and key")
        database = opened.enter_context(closing(open_database(url)))

        def has_run() -> bool:
            query = select(Run.id).where(Run.state == RunState.SUCCEEDED)
            with database.read() as session:
                return session.scalar(query.limit(1)) is not None

        await_true(has_run, "it is at work")
        age(database)
        old = held(tmp_path).public.id
        with database.write() as session:
            by = By("ann", None, datetime.now(UTC))
            node_rotation.ask(session, session.get_one(Node, ONE), None, by)

        def states() -> dict[str, str]:
            with database.read() as session:
                return {row.id: row.state for row in store.node_keys(session, ONE)}

        def trusted() -> bool:
            new = held(tmp_path).public.id
            return states() == {old: "revoked", new: "trusted"}

        await_true(trusted, "the new key is trusted, and the old one no more")
        previous = tmp_path / "node.key.previous"
        await_true(lambda: not previous.exists(), "the worker knows that it is believed")
