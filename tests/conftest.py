"""What all tests share: who may run, and real servers on private sockets that end with the session."""

import os
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests import logs
from tests.servers import REDIS, PostgresServer, RedisServer, ServerMissingError, of_root
from tests.side_by_side import Lanes, turn

IN_CI = os.environ.get("CI") == "true"
_MEMORY = Path("/dev/shm")  # noqa: S108 -- not a file with a name that somebody could guess
_MEMORY_NEEDED = 2 << 30
_TEST_SECONDS = 60
"""What was logged so long before the phase that failed, as its fixtures were made, is shown, too."""


def _write_to_memory() -> None:
    """Keep temporary files in memory if there is room: a test waits for no disk that others keep busy."""
    if "TMPDIR" in os.environ or not _MEMORY.is_dir():
        return
    there = os.statvfs(_MEMORY)
    if there.f_bavail * there.f_frsize > _MEMORY_NEEDED and not there.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = str(_MEMORY)
        tempfile.tempdir = None


_write_to_memory()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Another engine for the Swarm tests than this machine's: see `make test-engines`."""
    parser.addoption(
        "--engine", type=Path, help="root folder of the engine (python -m tests.lab engine)"
    )
    parser.addoption(
        "--valkey", type=Path, help="root folder whose valkey-server takes the place of Redis"
    )
    parser.addoption(
        "--churn",
        type=int,
        default=2,
        help="how many rounds of service churn (a minute holds four)",
    )
    parser.addoption(
        "--stall",
        type=float,
        default=8.0,
        help="for how many seconds a dockerd is held up",
    )
    parser.addoption(
        "--update-scenarios",
        action="store_true",
        help="write the actual tables into tests/scenarios/*.txt; look at the difference afterwards",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Valkey instead of Redis, if asked for."""
    root: Path | None = config.getoption("--valkey")
    if root is not None:
        command = of_root(root, "usr/bin/valkey-server")
        if command is None:
            raise pytest.UsageError(f"{root} has no usr/bin/valkey-server")
        REDIS[:] = command


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """See `tests.side_by_side.turn`."""
    items.sort(key=turn)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes:
    """See `tests.side_by_side`."""
    return Lanes(config, log)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Forget how the last tests ended."""
    _note(session, None)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Note how the tests ended: `make test-again` is of use only if all have run."""
    _note(session, int(exitstatus))


def _note(session: pytest.Session, status: int | None) -> None:
    config = session.config
    cache: pytest.Cache | None = getattr(config, "cache", None)  # None: -p no:cacheprovider
    if cache is not None and not config.option.collectonly and not _is_one_of_many(config):
        cache.set("vxlan-operator/status", status)


def _is_one_of_many(config: pytest.Config) -> bool:
    """Whether this is a process of xdist's."""
    return hasattr(config, "workerinput")


def cannot(reason: str) -> NoReturn:
    """Skip on a person's machine; fail where a test that did not run would pass for one that did."""
    if IN_CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Privileged tests need root."""
    needs_root = any(item.iter_markers("privileged")) or any(item.iter_markers("swarm"))
    if needs_root and os.geteuid() != 0:
        cannot("needs root: namespaces, VXLAN devices and dockerd")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails shows what its servers have logged."""
    report = yield
    if report.failed:
        folder = getattr(item, "funcargs", {}).get("tmp_path")
        shown = logs.ends(folder, call.start - _TEST_SECONDS)
        report.sections.extend((f"end of {path}", text) for path, text in shown)
    return report


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real redis-server on a private socket, for the session."""
    try:
        server = RedisServer(tmp_path_factory.mktemp("redis"))
    except ServerMissingError as error:
        cannot(str(error))
        raise
    with server:
        yield server


@pytest.fixture
def broker_url(redis_server: RedisServer) -> str:
    """The URL of an empty Redis."""
    redis_server.flush()
    return redis_server.url


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real PostgreSQL on a private socket, for the session."""
    try:
        server = PostgresServer()
    except ServerMissingError as error:
        cannot(str(error))
        raise
    with server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each supported kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'controller.db'}"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.new_database()


@pytest.fixture
def in_empty_namespace() -> Iterator[int]:
    """A process that holds an empty network namespace; its pid, for nsenter."""
    with empty_namespace() as pid:
        yield pid


@contextmanager
def empty_namespace() -> Iterator[int]:
    """The same, for tests that share one."""
    holder = subprocess.Popen(
        ["unshare", "--net", "--mount", "sh", "-c", "echo ready; exec sleep 600"],
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        yield holder.pid
    finally:
        holder.kill()
        holder.wait(60)
