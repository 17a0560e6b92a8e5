"""What this process concludes of its broker and database, in which words, and which conditions are stale."""

import sqlite3
from datetime import timedelta

import pytest
import redis
from kombu.exceptions import OperationalError
from psycopg import errors as pg
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from contract.runtime.text import redacted
from controller.conditions.age import Age
from controller.conditions.model import Reason, Status
from controller.health import faults, monitor
from controller.health.faults import Fault
from controller.health.live import Health
from controller.health.monitor import LATE_SECONDS, STALE_SECONDS, Monitor
from tests.fake_clock import START, Clock

DOWN = Fault(Reason.BROKER_UNREACHABLE, "the broker cannot be reached: refused")


def monitor_of(clock: Clock) -> Monitor:
    model = Health().broker
    return Monitor(model.type, model._works, model._late, clock=clock.monotonic, utcnow=clock)


def words(watched: Monitor) -> str:
    condition = watched.observed().condition
    return f"{condition.status}/{condition.reason}"


def of(kind: type[sqlite3.Error], code: int, text: str) -> DBAPIError:
    error = kind(text)
    error.sqlite_errorcode = code
    return DBAPIError("INSERT secret", {}, error)


BROKER = [
    (redis.ConnectionError("Error 111 connecting. Connection refused."), Reason.BROKER_UNREACHABLE),
    (redis.TimeoutError("Timeout reading"), Reason.BROKER_UNREACHABLE),
    (redis.ReadOnlyError("You can't write against a read only replica."), Reason.BROKER_REFUSES),
    (redis.OutOfMemoryError("command not allowed"), Reason.BROKER_REFUSES),
    (redis.ResponseError("MISCONF unable to persist"), Reason.BROKER_REFUSES),
    (redis.exceptions.NoPermissionError("no permissions"), Reason.BROKER_REFUSES),
    (redis.AuthenticationError("Authentication required."), Reason.BROKER_REFUSES),
]
DATABASE = [
    (of(sqlite3.OperationalError, sqlite3.SQLITE_FULL, "disk is full"), Reason.DATABASE_FULL),
    (
        of(sqlite3.OperationalError, sqlite3.SQLITE_READONLY_DBMOVED, "readonly"),
        Reason.DATABASE_READ_ONLY,
    ),
    (of(sqlite3.OperationalError, sqlite3.SQLITE_BUSY, "is locked"), Reason.DATABASE_LOCKED),
    (of(sqlite3.OperationalError, sqlite3.SQLITE_IOERR, "disk I/O"), Reason.DATABASE_UNREACHABLE),
    (DBAPIError("x", {}, pg.DiskFull("no space")), Reason.DATABASE_FULL),
    (DBAPIError("x", {}, pg.ReadOnlySqlTransaction("no")), Reason.DATABASE_READ_ONLY),
    (DBAPIError("x", {}, pg.LockNotAvailable("no")), Reason.DATABASE_LOCKED),
    (DBAPIError("x", {}, pg.OperationalError("refused")), Reason.DATABASE_UNREACHABLE),
]
LIVE_REASONS = {reason for _, reason in BROKER + DATABASE} | {
    Reason.BROKER_ANSWERS, Reason.DATABASE_WRITTEN, Reason.NO_ROWS_LOST,
    Reason.AUDIT_WENT_BACK, Reason.USERS_KEPT, Reason.USERS_REFUSED, Reason.NOT_PROBED,
    Reason.CONDITIONS_STALE,
}  # fmt: skip
"""Those that are not derived from rows."""


@pytest.mark.parametrize(("error", "reason"), BROKER)
def test_an_error_of_the_broker_keeps_its_words(error: Exception, reason: Reason) -> None:
    wrapped = OperationalError(str(error))
    wrapped.__cause__ = error
    for given in (error, wrapped):
        fault = faults.of_broker(given)
        assert fault.reason == reason
        assert str(error) in fault.message


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            redis.exceptions.NoPermissionError(
                "this user has no permissions to run the 'lpush' command"
            ),
            "its rights",
        ),
        (
            redis.AuthenticationError("invalid username-password pair or user is disabled."),
            "correct user",
        ),
        (redis.AuthenticationError("Authentication required."), "write user and password into"),
        (
            redis.ReadOnlyError("You can't write against a read only replica."),
            "put that right in Redis",
        ),
    ],
)
def test_what_redis_refuses_is_told_with_what_to_do(error: Exception, said: str) -> None:
    wrapped = OperationalError(str(error))
    wrapped.__cause__ = error
    assert said in faults.of_broker(wrapped).message.rpartition("; ")[2]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (redis.exceptions.NoPermissionError("this user has no permissions"), Reason.USERS_REFUSED),
        (redis.ResponseError("Error in ACL SETUSER modifier"), Reason.USERS_REFUSED),
        (redis.ConnectionError("refused"), Reason.BROKER_UNREACHABLE),
        (DBAPIError("x", {}, pg.OperationalError("refused")), Reason.DATABASE_UNREACHABLE),
    ],
)
def test_why_the_brokers_users_cannot_be_kept(error: Exception, reason: Reason) -> None:
    assert faults.of_broker_users(error).reason == reason


@pytest.mark.parametrize(("error", "reason"), DATABASE)
def test_an_error_of_the_database_keeps_its_words(error: DBAPIError, reason: Reason) -> None:
    fault = faults.of_database(error)
    assert fault.reason == reason
    assert str(error.orig) in fault.message
    assert "INSERT" not in fault.message


@pytest.mark.parametrize(
    "text",
    [
        "cannot reach redis://:s3cr3t@host:6379/0",
        "redis://ann:s3c@r3t@host",
        "postgresql://ann:s3cr3t@host/x?a=b",
        "fails with password=s3cr3t&x",
        "host=h password='s3cr3t' user=x",
    ],
)
def test_no_fault_tells_a_password(text: str) -> None:
    for secret in ("s3cr3t", "s3c@r3t", "r3t"):
        assert secret not in redacted(text)
    assert "s3c" not in faults.of_broker(OSError(text)).message


def test_a_fault_has_one_short_line() -> None:
    message = faults.of_broker(OSError("a\nb\x1b[31m" + "x" * 5000)).message
    assert len(message) < 400
    assert "\n" not in message


def test_nothing_is_claimed_before_the_first_result_and_long_after_the_last() -> None:
    clock = Clock()
    watched = monitor_of(clock)
    assert words(watched) == "Unknown/NotProbed"
    watched.succeeded()
    assert words(watched) == "True/BrokerAnswers"
    clock.advance(STALE_SECONDS + 1)
    assert words(watched) == "Unknown/NotProbed"
    assert watched.observed().looked_at == START


def test_an_attempt_that_hangs_is_a_fault_while_it_hangs() -> None:
    clock = Clock()
    watched = monitor_of(clock)
    watched.succeeded()
    with watched.attempt(faults.of_broker):
        clock.advance(LATE_SECONDS)
        assert words(watched) == "True/BrokerAnswers"
        clock.advance(1)
        assert words(watched) == "False/BrokerUnreachable"
        assert watched.fault is not None
        assert "no answer for over 3 s" in watched.fault.message
    assert words(watched) == "True/BrokerAnswers"


def test_since_moves_with_the_status_alone() -> None:
    clock = Clock()
    watched = monitor_of(clock)
    watched.failed(DOWN)
    began = clock.advance(0)
    assert watched.observed().since == began
    clock.advance(5)
    watched.failed(Fault(Reason.BROKER_REFUSES, "loading"))
    assert watched.observed().since == began
    watched.succeeded()
    assert watched.observed().since == clock.now


def test_a_small_success_does_not_take_back_the_failure_of_something_larger() -> None:
    clock = Clock()
    watched = monitor_of(clock)
    watched.failed(DOWN, hold=10)
    clock.advance(5)
    watched.succeeded()
    assert words(watched) == "False/BrokerUnreachable"
    watched.succeeded(release=True)
    assert words(watched) == "True/BrokerAnswers"
    watched.failed(DOWN, hold=10)
    clock.advance(10)
    watched.succeeded()
    assert words(watched) == "True/BrokerAnswers"


def test_a_fault_that_stays_has_a_log_line_a_minute_and_one_when_it_ends() -> None:
    clock = Clock()
    watched = monitor_of(clock)
    with capture_logs() as logs:
        for _ in range(120):
            watched.failed(DOWN)
            clock.advance(1)
        watched.succeeded()
        watched.succeeded()
    assert [line["log_level"] for line in logs] == ["warning", "warning", "info"]
    assert logs[0]["error"] == DOWN.message
    assert monitor._LOG_SECONDS == 60


def test_a_blip_of_the_broker_changes_no_node() -> None:
    clock = Clock()
    health = Health(utcnow=clock)
    health.broker.failed(DOWN)
    health.broker.observed()
    clock.advance(3)
    assert health.broker_fault_that_stays() is None
    clock.advance(1)
    fault = health.broker_fault_that_stays()
    assert fault is not None
    assert fault.reason == Reason.BROKER_UNREACHABLE


STORED = {
    "Ready": {"status": "True", "reason": "Converged", "message": "m", "since": START.isoformat()}
}


def test_conditions_hold_until_their_time_and_then_say_what_they_were() -> None:
    age = Age(START, START + timedelta(seconds=15))
    assert age.as_of(STORED, START + timedelta(seconds=15)) == STORED
    ready = age.as_of(STORED, START + timedelta(seconds=16))["Ready"]
    assert (ready["status"], ready["reason"]) == (Status.UNKNOWN, Reason.CONDITIONS_STALE)
    assert "last at 2030-01-01 12:00:00 UTC, when it was True (Converged)" in ready["message"]
    assert ready["since"] == (START + timedelta(seconds=15)).isoformat()


def test_conditions_of_unknown_age_are_unknown() -> None:
    (ready,) = Age(None, None).as_of(STORED, START).values()
    assert (ready["status"], ready["reason"]) == (Status.UNKNOWN, Reason.CONDITIONS_STALE)
    assert Age(None, None).as_of({}, START) == {}
