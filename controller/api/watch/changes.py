"""`ChangeMarker`: whether anything was written to the database since it was last asked, in microseconds."""

from typing import Any

from controller.db.engine import Database


class ChangeMarker:
    """Whether the database may have changed. One thread may use it.

    SQLite: `PRAGMA data_version` of a connection changes with every commit of another connection, in this
    process or another. PostgreSQL: two equal snapshots see the same rows (`pg_current_snapshot`).
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Any = None
        self._last: object = None

    def changed(self) -> bool:
        """Whether it may have changed since the last call; the first call says yes.

        Raises:
            SQLAlchemyError, sqlite3.Error: the database does not answer.
        """
        now = self._now()
        changed, self._last = now != self._last, now
        return changed

    def close(self) -> None:
        """Give its connection back."""
        connection, self._connection, self._last = self._connection, None, None
        if connection is not None:
            connection.close()

    def _now(self) -> object:
        engine = self._database.engine
        if engine.dialect.name == "postgresql":
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                return connection.exec_driver_sql("SELECT pg_current_snapshot()::text").scalar_one()
        if self._connection is None:
            # One connection throughout: the number counts the commits of others.
            self._connection = engine.raw_connection()
        cursor = self._connection.cursor()
        try:
            cursor.execute("PRAGMA data_version")
            return cursor.fetchone()
        finally:
            cursor.close()
