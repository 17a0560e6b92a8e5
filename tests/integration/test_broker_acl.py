"""Redis' users: what each may do and may not, and how a node comes by its own, keeps it and loses it."""

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import pytest
import redis
import yaml
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError
from redis.retry import Retry
from sqlalchemy import update

from contract.queues import CONTROLLER_QUEUE
from contract.runtime import acl
from contract.runtime.broker import celery_app, check_broker, queue_for_node, waiting
from contract.runtime.broker_settings import BrokerSettings
from contract.runtime.doctor import broker as doctor
from contract.runtime.errors import UsageError
from contract.runtime.exit_status import ExitStatus
from contract.runtime.password_file import make_password
from contract.runtime.probe import CommandConnection
from contract.runtime.startup import UnavailableError
from contract.signing.bounds import MAX_MESSAGE_BYTES
from contract.verdicts import Outcome
from controller.db.engine import Database
from controller.db.key_models import NodeKey
from controller.db.models import Node
from controller.health.live import Health
from controller.trust.broker_users import BrokerUsers
from tests import signed
from tests.acl_redis import AclRedis
from tests.builders import NAME, NODE, OTHER_NODE, VNI
from tests.controller_process import free_port
from tests.fake_clock import START
from tests.fake_swarm import snapshot, swarm_id
from tests.integration.namespaces import Namespace
from tests.integration.test_worker_process import (
    PROGRAM,
    Controller,
    heal,
    running,
    variables,
)
from tests.servers import await_true
from tests.stored import put
from tests.tls_redis import MASTER, Authority, Sentinel
from worker import doctor as worker_doctor
from worker.doctor import DoctorSettings

ONE: Final = swarm_id("one")
QUEUE, FOREIGN = f"node.{NODE}", f"node.{OTHER_NODE}"
SIGN, FOREIGN_SIGN = f"{QUEUE}.alive", f"{FOREIGN}.alive"

FOR_NOBODY: Final = {
    "pop another node's queue": f"BRPOP {FOREIGN} 1",
    "pop another node's queue beside its own": f"BRPOP {QUEUE} {FOREIGN} 1",
    "push to another node's queue": f"LPUSH {FOREIGN} x",
    "count another node's queue": f"LLEN {FOREIGN}",
    "read another node's queue": f"LRANGE {FOREIGN} 0 -1",
    "let another node's queue expire": f"EXPIRE {FOREIGN} 1",
    "read the controllers' queue": f"LRANGE {CONTROLLER_QUEUE} 0 -1",
    "pop the controllers' queue": f"BRPOP {CONTROLLER_QUEUE} 1",
    "move from the controllers' queue": f"LMOVE {CONTROLLER_QUEUE} {QUEUE} RIGHT LEFT",
    "delete the controllers' queue": f"DEL {CONTROLLER_QUEUE}",
    "replace the controllers' queue": f"SET {CONTROLLER_QUEUE} x",
    "let the controllers' queue expire": f"EXPIRE {CONTROLLER_QUEUE} 1",
    "rename the controllers' queue": f"RENAME {CONTROLLER_QUEUE} {QUEUE}",
    "write another node's sign of life": f"SET {FOREIGN_SIGN} x",
    "read another node's sign of life": f"GET {FOREIGN_SIGN}",
    "break the controllers' test": "LPUSH controller.probe x",
    "write a key of nobody": "SET x x",
    "forget everything": "FLUSHALL",
    "forget the database": "FLUSHDB",
    "read settings": "CONFIG GET requirepass",
    "change settings": "CONFIG SET maxmemory 1",
    "run Lua": "EVAL return 0",
    "load a function": "FUNCTION FLUSH",
    "watch all commands": "MONITOR",
    "list users": "ACL LIST",
    "make a user": "ACL SETUSER eve on nopass +@all ~*",
    "ask who it is": "ACL WHOAMI",
    "subscribe": "SUBSCRIBE x",
    "publish": "PUBLISH x x",
    "list keys": "KEYS *",
    "scan keys": "SCAN 0",
    "list clients": "CLIENT LIST",
    "disconnect others": "CLIENT KILL TYPE normal",
    "hold all clients up": "CLIENT PAUSE 1000",
    "replicate from elsewhere": "REPLICAOF 192.0.2.1 6379",
    "save": "SAVE",
    "stop Redis": "SHUTDOWN NOSAVE",
    "load a module": "MODULE LIST",
    "watch a key": f"WATCH {CONTROLLER_QUEUE}",
    "fill another database": "SELECT 1",
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AclRedis]:
    """With a user for `NODE` besides; nothing here changes users."""
    with AclRedis(tmp_path_factory.mktemp("acl")) as server:
        make_user(server, "a password")
        yield server


def make_user(server: AclRedis, password: str) -> None:
    """Give `NODE` a user."""
    rules = acl.of_node(NODE, acl.digest(password)).split()
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", acl.node_user(NODE), *rules)


@pytest.fixture
def node(guarded: AclRedis) -> Iterator[redis.Redis]:
    """What a node may do."""
    with guarded.as_user(acl.node_user(NODE), "a password") as client:
        yield client


@pytest.fixture
def joining(guarded: AclRedis) -> Iterator[redis.Redis]:
    """What everybody may do who has the password of `join`."""
    with guarded.as_user("join", guarded.password("join")) as client:
        yield client


@pytest.mark.parametrize("command", FOR_NOBODY.values(), ids=FOR_NOBODY)
def test_a_node_may_not(node: redis.Redis, command: str) -> None:
    with pytest.raises(NoPermissionError):
        node.execute_command(*command.split())  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "command",
    [
        *FOR_NOBODY.values(), f"BRPOP {QUEUE} 1", f"LPUSH {QUEUE} x", f"LLEN {QUEUE}", f"SET {SIGN} x",
        f"EXPIRE {QUEUE} 1",
    ],
    ids=[*FOR_NOBODY, "pop a queue", "push to a queue", "count a queue", "give signs", "expire"],
)  # fmt: skip
def test_who_has_not_joined_may_not(joining: redis.Redis, command: str) -> None:
    with pytest.raises(NoPermissionError):
        joining.execute_command(*command.split())  # type: ignore[no-untyped-call]


def test_nobody_gets_in_without_a_login(guarded: AclRedis) -> None:
    with (
        redis.Redis(unix_socket_path=str(guarded.path), retry=Retry(NoBackoff(), 0)) as client,
        pytest.raises(AuthenticationError),
    ):
        client.ping()


def test_each_may_do_its_own(node: redis.Redis, joining: redis.Redis) -> None:
    before = int(str(node.llen(CONTROLLER_QUEUE)))
    for client in (node, joining):
        client.lpush(CONTROLLER_QUEUE, "x")
    assert joining.llen(CONTROLLER_QUEUE) == before + 2
    node.set(SIGN, "x", ex=10)
    node.lpush(QUEUE, "x")
    node.expire(QUEUE, 10)
    assert node.brpop([QUEUE], timeout=1) is not None


def test_what_a_node_that_left_put_there_goes_with_its_user_and_other_swarms_users_stay(
    database: Database, tmp_path: Path
) -> None:
    """Two Swarms must not share a Redis; if they do, neither locks the nodes of the other out for ever."""
    put(database, snapshot("one", "two"))
    with database.write() as session:
        session.get_one(Node, ONE).gone_at = START
    foreign = swarm_id("three")
    with AclRedis(tmp_path / "redis") as server:
        with server.admin() as client:
            for node_id in (ONE, foreign):
                client.execute_command("ACL", "SETUSER", acl.node_user(node_id))
                client.lpush(f"node.{node_id}", "x")
                client.set(f"node.{node_id}.alive", "x")
        app = celery_app("test", server.url_of("controller"))
        monitor = Health().users
        with closing(app):
            BrokerUsers(database, CommandConnection(app), monitor).step()
        assert list(server.users()) == [acl.node_user(foreign)]
        with server.admin() as client:
            assert sorted(client.keys("node.*")) == [
                f"node.{foreign}".encode(),
                f"node.{foreign}.alive".encode(),
            ]


def test_the_master_that_sentinel_chooses_gets_the_users(sqlite: Database, tmp_path: Path) -> None:
    put(sqlite, snapshot("one"))
    signed.pin(sqlite, ONE)
    with sqlite.write() as session:
        session.execute(update(NodeKey).values(broker_password=acl.digest("a password")))
    login = ("--masteruser", "replica", "--masterauth", "of-replicas")
    ports = free_port(), free_port()
    of = f"127.0.0.1 {ports[0]}"
    master = AclRedis(tmp_path / "redis", "--port", str(ports[0]), *login)
    replica = AclRedis(
        tmp_path / "redis2",
        "--port",
        str(ports[1]),
        *login,
        "--replicaof",
        of,
        secrets=master.secrets,
    )
    logins = f"sentinel auth-user {MASTER} sentinel\nsentinel auth-pass {MASTER} of-sentinels\n"
    sentinels = [Sentinel(tmp_path / f"s{n}", ports[0], lines=logins) for n in range(3)]
    user = f"controller:{master.password('controller')}"
    urls = [f"sentinel://{user}@127.0.0.1:{each.port}/0" for each in sentinels]
    given = {
        "broker_url": ";".join(urls),
        "broker_acl": "true",
        "broker_sentinel_master": MASTER,
        "broker_sentinel_password": "of-the-sentinels",
    }
    with (
        ExitStack() as running,
        closing(celery_app("test", BrokerSettings.load(given).broker())) as app,
    ):
        for server in (master, replica, *sentinels):
            running.enter_context(server)
        for sentinel in sentinels:
            await_true(lambda each=sentinel: each.knows_all(2), "they know each other")  # type: ignore[misc]
        users = BrokerUsers(sqlite, CommandConnection(app), Health().users)
        for now in (master, replica):

            def has_user(server: AclRedis = now) -> bool:
                users.step()
                return acl.node_user(ONE) in server.users()

            await_true(has_user, "the leader makes the user")
            with now.as_user(acl.node_user(ONE), "a password") as node:
                await_true(lambda each=node: each.lpush(f"node.{ONE}", "x"), "it may do its own")  # type: ignore[misc]
                with pytest.raises(NoPermissionError):
                    node.llen(FOREIGN)
            now.stop(signal.SIGKILL)


def test_no_message_comes_that_is_larger_than_any_of_ours_where_redis_is_the_stacks(
    tmp_path: Path,
) -> None:
    """A consumer reads a message whole before it can refuse it."""
    stack = yaml.safe_load((Path(__file__).parents[2] / "compose.yml").read_text())
    options = stack["services"]["redis"]["command"]
    bound = options.index("--proto-max-bulk-len")
    with AclRedis(tmp_path / "redis", *options[bound : bound + 2]) as server:
        login = "join", server.password("join")
        with server.as_user(*login) as client:
            client.lpush(CONTROLLER_QUEUE, b"x" * MAX_MESSAGE_BYTES)
            with pytest.raises((redis.ConnectionError, redis.ResponseError)):
                client.lpush(CONTROLLER_QUEUE, b"x" * (MAX_MESSAGE_BYTES + 1))
        with server.as_user(*login) as client:
            assert client.llen(CONTROLLER_QUEUE) == 1


@pytest.mark.parametrize(
    "place", ["redis://127.0.0.1/1", "redis+socket:///redis.sock?virtual_host=1"]
)
def test_users_of_nodes_have_database_0_alone(place: str) -> None:
    given = BrokerSettings.load({"broker_url": place, "broker_acl": "true"})
    with pytest.raises(UsageError, match="only database 0 of Redis"):
        given.broker()
    BrokerSettings.load({"broker_url": place}).broker()


def test_what_redis_refuses_is_told_with_what_to_do(guarded: AclRedis) -> None:
    place = guarded.path
    for login, said, hint in (
        ("", "(Authentication required|already authenticated)", "write user and password into"),
        ("controller:wr0ng@", "invalid username-password pair", "correct user and password in"),
    ):
        settings = BrokerSettings.load({"broker_url": f"redis+socket://{login}{place}"})
        with pytest.raises(UnavailableError, match=f"refuses the login: .*{said}") as raised:
            check_broker(celery_app("test", settings.broker()))
        assert raised.value.hint.startswith(hint)
        assert "wr0ng" not in str(raised.value)
        (found,) = doctor.check(settings.broker())
        assert re.search(said, found.message)
        assert found.hint is not None
        assert found.hint.startswith(hint)
        assert "wr0ng" not in found.message
    # As a controller whose URL names the wrong user.
    (found,) = doctor.check(BrokerSettings(broker_url=guarded.url_of("join")).broker())
    assert "no permissions" in found.message.lower()
    assert found.hint == "give this user of Redis its rights: `vxctl broker acl` prints them"


def test_the_doctor_of_a_node_asks_by_the_nodes_own_user(guarded: AclRedis, tmp_path: Path) -> None:
    given = {
        "broker_url": guarded.url_of("join"),
        "broker_acl": "true",
        "node_id": NODE,
        "journal": tmp_path / "journal.jsonl",
    }
    first = list(worker_doctor._broker(DoctorSettings.load(given)))
    assert [each.check for each in first if each.level != "ok"] == ["broker user"]
    (tmp_path / "broker.password").write_text("a password\n")
    assert {each.level for each in worker_doctor._broker(DoctorSettings.load(given))} == {"ok"}
    (tmp_path / "broker.password").write_text("another\n")
    (refused,) = worker_doctor._broker(DoctorSettings.load(given))
    assert "invalid username-password pair" in refused.message


def test_tls_and_names_of_connections(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")
    pair = authority.sign("server")
    port = free_port()
    options = (
        "--tls-port", str(port), "--tls-cert-file", str(pair.certificate), "--tls-auth-clients", "no",
        "--tls-key-file", str(pair.key), "--tls-ca-cert-file", str(authority.certificate),
    )  # fmt: skip
    with AclRedis(tmp_path / "redis", *options) as server:
        make_user(server, "p@ss/w#rd?")
        settings = BrokerSettings.load(
            {
                "broker_url": f"rediss://join:x@127.0.0.1:{port}/0",
                "broker_ca": str(authority.certificate),
            }
        )
        with closing(
            celery_app("worker", settings.broker().of(acl.node_user(NODE), "p@ss/w#rd?"))
        ) as app:
            app.conf.broker_transport_options |= {"client_name": "worker-of-one"}
            app.send_task("worker.ping", queue=queue_for_node(NODE))
            assert waiting(app, queue_for_node(NODE)) == 1


# A worker with a user of its own.

pytestmark = pytest.mark.privileged


@pytest.fixture
def host(in_empty_namespace: int) -> Namespace:
    return Namespace(in_empty_namespace)


def test_a_whole_round_with_a_nodes_own_user(host: Namespace, tmp_path: Path) -> None:
    with AclRedis(tmp_path / "redis") as server:
        make_user(server, make_password(tmp_path / "broker.password"))
        server.url = server.url_of("controller")
        controller = Controller(server)
        with running(host, tmp_path, server.url_of("join"), BROKER_ACL="true") as worker:
            assert controller.report_on(controller.ask()).outcome is Outcome.DONE
            host.add_vxlan(NAME, VNI)
            assert [device.name for device in controller.drift().devices] == [NAME]
            heal(controller)
            with server.client() as client:
                await_true(lambda: client.getrange(SIGN, 0, 5), "it gives signs of life")
                counts: Any = client.info("commandstats")
                errors = client.info("errorstats")
        assert errors == {}, "no connection says what it may not, or what this Redis does not know"
        assert all(each["rejected_calls"] == 0 for each in counts.values()), "it needs no more"
        assert "no permissions" not in worker.log.lower()


def test_a_worker_whose_join_password_is_wrong_says_so(
    guarded: AclRedis, host: Namespace, tmp_path: Path
) -> None:
    given = {
        "NODE_ID": ONE,
        "BROKER_ACL": "true",
        "BROKER_URL": f"redis+socket://join:wr0ng@{guarded.path}",
        "JOURNAL": str(tmp_path / "journal.jsonl"),
    }
    given |= signed.give_worker(Path(given["JOURNAL"]), ONE)
    done = subprocess.run(
        host.command(PROGRAM, "run"),
        env=variables(given),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == ExitStatus.ERROR
    error, hint = done.stderr.splitlines()[-2:]
    assert "invalid username-password pair" in error
    assert "wr0ng" not in done.stderr
    assert hint.startswith("hint: correct user and password in VXLAN_OPERATOR_BROKER_URL")
