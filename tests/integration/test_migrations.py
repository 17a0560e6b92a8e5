"""Upgrades from empty and from the first release, which goes on writing; on SQLite and PostgreSQL."""

import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.engine.interfaces import ReflectedIndex
from sqlalchemy.exc import DBAPIError

from contract.runtime.errors import OperatorError
from controller.db import engine as database_module
from controller.db.engine import (
    Database,
    _on_sqlite_connect,
    open_database,
    open_to_look,
)
from controller.db.models import AuditRow, Node
from controller.db.schema import differences, version
from tests import first_release, stored
from tests.fake_clock import START
from tests.fake_swarm import snapshot, swarm_id

ROOT: Final = Path(__file__).parents[2]
FIRST_COMMIT: Final = "c2df1e6"
"""The last of the first release."""


@pytest.fixture
def old(database_url: str) -> Iterator[Engine]:
    """A database of the first release, with rows in every table; each supported kind in turn."""
    engine = create_engine(database_url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _on_sqlite_connect)
    first_release.make(engine)
    first_release.fill(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def upgraded(old: Engine, database_url: str) -> Iterator[Database]:
    """The same, brought up to date."""
    database = open_database(database_url)
    yield database
    database.close()


def schema(engine: Engine) -> dict[str, object]:
    """All that an inspector tells of our tables, apart from the order of columns."""
    found = inspect(engine)
    kind = engine.dialect.name
    return {
        name: (
            sorted(
                (each["name"], str(each["type"]), each["nullable"], each["default"])
                for each in found.get_columns(name)
            ),
            sorted(
                (str(each["name"]), each["column_names"], each["unique"], _partial(each, kind))
                for each in found.get_indexes(name)
            ),
            sorted(map(str, found.get_unique_constraints(name))),
            sorted(map(str, found.get_foreign_keys(name))),
            str(found.get_pk_constraint(name)),
        )
        for name in found.get_table_names()
    }


def _partial(index: ReflectedIndex, kind: str) -> str:
    """What a partial index is restricted to."""
    return str(index.get("dialect_options", {}).get(f"{kind}_where"))


def test_the_rows_of_the_first_release_fill_every_table_and_column(old: Engine) -> None:
    """Else the other tests here would show less than they seem to."""
    found = first_release.contents(old)
    assert set(inspect(old).get_table_names()) == {*found, "alembic_version"}
    for name, rows in found.items():
        assert rows
        assert set(rows[0]) == {column["name"] for column in inspect(old).get_columns(name)}


def test_upgrading_the_first_release_loses_nothing(old: Engine, database_url: str) -> None:
    before = first_release.contents(old)
    open_database(database_url).close()
    assert first_release.contents(old) == before


def test_upgrading_makes_the_same_schema_as_beginning_with_it(
    upgraded: Database, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if upgraded.engine.dialect.name == "sqlite":
        url = f"sqlite:///{tmp_path / 'new.db'}"
    else:
        url = request.getfixturevalue("postgres_server").new_database()
    new = open_database(url)
    assert schema(upgraded.engine) == schema(new.engine)
    new.close()
    with open_to_look(url) as connection:
        assert differences(connection) == []


def test_what_was_upgraded_is_what_this_version_needs(
    upgraded: Database, database_url: str
) -> None:
    with open_to_look(database_url) as connection:
        assert differences(connection) == []
        assert version(connection).current == version(connection).head


@pytest.mark.parametrize("statement", ["UPDATE audit SET reason = 'x'", "DELETE FROM audit"])
def test_audit_rows_of_the_first_release_cannot_be_changed_any_more(
    upgraded: Database, statement: str
) -> None:
    with pytest.raises(DBAPIError, match="append-only"), upgraded.write() as session:
        session.execute(text(statement))


def test_this_version_works_on_what_was_upgraded(upgraded: Database) -> None:
    with upgraded.read() as session:
        assert session.get_one(Node, swarm_id("one")).limitations == ["old kernel"]
        assert session.query(AuditRow).count() == 3
    stored.put(upgraded, snapshot("one", "two"), START)
    assert set(stored.claim(upgraded)) == {swarm_id("two")}  # one has a run under way
    assert stored.contents(upgraded)


def test_the_first_release_goes_on_writing_while_this_one_reads(
    old: Engine, upgraded: Database
) -> None:
    with old.begin() as connection:
        first_release.work(connection)
    found = stored.contents(upgraded)
    assert [len(found[name]) for name in ("nodes", "runs", "audit", "devices")] == [2, 2, 4, 1]
    with open_to_look(str(old.url.render_as_string(hide_password=False))) as connection:
        assert differences(connection) == []


def test_the_frozen_statements_are_the_first_releases(old: Engine) -> None:
    """They work on its own schema as well."""
    with old.begin() as connection:
        first_release.work(connection)


OLD_PROGRAM: Final = """
import sys
from datetime import timedelta
from celery import Celery
from contract.verdicts import Mode
from controller.db.engine import open_database
from controller.runs.dispatch import Dispatcher
from controller.runs.intake import Intake
from tests.fake_swarm import snapshot, swarm_id, task
from tests.reports import device, drift, entry, report
from tests.stored import claim, devices, put
database = open_database(sys.argv[1])
put(database)
print("open", flush=True)
sys.stdin.readline()
put(database, snapshot("one", "two", "three", tasks=[task("t1", "one", "shop")]))
runs = claim(database)
assert len(runs) == 3, runs
intake = Intake(database, resync=timedelta(seconds=60), ring=lambda *_: None)
for name in ("one", "two"):
    intake.report(
        report(
            runs[swarm_id(name)].run_id, node=name, devices=[device(1)], entries=[entry(1)]
        ).model_dump_json()
    )
intake.drift(drift(8, node="three").model_dump_json())
assert len(devices(database)) == 3
print("done", flush=True)
"""


def test_the_first_releases_own_code_goes_on_working_during_an_upgrade(
    database_url: str, tmp_path: Path
) -> None:
    """It has the database open when this version upgrades it."""
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", FIRST_COMMIT],
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    if archive.returncode:
        pytest.skip("the first release is not in this clone's history")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(tmp_path / "old", filter="data")
    process = subprocess.Popen(
        [sys.executable, "-c", OLD_PROGRAM, database_url],
        cwd=tmp_path / "old",
        env={"PYTHONPATH": str(tmp_path / "old"), "PATH": ""},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n", process.communicate(timeout=60)
        database = open_database(database_url)
        said, errors = process.communicate("go on\n", timeout=60)
        assert said.endswith("done\n"), errors
    finally:
        process.kill()
        process.wait(10)
    assert len(stored.contents(database)["audit"]) == 2
    database.close()


def test_an_upgrade_waits_for_a_lock_only_so_long_and_then_changes_nothing(
    old: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "LOCK_SECONDS", 1)
    before = first_release.contents(old), schema(old)
    with old.connect() as somebody, somebody.begin():
        sqlite = old.dialect.name == "sqlite"
        somebody.execute(text("BEGIN IMMEDIATE" if sqlite else "LOCK TABLE runs IN SHARE MODE"))
        with pytest.raises(OperatorError, match=r"locked by another program.*nothing was changed"):
            open_database(database_url)
        if sqlite:
            somebody.execute(text("ROLLBACK"))
    assert (first_release.contents(old), schema(old)) == before
    open_database(database_url).close()


def test_a_migration_that_fails_changes_nothing(
    old: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last thing that it makes is in the way: all before that is undone."""
    kind = old.dialect.name
    with old.begin() as connection:
        if kind == "sqlite":
            connection.execute(text("CREATE TABLE audit_anchors (id INTEGER)"))
        else:
            connection.execute(
                text("CREATE FUNCTION vxlan_operator_append_only() RETURNS int RETURN 1")
            )
    before = first_release.contents(old), schema(old)
    with pytest.raises(OperatorError, match="already exists"):
        open_database(database_url)
    assert (first_release.contents(old), schema(old)) == before
