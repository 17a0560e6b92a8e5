"""A node's own user of Redis, with two controllers: how the node comes by it, keeps it and loses it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from redis.exceptions import AuthenticationError
from sqlalchemy import select, update

from contract.messages import Hello
from contract.queues import HELLO_TASK
from contract.runtime import acl
from contract.runtime.broker import celery_app, queue_for_controller
from contract.runtime.exit_status import ExitStatus
from contract.runtime.key_file import read_key
from contract.signing.envelope import CONTROLLERS, Signer, node_address
from contract.signing.keys import SigningKey
from controller.db.engine import open_database
from controller.db.key_models import NodeKey
from tests.acl_redis import AclRedis
from tests.conftest import empty_namespace
from tests.controller_process import HTTP, ControllerProcess, controller_of, vxctl
from tests.fake_docker import FakeDocker
from tests.fake_swarm import snapshot, swarm_id
from tests.integration.namespaces import Namespace
from tests.integration.test_dependencies import own, status
from tests.integration.test_worker_process import Worker, running
from tests.servers import PostgresServer, await_true

pytestmark = pytest.mark.privileged

ONE: Final = swarm_id("one")
SETTINGS: Final = {"NODE_ID": ONE, "BROKER_ACL": "true", "WAIT_AT_START": "true"}


@dataclass
class Joined:
    """Two controllers that keep users, of which `controller` leads, and the worker of node `one`."""

    server: AclRedis
    controller: ControllerProcess
    other: ControllerProcess
    worker: Worker
    host: Namespace
    folder: Path

    def has_user(self) -> bool:
        """Whether Redis has the node's user."""
        return acl.node_user(ONE) in self.server.users()

    def reports(self) -> bool:
        """Whether a run that begins now succeeds."""
        wait = ("--wait", "--timeout", "5s")
        return vxctl("requeue", "one", *wait, url=self.controller.url).returncode == 0

    def keys(self) -> dict[str, str]:
        """Key id to state."""
        rows = self.other.json("node", "keys", "one")
        return {row["id"]: row["state"] for row in rows}

    def key(self) -> SigningKey:
        """The worker's."""
        key = read_key(self.folder / "node.key")
        assert key is not None
        return key

    def hello(self, key: SigningKey, reason: str, **more: str) -> str:
        """A Hello of the node as its worker seals it now."""
        hello = Hello(node_id=ONE, worker_version="1", at=datetime.now(UTC), reason=reason, **more)
        signer = Signer(key, node_address(ONE))
        return signer.seal(hello.model_dump_json(), audience=CONTROLLERS, task=HELLO_TASK)

    def send(self, hello: str) -> None:
        """Put a Hello into Redis, as anybody can who has the password of `join`."""
        with closing(celery_app("test", self.server.url_of("join"))) as app:
            app.send_task(HELLO_TASK, args=[hello], queue=queue_for_controller(), declare=[])


@pytest.fixture(scope="module")
def joined(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer
) -> Iterator[Joined]:
    folder, database = tmp_path_factory.mktemp("joined"), postgres_server.new_database()

    def start(name: str) -> AbstractContextManager[ControllerProcess]:
        url, acl = server.url_of("controller"), ("--broker-acl", "true")
        # A run is lost by a report that is refused, and not by a worker that is slow on a busy machine.
        slow = ("--run-timeout-seconds", "40")
        return controller_of(folder / name, docker, url, *acl, *slow, database_url=database)

    with (
        empty_namespace() as pid,
        AclRedis(folder / "redis") as server,
        FakeDocker(folder / "docker.sock", snapshot("one")) as docker,
        start("first") as controller,
        start("second") as other,
    ):
        host = Namespace(pid)
        with running(host, folder, server.url_of("join"), **SETTINGS) as worker:
            yield Joined(server, controller, other, worker, host, folder)


def test_a_node_comes_by_its_user(joined: Joined) -> None:
    assert joined.has_user()
    assert "the broker does not know this node's user" in joined.worker.log
    await_true(joined.reports, "it is at work")
    assert own(joined.controller, "BrokerUsersKept")["status"] == "True"
    for log in (joined.worker.log, joined.controller.log()):
        assert joined.server.password("join") not in log
        assert joined.server.password("controller") not in log
        assert (joined.folder / "broker.password").read_text().strip() not in log


def test_a_redis_that_lost_its_users_gets_them_again(joined: Joined) -> None:
    server = joined.server
    server.stop()
    server.start()
    await_true(joined.has_user, "the leader makes it again")
    await_true(joined.reports, "the worker is back by itself")


def test_users_are_as_they_should_be_whatever_others_do(joined: Joined) -> None:
    server, user = joined.server, acl.node_user(ONE)
    with server.admin() as client:
        client.execute_command("ACL", "SETUSER", user, "resetpass", ">other", "+@all", "~*")
        client.execute_command("ACL", "SETUSER", "somebody")
        client.execute_command("ACL", "SETUSER", acl.node_user(swarm_id("x")))
    await_true(lambda: "+@all" not in server.users().get(user, "+@all"), "as it should be")
    await_true(joined.reports, "the worker is back by itself")
    with server.admin() as client:
        shown: Any = client.execute_command("ACL", "LIST")
    assert any(line.startswith(b"user somebody ") for line in shown), "none of ours"
    assert acl.node_user(swarm_id("x")) in server.users(), (
        "of a node of another Swarm, or of nobody"
    )
    with server.admin() as client:
        client.execute_command("ACL", "DELUSER", acl.node_user(swarm_id("x")))


def test_a_revoked_node_has_no_user(joined: Joined) -> None:
    controller = joined.controller
    controller.vxctl("node", "revoke", "one")
    await_true(lambda: not joined.has_user(), "a revoked node has no user")
    await_true(lambda: "no sign of life can be given" in joined.worker.log, "it says so")
    assert joined.worker.process.poll() is None
    (key,) = controller.json("node", "keys", "one")
    controller.vxctl("node", "trust", "one", key["public_key"])
    await_true(joined.reports, "the worker is back by itself")


def password_of(shown: str) -> str:
    """The digest of a user's password, in what `ACL LIST` shows of it."""
    return next(part for part in shown.split() if part.startswith("#"))


def test_a_key_is_rotated_without_a_restart_while_the_nodes_user_goes_on(joined: Joined) -> None:
    """Asked for at the controller that does not lead."""
    old, log = joined.key(), joined.worker.log
    refused = vxctl("node", "rotate", "one", url=joined.other.url)
    assert refused.returncode == ExitStatus.ERROR
    assert "less than ten minutes" in refused.stderr
    with closing(open_database(joined.other.database_url)) as database, database.write() as session:
        at = datetime.now(UTC) - timedelta(minutes=11)
        session.execute(update(NodeKey).values(decided_at=at))
    login = acl.node_user(ONE), (joined.folder / "broker.password").read_text().strip()
    with joined.server.as_user(*login) as node:
        node.ping()
        shown = joined.other.vxctl("node", "rotate", "one", "--reason", "the disk was copied")
        assert f"key {old.public.id} of one is trusted; its worker is asked to replace it" in shown

        def trusted() -> bool:
            new = joined.key().public.id
            return joined.keys() == {old.public.id: "revoked", new: "trusted"}

        await_true(trusted, "the new key is trusted, and the old one no more")
        await_true(joined.reports, "it goes on")
        previous = joined.folder / "node.key.previous"
        await_true(lambda: not previous.exists(), "the rotation is over")
        node.ping()
    rows = joined.other.json("node", "keys", "one")
    assert all(row["rotation_asked_at"] is None for row in rows)
    assert joined.worker.log[len(log) :].count("worker started") == 0
    assert "no sign of life can be given" not in joined.worker.log[len(log) :]
    before = refusals(joined.controller)
    joined.send(joined.hello(old, "x"))
    await_true(lambda: refusals(joined.controller) != before, "the old key is refused")


def refusals(controller: ControllerProcess) -> str:
    """The metric of messages that were refused because of their key."""
    lines = HTTP.get(f"{controller.url}/metrics").text.splitlines()
    return "".join(line for line in lines if "refused_total" in line and "_key" in line)


def test_a_password_is_rotated_by_removing_its_file(joined: Joined) -> None:
    server, user = joined.server, acl.node_user(ONE)
    before, file = server.users()[user], joined.folder / "broker.password"
    former = joined.hello(joined.key(), "x", broker_password=password_of(before)[1:])
    with server.as_user(user, file.read_text().strip()) as thief:
        thief.ping()
        joined.worker.end()
        file.unlink()
        (joined.folder / "worker.log").unlink()
        url = server.url_of("join")
        with running(joined.host, joined.folder, url, **SETTINGS) as joined.worker:
            assert password_of(server.users()[user]) != password_of(before)
            await_true(joined.reports, "it is at work")
        with pytest.raises((AuthenticationError, redis.ConnectionError)):
            thief.ping()
        joined.worker.end()
    another_takes_over(joined, repeated=former)


def another_takes_over(joined: Joined, repeated: str) -> None:
    """Let the other controller lead, and repeat a Hello to it, which it does not remember."""
    now = joined.server.users()[acl.node_user(ONE)]
    joined.controller.end()
    joined.controller, joined.other = joined.other, joined.controller
    await_true(lambda: status(joined.controller)["leading"], "it leads")
    before = refusals(joined.controller)
    joined.send(repeated)
    joined.send(joined.hello(SigningKey.generate(), "x"))
    await_true(lambda: refusals(joined.controller) != before, "the next message is refused")
    with (
        closing(open_database(joined.controller.database_url)) as database,
        database.read() as session,
    ):
        known = session.scalars(select(NodeKey.broker_password)).all()
    assert password_of(now)[1:] in known
    assert joined.server.users()[acl.node_user(ONE)] == now


def test_an_aclfile_with_all_nodes(joined: Joined) -> None:
    text = joined.controller.vxctl("broker", "acl", "--passwords", str(joined.server.secrets))
    shown = joined.server.users()[acl.node_user(ONE)]
    (line,) = [each for each in text.splitlines() if each.startswith(f"user {acl.node_user(ONE)} ")]
    assert password_of(shown) in line.split()
    assert text.startswith("user default off\nuser controller on ")


def test_a_leader_that_may_not_make_users_says_so(joined: Joined) -> None:
    with joined.server.admin() as client:
        client.execute_command("ACL", "SETUSER", "controller", "-acl|users")
    condition: dict[str, Any] = {}

    def told() -> bool:
        condition.update(own(joined.controller, "BrokerUsersKept"))
        return bool(condition["status"] == "False")

    await_true(told, "it is told")
    assert condition["reason"] == "UsersRefused"
    assert "no permissions to run the 'acl|users' command" in condition["message"]
    assert "vxctl broker acl" in condition["message"]
    assert "BrokerUsersKept is False" in joined.controller.vxctl("status")
