"""`vxctl db`: what it says of a database, what it changes, and that looking changes nothing."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner, Result

from contract.runtime.errors import OperatorError
from contract.runtime.exit_status import ExitStatus
from controller.cli.commands import app
from controller.db.engine import Database, open_database
from tests import next_schema
from tests.controller_process import assert_clear_error, vxctl
from tests.next_schema import NEWEST
from tests.servers import PostgresServer
from tests.stored import contents, put, without_triggers


def db(verb: str, url: str) -> Result:
    """Run `vxctl db`."""
    return CliRunner().invoke(app, ["db", verb, "--database-url", url])


def said(verb: str, url: str, status: int = 0) -> str:
    """What it says, when it ends with this status."""
    result = db(verb, url)
    assert result.exit_code == status, (result.output, result.exception)
    return result.output.strip()


def refused(verb: str, url: str) -> str:
    """What is wrong, when it ends with an error for a person."""
    error = db(verb, url).exception
    assert isinstance(error, OperatorError)
    assert error.hint
    return error.problem


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database of this version; each supported kind in turn."""
    database = open_database(database_url)
    put(database)
    yield database
    database.close()


def test_a_database_that_is_as_it_should_be(database: Database, database_url: str) -> None:
    before = contents(database)
    assert said("current", database_url) == f"{NEWEST} (the newest)"
    assert said("check", database_url) == "the schema is correct"
    assert said("upgrade", database_url) == f"the database has schema {NEWEST}"
    assert contents(database) == before


def test_the_database_of_a_file_is_meant_where_no_other_is_named(
    database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "database-url"
    file.write_text(database_url + "\n")
    monkeypatch.setenv("VXLAN_OPERATOR_DATABASE_URL_FILE", str(file))
    result = CliRunner().invoke(app, ["db", "current"])
    assert result.output.strip() == f"{NEWEST} (the newest)"


def test_an_older_database(
    database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(database)
    next_schema.install(tmp_path, monkeypatch, "op.execute('SELECT 1')")
    assert said("current", database_url) == f"{NEWEST} (the newest is next: `vxctl db upgrade`)"
    assert (
        said("check", database_url, ExitStatus.NO) == f"it has schema {NEWEST}, and next is needed"
    )
    assert said("current", database_url).startswith(NEWEST)
    assert said("upgrade", database_url) == "the database has schema next"
    assert said("check", database_url) == "the schema is correct"
    assert contents(database) == before


def test_an_empty_database(postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database()
    assert said("current", url) == f"none (the newest is {NEWEST}: `vxctl db upgrade`)"
    assert said("check", url, ExitStatus.NO) == "it has no tables yet"
    assert said("current", url).startswith("none")
    assert said("upgrade", url) == f"the database has schema {NEWEST}"


def test_a_database_of_a_newer_version(database: Database, database_url: str) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'ffff'"))
    for verb in ("current", "check", "upgrade"):
        assert "has schema ffff, which" in refused(verb, database_url)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DROP INDEX ix_runs_removals", "index runs.ix_runs_removals is missing"),
        ("CREATE INDEX ix_mine ON runs (error)", "index runs.ix_mine should not be there"),
        ("ALTER TABLE runs ADD COLUMN mine TEXT", "column runs.mine should not be there"),
        ("ALTER TABLE nodes DROP COLUMN limitations", "column nodes.limitations is missing"),
        ("DROP TABLE requeues", "table requeues is missing"),
    ],
)
def test_what_is_not_as_it_should_be_is_told(
    database: Database, database_url: str, statement: str, told: str
) -> None:
    with database.engine.begin() as connection:
        connection.execute(text(statement))
    assert told in said("check", database_url, ExitStatus.NO).splitlines()


def test_a_type_that_is_not_as_it_should_be_is_told(postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database()
    database = open_database(url)
    with database.engine.begin() as connection:
        connection.execute(text("ALTER TABLE runs ALTER COLUMN error TYPE integer USING 1"))
        connection.execute(text("ALTER TABLE runs ALTER COLUMN removed DROP NOT NULL"))
    database.close()
    assert sorted(said("check", url, ExitStatus.NO).splitlines()) == [
        "column runs.error: type is INTEGER, and should be TEXT",
        "column runs.removed: nullable is True, and should be False",
    ]


def test_a_trigger_that_is_missing_is_told(database: Database, database_url: str) -> None:
    with database.engine.begin() as connection, without_triggers(connection):
        pass
    assert said("check", database_url) == "the schema is correct"
    with database.engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("DROP TRIGGER audit_no_truncate ON audit"))
            connection.execute(text("ALTER TABLE audit DISABLE TRIGGER audit_append_only"))
            names = ["audit_append_only", "audit_no_truncate"]
        else:
            connection.execute(text("DROP TRIGGER audit_no_delete"))
            names = ["audit_no_delete"]
    told = [f"the trigger {name} is missing or disabled" for name in names]
    assert said("check", database_url, ExitStatus.NO).splitlines() == told


def test_every_trigger_that_the_migrations_make_is_checked(
    database: Database, database_url: str
) -> None:
    postgresql = database.engine.dialect.name == "postgresql"
    made = (
        "SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal"
        if postgresql
        else "SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'"
    )
    with database.engine.begin() as connection:
        triggers = connection.execute(text(made)).all()
        for name, table in triggers:
            on = f" ON {table}" if postgresql else ""
            connection.execute(text(f"DROP TRIGGER {name}{on}"))
    assert len(triggers) == 5
    assert said("check", database_url, ExitStatus.NO).splitlines() == sorted(
        f"the trigger {name} is missing or disabled" for name, _ in triggers
    )


def test_other_peoples_tables_do_not_count(database: Database, database_url: str) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("CREATE TABLE mine (id INTEGER)"))
    assert said("check", database_url) == "the schema is correct"


@pytest.mark.parametrize("verb", ["current", "check"])
def test_looking_makes_no_file_and_changes_none(tmp_path: Path, verb: str) -> None:
    file = tmp_path / "controller.db"
    assert f"there is no database {file}" in refused(verb, f"sqlite:///{file}")
    assert f"no database {tmp_path / 'no' / 'c.db'}" in refused(
        verb, f"sqlite:///{tmp_path}/no/c.db"
    )
    assert list(tmp_path.iterdir()) == []

    open_database(f"sqlite:///{file}").close()
    before = file.read_bytes()
    said(verb, f"sqlite:///{file}")
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_bytes() == before

    file.write_text("no database " * 100)
    assert "file is not a database" in refused(verb, f"sqlite:///{file}")


@pytest.mark.parametrize("verb", ["current", "check"])
def test_looking_at_a_database_in_use(database: Database, database_url: str, verb: str) -> None:
    """Also while somebody writes."""
    with database.write() as session:
        session.execute(text("UPDATE nodes SET hostname = 'x'"))
        said(verb, database_url)


@pytest.mark.parametrize("verb", ["current", "check", "upgrade"])
@pytest.mark.parametrize(
    ("url", "problem"),
    [
        pytest.param("garbage", "cannot be understood", id="no URL"),
        pytest.param("mysql://h/n", "type mysql are not supported", id="MySQL"),
        pytest.param("sqlite://", "in-memory", id="in memory"),
        pytest.param(
            "postgresql://u:s3cr3t@127.0.0.1:1/n", "cannot be used.*refused", id="no server"
        ),
    ],
)
def test_a_url_that_leads_nowhere(verb: str, url: str, problem: str) -> None:
    found = refused(verb, url)
    assert re.search(problem, found)
    assert "s3cr3t" not in found


def test_as_a_command(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'c.db'}"
    assert_clear_error(vxctl("db", "check", "--database-url", url), "there is no database")
    done = vxctl("db", "upgrade", "--database-url", url)
    assert (done.returncode, done.stdout) == (0, f"the database has schema {NEWEST}\n")
