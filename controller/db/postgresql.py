"""PostgreSQL: connections that wait for a bounded time, and errors that mean another server is needed."""

from typing import Any, Final

import psycopg
from psycopg.errors import _WaitTimeout

from controller.db.bulk import UNPREPARED

STATEMENT_SECONDS: Final = 60
"""PostgreSQL ends a statement after this time, unless it has a shorter limit of its own."""

_PREPARED_AFTER: Final = 5
"""Executions after which a statement is prepared (psycopg's default)."""

_ANSWER_SECONDS: Final = STATEMENT_SECONDS + 5.0
"""A server that is silent for longer is stopped: the kernel of its machine keeps TCP alive all the same."""

_PING_SECONDS: Final = 5.0

_MOVED: Final = frozenset({"25006", "25P03", "57P01", "57P02", "57P03", "57P05"})
"""SQLSTATEs (appendix A) of a server that became a standby, shuts down, starts, or ended the session."""

_CONNECTION_CLASS: Final = "08"
"""Begin of the SQLSTATEs of connection errors."""


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed when the server does not answer in time; libpq would wait for ever."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """See `psycopg.Connection.wait`."""
        if timeout is None:
            # Of all statements here only SQLAlchemy's ping, before a connection is reused, commits itself.
            timeout = _PING_SECONDS if self.autocommit else _ANSWER_SECONDS
        try:
            return super().wait(gen, interval, timeout)
        except _WaitTimeout:
            self.pgconn.finish()
            raise psycopg.OperationalError(
                f"the server is connected and has not answered for {timeout:g} s"
            ) from None


def connect_args(*, lock_seconds: float, idle_seconds: float) -> dict[str, str | int]:
    """Return libpq's options of every connection; they win over those of a URL."""
    return {
        # For each host of the URL.
        "connect_timeout": 5,
        # Else a server that vanished is noticed after hours.
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
        "application_name": "vxlan-operator",
        # Else a database of the encoding SQL_ASCII, which initdb makes without a language, answers in bytes.
        "client_encoding": "utf8",
        "options": f"-c lock_timeout={lock_seconds}s -c statement_timeout={STATEMENT_SECONDS}s "
        # All of it is in memory. By the default, for disks, all devices are read to find those of a few
        # nodes, as long as there was no ANALYZE.
        "-c random_page_cost=1.1 "
        f"-c idle_in_transaction_session_timeout={idle_seconds}s "
        "-c default_transaction_read_only=off",
    }


def before_execute(
    _connection: object,
    cursor: psycopg.Cursor[Any],
    _statement: str,
    _parameters: object,
    context: Any,
    _many: bool,
) -> None:
    """Keep the driver from preparing a statement with the options `UNPREPARED`."""
    unprepared = context.execution_options.keys() >= UNPREPARED.keys()
    cursor.connection.prepare_threshold = None if unprepared else _PREPARED_AFTER


def on_error(context: Any) -> None:
    """Drop the pool's connections when the server is no longer the one to use: the URL may lead elsewhere."""
    state = getattr(context.original_exception, "sqlstate", None) or ""
    if state in _MOVED or state.startswith(_CONNECTION_CLASS):
        context.is_disconnect = True
