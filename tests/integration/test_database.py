"""Opening the database: from nothing, again, by two at once, and every way in which it cannot be opened."""

import os
import re
import sqlite3
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import StatementError
from structlog.testing import capture_logs

from contract.runtime.errors import OperatorError
from controller.db.engine import Database, open_database
from controller.db.models import Cluster
from controller.db.types import Base
from tests.fake_clock import START
from tests.fake_swarm import swarm_id
from tests.servers import PostgresServer
from tests.stored import contents, put

PASSWORD = "s3cr3t"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database that was opened from empty; each supported kind in turn."""
    database = open_database(database_url)
    yield database
    database.close()


def test_an_empty_database_gets_every_table(database: Database) -> None:
    tables = set(inspect(database.engine).get_table_names())
    assert tables == {*Base.metadata.tables, "alembic_version"}


def test_opening_again_changes_nothing(database: Database, database_url: str) -> None:
    put(database)
    before = contents(database)
    open_database(database_url).close()
    assert contents(database) == before


def test_a_database_of_a_newer_version_is_left_alone(database: Database, database_url: str) -> None:
    put(database)
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'ffff'"))
    before = contents(database)

    with pytest.raises(OperatorError, match=r"schema ffff.*a newer version wrote it"):
        open_database(database_url)

    assert contents(database) == before
    with database.engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "ffff"


def test_controllers_that_open_an_empty_database_at_once_all_succeed(
    postgres_server: PostgresServer,
) -> None:
    url = postgres_server.new_database()
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(open_database, [url] * 4))
    put(opened[0])
    assert all(contents(each) == contents(opened[0]) for each in opened)
    for each in opened:
        each.close()


def test_postgresql_itself_ends_what_takes_too_long(postgres_server: PostgresServer) -> None:
    with (
        closing(open_database(postgres_server.new_database())) as database,
        database.read() as session,
    ):
        names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        found = [session.scalar(text(f"SHOW {name}")) for name in names]
    assert found == ["1min", "10s", "10s"]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        pytest.param("", "cannot be understood", id="empty"),
        pytest.param("garbage", "cannot be understood", id="no URL"),
        pytest.param(f"postgresql://u:{PASSWORD}@h:port/n", "cannot be understood", id="bad port"),
        pytest.param(f"mysql://u:{PASSWORD}@h/n", "type mysql are not supported", id="mysql"),
        pytest.param("nosuch://h/n", "type nosuch are not supported", id="unknown scheme"),
        pytest.param("sqlite://", "in-memory", id="in memory"),
        pytest.param("sqlite:///:memory:", "in-memory", id="in memory, by name"),
        pytest.param("sqlite:////dev/null/x/c.db", "/dev/null/x cannot be made", id="no folder"),
        pytest.param("sqlite:////dev", "cannot be used", id="a folder"),
        pytest.param(
            f"postgresql://u:{PASSWORD}@127.0.0.1:1/n", "cannot be used.*refused", id="no server"
        ),
        pytest.param(
            f"postgresql+psycopg://u@127.0.0.1:1/n?password={PASSWORD}",
            "cannot be used.*refused",
            id="password as a parameter",
        ),
        pytest.param(
            f"postgresql://u:pa@{PASSWORD}@127.0.0.1:1/n",
            "must be quoted: %40",
            id="@ in a password",
        ),
        *(
            pytest.param(f"postgresql://u@127.0.0.1:1/n?{name}={PASSWORD}", found, id=name)
            for name, found in (("sslpassword", "refused"), ("PASSWORD", 'option "PASSWORD"'))
        ),
        pytest.param(
            "postgresql://u@/n?host=/nowhere", "cannot be used.*No such file", id="no socket"
        ),
        pytest.param(
            f"postgresql://u:{PASSWORD}@127.0.0.1:1/n?bogus=1",
            "cannot be used.*bogus",
            id="unknown parameter",
        ),
    ],
)
def test_a_url_that_leads_nowhere_is_explained_without_its_password(url: str, problem: str) -> None:
    with pytest.raises(OperatorError) as caught:
        open_database(url)
    assert re.search(problem, caught.value.problem)
    assert caught.value.hint
    assert PASSWORD not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_a_database_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "letter.txt"
    file.write_text("Dear Docker, " * 1000)
    file.chmod(0o644)
    before = file.read_bytes()
    with pytest.raises(OperatorError, match="file is not a database"):
        open_database(f"sqlite:///{file}")
    assert file.read_bytes() == before
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_somebody_elses_tables_are_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE nodes (id INTEGER)")
    with pytest.raises(OperatorError, match="nodes already exists"):
        open_database(f"sqlite:///{file}")
    with sqlite3.connect(file) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
    assert tables == [("nodes",)]


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(START, id="UTC"),
        pytest.param(START.astimezone(timezone(timedelta(hours=-9, minutes=-30))), id="a zone"),
        pytest.param(START + timedelta(microseconds=1), id="microseconds"),
        pytest.param(datetime(1970, 1, 1, tzinfo=UTC), id="a clock that was never set"),
    ],
)
def test_a_time_comes_back_as_it_was_and_in_utc(database: Database, moment: datetime) -> None:
    _store_time(database, moment)
    with database.read() as session:
        found = session.get_one(Cluster, 1).synced_at
    assert found == moment
    assert found.tzinfo is UTC


def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="a time without a zone"):
        _store_time(database, datetime(2030, 1, 1))  # noqa: DTZ001 -- that is the point
    assert contents(database)["cluster"] == []


def test_an_error_rolls_everything_back(database: Database) -> None:
    def fail_midway() -> None:
        with database.write() as session:
            session.add(_cluster(START))
            session.flush()
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail_midway()
    assert contents(database)["cluster"] == []


def test_a_reader_never_waits_for_a_writer(database: Database) -> None:
    with database.write() as writer:
        writer.add(_cluster(START))
        writer.flush()
        assert contents(database)["cluster"] == []


@pytest.fixture
def open_umask() -> Iterator[None]:
    """What most machines have: everybody may read what is made."""
    before = os.umask(0o000)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """The permissions of the files in a folder."""
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


def test_a_new_sqlite_file_and_its_folder_are_for_nobody_else(
    open_umask: None, tmp_path: Path
) -> None:
    folder = tmp_path / "state"
    with closing(open_database(f"sqlite:///{folder / 'c.db'}")) as database:
        put(database)
        assert modes(tmp_path) == {"state": 0o700}
        assert modes(folder) == dict.fromkeys(("c.db", "c.db-wal", "c.db-shm"), 0o600)


@pytest.mark.parametrize(("mode", "kept"), [(0o644, 0o600), (0o666, 0o600), (0o640, 0o640)])
def test_sqlite_files_that_everybody_may_read_are_closed_to_them(
    open_umask: None, tmp_path: Path, mode: int, kept: int
) -> None:
    url = f"sqlite:///{tmp_path / 'c.db'}"
    with closing(open_database(url)) as database:
        put(database)
        (tmp_path / "c.db.lock").touch()
        (tmp_path / "other").touch()
        for file in tmp_path.iterdir():
            file.chmod(mode)
        open_database(url).close()
        found = modes(tmp_path)
        assert found.pop("other") == mode
        assert found == dict.fromkeys(("c.db", "c.db-wal", "c.db-shm", "c.db.lock"), kept)


def test_a_file_that_cannot_be_closed_to_everybody_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'c.db'}"
    open_database(url).close()
    (tmp_path / "c.db").chmod(0o644)

    def is_another_users(path: Path, _mode: int) -> None:
        raise PermissionError(f"{path} is another user's")

    monkeypatch.setattr(Path, "chmod", is_another_users)
    with capture_logs() as logs:
        open_database(url).close()
    assert {each["log_level"] for each in logs} == {"warning"}
    assert "everybody on this machine may read" in logs[0]["event"]
    assert logs[0]["file"] == str(tmp_path / "c.db")


def _store_time(database: Database, moment: datetime) -> None:
    with database.write() as session:
        session.add(_cluster(moment))


def _cluster(moment: datetime) -> Cluster:
    return Cluster(id=1, swarm_id=swarm_id("swarm"), data_path_port=4789, synced_at=moment)


def test_a_database_without_an_encoding_works_too(postgres_server: PostgresServer) -> None:
    """As initdb makes it in a container that has no language; psycopg then gives bytes for texts."""
    url = postgres_server.new_database(encoding="SQL_ASCII")
    with closing(open_database(url)) as database:
        put(database)
        with database.read() as session:
            assert session.execute(text("SHOW server_encoding")).scalar_one() == "SQL_ASCII"
            assert session.get_one(Cluster, 1).id
