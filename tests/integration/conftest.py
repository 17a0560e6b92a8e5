"""What the tests of the controller share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from controller.db.engine import Database, open_database
from controller.runs.dispatch import Dispatcher
from tests.controller_process import ControllerProcess, controller_of
from tests.fake_clock import Clock
from tests.fake_docker import FakeDocker
from tests.fake_swarm import snapshot, task
from tests.sent import dispatcher
from tests.servers import PostgresServer, RedisServer
from tests.stored import wipe
from tests.tokens import ENVIRONMENT


@pytest.fixture(scope="session")
def shared_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """An SQLite database for the session, with what the test before left in it.

    Opening one takes longer than most tests.
    """
    database = open_database(f"sqlite:///{tmp_path_factory.mktemp('shared') / 'controller.db'}")
    yield database
    database.close()


@pytest.fixture(scope="session")
def shared_postgresql(postgres_server: PostgresServer) -> Iterator[Database]:
    """The same on PostgreSQL."""
    database = open_database(postgres_server.new_database())
    yield database
    database.close()


@pytest.fixture
def sqlite(shared_sqlite: Database) -> Database:
    """An open SQLite database of the controller, with empty tables."""
    wipe(shared_sqlite)
    return shared_sqlite


@pytest.fixture
def postgresql(shared_postgresql: Database) -> Database:
    """The same on PostgreSQL."""
    wipe(shared_postgresql)
    return shared_postgresql


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Database:
    """An open database of the controller, with empty tables; each supported kind in turn."""
    database: Database = request.getfixturevalue(request.param)
    return database


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `vxctl` in this process send the tests' token."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def sender(database: Database, broker_url: str, clock: Clock) -> Dispatcher:
    """A dispatcher that sends to a real Redis."""
    return dispatcher(database, broker_url, clock)


@pytest.fixture(name="redis")
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own, which it may stop."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with RedisServer(folder) as server:
        yield server


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[FakeDocker]:
    """The Docker API of a manager: node `one` runs a task of network `shop`."""
    full = snapshot(tasks=[task("t1", "one", "shop")])
    with FakeDocker(tmp_path / "docker.sock", full) as docker:
        yield docker


@pytest.fixture
def controller(
    tmp_path: Path, redis: RedisServer, docker: FakeDocker
) -> Iterator[ControllerProcess]:
    """A controller that is ready; tests play the workers' part."""
    with controller_of(tmp_path, docker, redis.url) as controller:
        yield controller


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Redis]:
    """A client of that Redis."""
    with redis_server.client() as client:
        yield client
