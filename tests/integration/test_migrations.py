"""Migrations make what the models say, and an upgrade happens as a whole or not at all."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import produce_migrations
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.engine.interfaces import ReflectedIndex

from contract.runtime.errors import OperatorError
from controller.db import engine as database_module
from controller.db.engine import Database, _on_sqlite_connect, open_database, open_to_look
from controller.db.schema import _UPGRADE_LOCK, METADATA, differences, version
from tests import next_schema
from tests.servers import PostgresServer
from tests.stored import contents, put
from tests.trail import record


@pytest.fixture
def empty(database_url: str) -> Iterator[Engine]:
    """An empty database; each supported kind in turn."""
    engine = create_engine(database_url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _on_sqlite_connect)
    yield engine
    engine.dispose()


@pytest.fixture
def migrated(database_url: str) -> Iterator[Database]:
    """A database of this version; each supported kind in turn."""
    database = open_database(database_url)
    yield database
    database.close()


@pytest.fixture
def filled(migrated: Database) -> Database:
    """The same, with rows."""
    put(migrated)
    record(migrated, 3)
    return migrated


def schema(engine: Engine) -> dict[str, object]:
    """All that an inspector finds of tables, apart from the order of columns."""
    found = inspect(engine)
    kind = engine.dialect.name
    return {
        name: (
            sorted(
                (column["name"], str(column["type"]), column["nullable"], column["default"])
                for column in found.get_columns(name)
            ),
            sorted(
                (str(index["name"]), index["column_names"], index["unique"], _where(index, kind))
                for index in found.get_indexes(name)
            ),
            sorted(map(str, found.get_unique_constraints(name))),
            sorted(map(str, found.get_foreign_keys(name))),
            str(found.get_pk_constraint(name)),
        )
        for name in found.get_table_names()
        if name != "alembic_version"
    }


def _where(index: ReflectedIndex, kind: str) -> str:
    """The condition of a partial index."""
    return str(index.get("dialect_options", {}).get(f"{kind}_where"))


def test_migrations_leave_nothing_to_generate(migrated: Database, database_url: str) -> None:
    with migrated.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        operations = produce_migrations(context, METADATA).upgrade_ops
    assert operations is not None
    assert operations.is_empty()
    with open_to_look(database_url) as connection:
        assert differences(connection) == []
        assert version(connection).current == version(connection).head


def test_migrations_make_the_tables_that_the_models_make(
    migrated: Database, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Also the conditions of partial indexes, which alembic does not compare."""
    url = f"sqlite:///{tmp_path / 'models.db'}"
    if migrated.engine.dialect.name == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = server.new_database()
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    METADATA.create_all(engine)
    assert schema(migrated.engine) == schema(engine)
    engine.dispose()


def test_asking_for_the_version_leaves_no_statement_behind(migrated: Database) -> None:
    def kept() -> int:
        with migrated.read() as session:
            version(session.connection())
        return len(migrated.engine._compiled_cache or ())

    assert kept() == kept()


def test_an_upgrade_keeps_every_row(
    filled: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(filled)
    next_schema.install(
        tmp_path, monkeypatch, 'op.add_column("runs", sa.Column("note", sa.Text()))'
    )
    open_database(database_url).close()
    assert contents(filled) == before
    with open_to_look(database_url) as connection:
        assert version(connection).current == next_schema.REVISION


def test_an_upgrade_waits_a_bounded_time_for_a_lock_and_then_changes_nothing(
    filled: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "LOCK_SECONDS", 1)
    before = contents(filled), schema(filled.engine)
    next_schema.install(
        tmp_path,
        monkeypatch,
        'op.add_column("nodes", sa.Column("note", sa.Text()))',
        'op.add_column("runs", sa.Column("note", sa.Text()))',
    )
    with filled.engine.begin() as other:  # On SQLite it is the one writer.
        if other.dialect.name == "postgresql":
            other.execute(text("LOCK TABLE runs IN SHARE MODE"))
        with pytest.raises(OperatorError, match=r"locked by another program.*nothing was changed"):
            open_database(database_url)
    assert (contents(filled), schema(filled.engine)) == before
    open_database(database_url).close()
    assert schema(filled.engine) != before[1]


def test_a_first_upgrade_waits_a_bounded_time_for_another(
    empty: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "LOCK_SECONDS", 1)
    with empty.connect() as other, other.begin():
        sqlite = empty.dialect.name == "sqlite"
        other.execute(
            text("BEGIN IMMEDIATE" if sqlite else f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})")
        )
        with pytest.raises(OperatorError, match=r"locked by another program.*nothing was changed"):
            open_database(database_url)
        if sqlite:
            other.execute(text("ROLLBACK"))
    assert inspect(empty).get_table_names() == []
    open_database(database_url).close()


def test_a_first_migration_that_fails_makes_nothing(empty: Engine, database_url: str) -> None:
    """The last thing that it makes is in the way: all before that is undone."""
    with empty.begin() as connection:
        if empty.dialect.name == "sqlite":
            connection.execute(text("CREATE TABLE audit_anchors (id INTEGER)"))
        else:
            connection.execute(
                text("CREATE FUNCTION vxlan_operator_append_only() RETURNS int RETURN 1")
            )
    before = inspect(empty).get_table_names()
    with pytest.raises(OperatorError, match="already exists"):
        open_database(database_url)
    assert inspect(empty).get_table_names() == before


def test_a_migration_that_fails_changes_nothing(
    filled: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(filled), schema(filled.engine)
    next_schema.install(
        tmp_path,
        monkeypatch,
        'op.add_column("runs", sa.Column("note", sa.Text()))',
        "op.execute(\"UPDATE nodes SET hostname = 'x'\")",
        'op.create_table("leases", sa.Column("name", sa.Text()))',
    )
    with pytest.raises(OperatorError, match="already exists"):
        open_database(database_url)
    assert (contents(filled), schema(filled.engine)) == before
    with open_to_look(database_url) as connection:
        assert version(connection).current == next_schema.NEWEST
