"""The database: opening it, and sessions that read or write."""

import itertools
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import structlog
from sqlalchemy import Connection, Engine, create_engine, event, exc, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.orm import Session

from contract.runtime.errors import OperatorError, UsageError
from contract.runtime.startup import UnavailableError
from controller.db.schema import upgrade

log = structlog.get_logger(__name__)

LOCK_SECONDS: Final = 10
"""Longest wait for a lock, and for one statement of the leader."""

IDLE_SECONDS: Final = 10
"""PostgreSQL ends a transaction after this silence of its client, which was stopped or cut off."""

_MAX_OVERFLOW: Final = 20
"""Connections above the five that stay open: requests (`controller.api.turns`) and the leader's threads."""
_READ_ONLY: Final = "vxlan_operator_read_only"
_LOOKING: Final = {_READ_ONLY: True, "postgresql_readonly": True}
"""For SQLite and PostgreSQL. (A session that only reads is refused by `target_session_attrs=read-write`.)"""
_NO_CA: Final = "root certificate file"
"""libpq, about the file with which it verifies the server."""
_NAME_CA: Final = "add sslrootcert=FILE to the URL, the CA of the server's certificate"
_LOCKED: Final = ("55P03", "40P01")
"""PostgreSQL: lock timeout, deadlock."""
_POOLER: Final = "unsupported startup parameter"
"""PgBouncer, about the settings that every session begins with."""
_REMEDY: Final = "start it, or set VXLAN_OPERATOR_DATABASE_URL to one that this program may write"


class News:
    """Counts what this process has committed and is worth another look. Thread-safe."""

    def __init__(self) -> None:
        self._counter = itertools.count(1)
        self.count = 0

    def add(self) -> None:
        """Count a commit."""
        # Of two threads the first may be the last to store its number: that is another one all the same.
        self.count = next(self._counter)


class Database:
    """An open database with the schema of this version.

    Attributes:
        news: of all sessions that write.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.news = News()
        self.writers = threading.Lock()
        """Held by this process's writer of an SQLite database."""
        self._reader = engine.execution_options(**{_READ_ONLY: True})

    @property
    def is_shared(self) -> bool:
        """Whether other processes write to it, too: SQLite has one controller."""
        return self.engine.dialect.name != "sqlite"

    @contextmanager
    def write(self, *, news: bool = True) -> Iterator[Session]:
        """A session that commits at the end, or rolls everything back on an error.

        Args:
            news: whether conditions may depend on what is written.
        """
        with self._turn(), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session
        if news:
            self.news.add()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that only reads; on SQLite it sees one snapshot and never waits for a writer."""
        with Session(self._reader, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for this process's other writer of an SQLite database.

        SQLite itself polls for its lock, up to ten times a second: a requeue would miss every gap between
        two batches of reports.
        """
        locked = not self.is_shared and self.writers.acquire(timeout=LOCK_SECONDS)
        try:
            yield
        finally:
            if locked:
                self.writers.release()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def open_database(url: str) -> Database:
    """Open the database at `url` and bring its schema up to date.

    Raises:
        OperatorError: the URL is wrong, the server does not answer, or a newer version wrote the
            database; nothing was changed.
    """
    file = sqlite_file(url)
    if file is not None:
        # For its owner only; SQLite gives its other files the same mode.
        with suppress(OSError):  # It exists, or SQLite will report the error.
            os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    parsed = _parsed(url)
    patient = _engine(parsed, patient=True)
    try:
        with explained(parsed):
            if file is None:
                _refuse_pooler(parsed)
            upgrade(patient)
    finally:
        patient.dispose()
    if file is not None:
        _make_existing_private(file)
    return Database(_engine(parsed))


@contextmanager
def open_to_look(url: str) -> Iterator[Connection]:
    """A connection that only reads, whatever the schema, and that creates no file.

    Raises:
        OperatorError: the URL is wrong, there is no such database, or the server does not answer.
    """
    parsed = _parsed(url)
    if parsed.drivername == "sqlite":
        path = Path(str(parsed.database)).resolve()
        if not path.is_file():
            raise OperatorError(
                f"there is no database {path}",
                "set VXLAN_OPERATOR_DATABASE_URL (or --database-url) to one that is there",
            )
        # Without a WAL no process has it open, and SQLite need not create one.
        in_use = path.with_name(f"{path.name}-wal").exists()
        query = {"mode": "ro"} if in_use else {"immutable": "1"}
        engine = _engine(
            URL.create(
                "sqlite", database=f"file:{quote(str(path))}", query=query | {"uri": "true"}
            ),
            read_only=True,
        )
    else:
        engine = _engine(parsed, read_only=True)
    try:
        with (
            explained(parsed),
            engine.execution_options(**_LOOKING).connect() as connection,
        ):
            yield connection
    finally:
        engine.dispose()


def is_away(error: Exception) -> bool:
    """Whether the database is away, locked or full: then a retry may help."""
    if isinstance(error, exc.OperationalError | exc.InterfaceError):
        # SQLite's driver has the same class for a wrong statement, which a retry does not help.
        return getattr(error.orig, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR
    if isinstance(error, exc.DBAPIError):
        return error.connection_invalidated
    return isinstance(error, exc.TimeoutError)


def database_message(error: exc.SQLAlchemyError) -> str:
    """The database's message: one line, without the statement and its values."""
    cause = error.orig if isinstance(error, exc.DBAPIError) else next(iter(error.args), "")
    return next(iter(str(cause).splitlines()), type(error).__name__)


@contextmanager
def explained(url: URL) -> Iterator[None]:
    """Turn errors of the database into `OperatorError`; `UnavailableError` if a retry may help."""
    try:
        yield
    except exc.SQLAlchemyError as error:
        cause = error.orig if isinstance(error, exc.DBAPIError) else error
        shown = _shown(url)
        if _POOLER in str(cause):
            raise _pooled(url, database_message(error)) from error
        if getattr(cause, "sqlstate", None) in _LOCKED or "is locked" in str(cause):
            raise UnavailableError(
                f"the database {shown} is locked by another program, for over {LOCK_SECONDS} s; "
                "nothing was changed",
                "try again when that program (a backup, another upgrade) has ended",
            ) from error
        kind = UnavailableError if is_away(error) else OperatorError
        message = database_message(error)
        raise kind(
            f"the database {shown} cannot be used: {message}",
            _NAME_CA if _NO_CA in message else _REMEDY,
        ) from error


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite database, after creating its folder; None on PostgreSQL.

    Raises:
        OperatorError: the URL is wrong, or the folder cannot be made.
    """
    parsed = _parsed(url)
    if parsed.drivername != "sqlite":
        return None
    path = Path(str(parsed.database)).resolve()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise OperatorError(
            f"the folder {path.parent} cannot be made: {error.strerror}",
            "set VXLAN_OPERATOR_DATABASE_URL to a file in a folder that this program may write",
        ) from error
    return path


def _make_existing_private(file: Path) -> None:
    """Remove the access of others to a database's files, which a restored backup has by the umask.

    A mode that admits only a group is kept: it was set on purpose.
    """
    for suffix in ("", "-wal", "-shm", ".lock"):
        path = file.with_name(file.name + suffix)
        try:
            if path.stat().st_mode & stat.S_IRWXO:
                path.chmod(0o600)
        except FileNotFoundError:
            continue
        except PermissionError:
            log.warning(
                "everybody on this machine may read a file of the database, and it is another "
                "user's: run chmod 600 on it",
                file=str(path),
            )


def _refuse_pooler(url: URL) -> None:
    """Refuse a pooler that was told to drop the settings of a session (`ignore_startup_parameters`)."""
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            kept = connection.scalar(text("SHOW lock_timeout"))
    finally:
        engine.dispose()
    if kept != f"{LOCK_SECONDS}s":
        raise _pooled(url, "it dropped the time-outs that this program sets for its sessions")


def _pooled(url: URL, words: str) -> OperatorError:
    """Return the error that a pooler answers at `url`."""
    return OperatorError(
        f"the database {_shown(url)} is behind a pooler such as PgBouncer, which does not keep a "
        f"session's settings and prepared statements: {words}",
        "set VXLAN_OPERATOR_DATABASE_URL to PostgreSQL itself; a controller keeps 5 connections open, "
        "25 at most",
    )


def _shown(url: URL) -> str:
    """Return a URL without its passwords: libpq also has `sslpassword`, and people write `PASSWORD`."""
    secret = [name for name in url.query if "password" in name.lower()]
    return url.difference_update_query(secret).render_as_string()


def _parsed(url: str) -> URL:
    remedy = (
        "set VXLAN_OPERATOR_DATABASE_URL to sqlite:///FILE or "
        "postgresql+psycopg://USER:PASSWORD@HOST/NAME"
    )
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError) as error:
        raise UsageError("the database URL cannot be understood", remedy) from error
    if "@" in (parsed.host or ""):
        raise UsageError("a password with @ in the database URL must be quoted: %40", remedy)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "postgresql+psycopg"):
        raise UsageError(f"databases of type {parsed.drivername} are not supported", remedy)
    if parsed.drivername == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise UsageError("an in-memory SQLite database would forget everything", remedy)
    return parsed


def _engine(url: URL, *, read_only: bool = False, patient: bool = False) -> Engine:
    """Make an engine; `patient`: PostgreSQL may take any time for a statement."""
    if url.drivername == "sqlite":
        engine = create_engine(
            url,
            connect_args={"timeout": LOCK_SECONDS},
            max_overflow=_MAX_OVERFLOW,
            # Errors are logged, and parameters may be secrets.
            hide_parameters=True,
        )
        if not read_only:
            event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", _on_sqlite_begin)
        return engine
    try:
        # Here, because `scan` and `up` do without PostgreSQL's driver.
        from controller.db import postgresql
    except ImportError as error:
        raise OperatorError(
            f"PostgreSQL's driver is missing: {error}", "pip install 'vxlan-operator[controller]'"
        ) from error
    engine = create_engine(
        url,
        pool_pre_ping=True,
        hide_parameters=True,
        max_overflow=_MAX_OVERFLOW,
        # The last used connection has its statements prepared, and the server's memory warm.
        pool_use_lifo=True,
        connect_args=postgresql.connect_args(lock_seconds=LOCK_SECONDS, idle_seconds=IDLE_SECONDS),
    )
    event.listen(engine, "handle_error", postgresql.on_error)
    event.listen(engine, "before_cursor_execute", postgresql.before_execute)
    if not patient:
        event.listen(engine, "do_connect", _connect_bounded)
    return engine


def _connect_bounded(_dialect: object, _record: object, arguments: Any, options: Any) -> Any:
    from controller.db.postgresql import BoundedConnection

    return BoundedConnection.connect(*arguments, **options)


def _on_sqlite_connect(connection: Any, _record: object) -> None:
    # The driver's own transaction handling begins too late; see _on_sqlite_begin.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    # KiB per connection. The kernel caches the file anyway: 2 MB each took 15 MB more and were no faster.
    cursor.execute("PRAGMA cache_size=-500")
    # Else INSERT OR REPLACE would delete audit rows past the trigger that forbids it.
    cursor.execute("PRAGMA recursive_triggers=ON")
    cursor.close()


def _on_sqlite_begin(connection: Connection) -> None:
    # SQLite fails a transaction that reads first and cannot then get the write lock. So writers take
    # the lock at the beginning, and wait there.
    read_only = connection.get_execution_options().get(_READ_ONLY)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
