"""Errors of the broker and the database as a reason and a sentence, without secrets. Pure."""

import sqlite3
from typing import Final, NamedTuple

from redis.exceptions import AuthenticationError, ResponseError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from contract.runtime.broker_errors import advice, causes
from contract.runtime.text import redacted
from controller.conditions.model import Reason
from controller.db.engine import database_message

_FULL: Final = frozenset({"53100"})
_READ_ONLY: Final = frozenset({"25006"})
_LOCKED: Final = frozenset({"55P03"})
"""SQLSTATEs of PostgreSQL (appendix A): disk_full, read_only_sql_transaction, lock_not_available."""


class Fault(NamedTuple):
    """Why a dependency cannot be used."""

    reason: str
    """A `Reason`, or the reason of a failed reading of the Swarm."""
    message: str
    """With the dependency's own words, and what to do; the same for as long as the fault stays the same."""


def of_broker(error: BaseException) -> Fault:
    """Put an error of the broker's client into words."""
    words = _words(str(error) or type(error).__name__)
    if any(isinstance(cause, AuthenticationError | ResponseError) for cause in causes(error)):
        return Fault(
            Reason.BROKER_REFUSES,
            f"the broker answers and takes no messages: {words}; "
            + (advice(error) or "put that right in Redis"),
        )
    return Fault(
        Reason.BROKER_UNREACHABLE,
        f"the broker cannot be reached: {words}; start Redis, or check its address and the network",
    )


def of_broker_users(error: BaseException) -> Fault:
    """Put an error of keeping the nodes' users at the broker into words."""
    if isinstance(error, SQLAlchemyError):
        return of_database(error)
    if any(isinstance(cause, ResponseError) for cause in causes(error)):
        words = _words(str(error))
        advised = "give the user of VXLAN_OPERATOR_BROKER_URL the rights of `controller` (`vxctl broker acl`)"
        return Fault(
            Reason.USERS_REFUSED,
            f"the leader cannot keep the nodes' users of Redis, and no node can join: {words}; {advised}",
        )
    return of_broker(error)


def of_database(error: BaseException) -> Fault:
    """Put an error of the database into words."""
    said = database_message(error) if isinstance(error, SQLAlchemyError) else str(error)
    words = _words(said or type(error).__name__)
    cause = error.orig if isinstance(error, DBAPIError) else error
    # The primary code is the lower byte of an extended one (sqlite.org/rescode.html).
    code = getattr(cause, "sqlite_errorcode", -1) & 0xFF
    state = getattr(cause, "sqlstate", None)
    if code == sqlite3.SQLITE_FULL or state in _FULL:
        advice = "free space on the disk of the database"
        return Fault(Reason.DATABASE_FULL, f"the database cannot be written: {words}; {advice}")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM) or state in _READ_ONLY:
        advice = "make it writable, or set VXLAN_OPERATOR_DATABASE_URL to the primary server"
        return Fault(Reason.DATABASE_READ_ONLY, f"the database is read-only: {words}; {advice}")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or state in _LOCKED:
        return locked(words)
    advice = "start it, or check its address, its disk and its log"
    return Fault(Reason.DATABASE_UNREACHABLE, f"the database cannot be used: {words}; {advice}")


def locked(words: str) -> Fault:
    """Return the fault that writes wait too long for a lock."""
    advice = "end the program that holds it (a backup, an upgrade)"
    return Fault(Reason.DATABASE_LOCKED, f"the database is locked: {words}; {advice}")


def silent(words: str) -> Fault:
    """Return the fault that the database does not answer: locked by another, or a server that hangs."""
    advice = "end the program that holds it (a backup, an upgrade), or restart a server that hangs"
    return Fault(Reason.DATABASE_LOCKED, f"the database is locked or hangs: {words}; {advice}")


def _words(text: str) -> str:
    """Shorten the words of a dependency to one line, without passwords."""
    line = redacted(" ".join(text.split()))
    return line if len(line) <= 200 else line[:197] + "..."
