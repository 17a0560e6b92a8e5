"""The database: opening it, its schema version, and sessions that read or write."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session

import migrations
from contract import VERSION
from contract.errors import OperatorError

LOCK_SECONDS: Final = 10
"""How long anybody waits for a lock, and at the most for one statement of the leader's."""

IDLE_SECONDS: Final = 10
"""After so long PostgreSQL ends a transaction whose client says nothing: it was stopped, or cut off."""

_READ_ONLY: Final = "vxlan_operator_read_only"


class Database:
    """An open database of ours, of exactly the schema that this version knows."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._reader = engine.execution_options(**{_READ_ONLY: True})

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that commits at the end, or rolls everything back on an error."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that only reads; it sees one moment and never waits for a writer (SQLite)."""
        with Session(self._reader, expire_on_commit=False) as session:
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def open_database(url: str) -> Database:
    """Open the database at `url` and bring its schema up to date.

    Raises:
        OperatorError: the URL is wrong, the server does not answer, or the database was written by
            a newer version; nothing was changed.
    """
    sqlite_file(url)
    engine = _engine(_parsed(url))
    try:
        _upgrade(engine)
    except SQLAlchemyError as error:
        engine.dispose()
        cause = error.orig if isinstance(error, DBAPIError) else error
        shown = engine.url.difference_update_query(["password"]).render_as_string()
        raise OperatorError(
            f"the database {shown} cannot be used: {str(cause).splitlines()[0]}",
            "start it, or set VXLAN_OPERATOR_DATABASE_URL to one that this program may write",
        ) from error
    except OperatorError:
        engine.dispose()
        raise
    return Database(engine)


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite database, whose folder is made if it is missing; None on PostgreSQL.

    Raises:
        OperatorError: the URL is wrong, or the folder cannot be made.
    """
    parsed = _parsed(url)
    if parsed.drivername != "sqlite":
        return None
    path = Path(str(parsed.database)).resolve()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OperatorError(
            f"the folder {path.parent} cannot be made: {error.strerror}",
            "set VXLAN_OPERATOR_DATABASE_URL to a file in a folder that this program may write",
        ) from error
    return path


def _parsed(url: str) -> URL:
    remedy = (
        "set VXLAN_OPERATOR_DATABASE_URL to sqlite:///FILE or "
        "postgresql+psycopg://USER:PASSWORD@HOST/NAME"
    )
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise OperatorError("the database URL cannot be understood", remedy) from error
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "postgresql+psycopg"):
        raise OperatorError(f"databases of type {parsed.drivername} are not supported", remedy)
    if parsed.drivername == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise OperatorError("an in-memory SQLite database would forget everything", remedy)
    return parsed


def _engine(url: URL) -> Engine:
    if url.drivername == "sqlite":
        engine = create_engine(url, connect_args={"timeout": LOCK_SECONDS})
        event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", _on_sqlite_begin)
        return engine
    try:
        return create_engine(
            url,
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": 5,
                "application_name": "vxlan-operator",
                "options": f"-c lock_timeout={LOCK_SECONDS}s -c statement_timeout=60s "
                f"-c idle_in_transaction_session_timeout={IDLE_SECONDS}s",
            },
        )
    except (NoSuchModuleError, ImportError) as error:
        raise OperatorError(
            f"PostgreSQL's driver is missing: {error}", "pip install 'vxlan-operator[controller]'"
        ) from error


def _on_sqlite_connect(connection: Any, _record: object) -> None:
    # The driver's own transaction handling begins too late; see _on_sqlite_begin.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    # Else INSERT OR REPLACE would delete audit rows past the trigger that forbids it.
    cursor.execute("PRAGMA recursive_triggers=ON")
    cursor.close()


def _on_sqlite_begin(connection: Connection) -> None:
    # A transaction that reads first and writes later cannot wait for a lock: SQLite fails it at
    # once. So writers take the lock at the beginning, and wait there.
    if connection.get_execution_options().get(_READ_ONLY):
        connection.exec_driver_sql("BEGIN")
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _upgrade(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    script = ScriptDirectory.from_config(config)
    known = {revision.revision for revision in script.walk_revisions()}
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            # Two controllers that start together: one migrates, the other waits.
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": 0x7678_6C61_6E})
        current = MigrationContext.configure(connection).get_current_revision()
        if current is not None and current not in known:
            raise OperatorError(
                f"the database has schema {current}, which vxlan-operator {VERSION} does not know: "
                "a newer version wrote it",
                "install that newer version, or restore a backup from before the upgrade",
            )
        if current != script.get_current_head():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
