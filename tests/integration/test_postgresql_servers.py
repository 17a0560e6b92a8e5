"""PostgreSQL in production: a standby that takes over, a server that hangs, a pooler before it."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from contract.runtime.errors import OperatorError
from contract.verdicts import Stage
from controller.audit.append import Entry, append, head_of
from controller.conditions.model import Reason
from controller.db import postgresql
from controller.db.engine import Database, is_away, open_database, open_to_look
from controller.health.live import Health
from controller.health.trail import TrailTest
from tests.controller_process import HTTP, ControllerProcess, controller_of
from tests.fake_clock import START
from tests.fake_docker import FakeDocker
from tests.fake_swarm import snapshot
from tests.integration.test_dependencies import RARELY, assert_quiet, own
from tests.servers import PgBouncer, PostgresServer, PostgresStandby, RedisServer, await_true


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[FakeDocker]:
    with FakeDocker(tmp_path / "docker.sock", snapshot("one")) as docker:
        yield docker


@contextmanager
def stopped(server: PostgresServer) -> Iterator[None]:
    """Let all its processes stand still: TCP and Unix sockets stay open, and nothing is answered."""
    # The postmaster first, which makes the others; one of those may have ended meanwhile.
    send(server.pid, signal.SIGSTOP)
    pids = children(server.pid)
    for pid in pids:
        send(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in (*pids, server.pid):
            send(pid, signal.SIGCONT)


def send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def name_of(url: str) -> str:
    """The name of the database of a URL."""
    return str(make_url(url).database)


def says(controller: ControllerProcess, *words: str) -> bool:
    """Whether the readiness, which needs no database, has all these words."""
    text = controller.readiness()
    return all(each in text for each in words)


def test_a_standby_that_is_promoted_is_found_by_a_url_with_both_hosts(
    tmp_path: Path, redis: RedisServer, docker: FakeDocker
) -> None:
    with PostgresServer() as primary, PostgresStandby(primary) as standby:
        name = name_of(primary.new_database())
        # The standby is the first: it is passed over as long as it is one.
        url = (
            f"postgresql+psycopg://test@/{name}?host={standby.folder}&host={primary.folder}"
            "&target_session_attrs=read-write"
        )
        with controller_of(tmp_path / "1", docker, redis.url, RARELY, database_url=url) as one:
            await_true(lambda: HTTP.get(f"{one.url}/api/v1/status").json()["leading"], "it leads")
            await_true(
                lambda: standby.holds(name, "SELECT 1 FROM alembic_version"), "the standby has all"
            )
            primary.demote()
            # While it was restarted, what it did not answer was the reason.
            await_true(lambda: says(one, "DatabaseUnreachable", "read-only"), "it is known")
            standby.promote()
            await_true(lambda: one.answers(200), "the promoted server is used")
            assert_quiet(one)
            with closing(open_database(url)) as database, database.read() as session:
                found = session.scalar(text("SHOW unix_socket_directories"))
            assert found == str(standby.folder)
            # As `vxctl doctor` and `vxctl db check` do, which write nothing.
            with open_to_look(url) as connection:
                assert connection.scalar(text("SHOW transaction_read_only")) == "on"


def test_audit_rows_that_a_promoted_standby_lacks_are_told(
    tmp_path: Path, redis: RedisServer, docker: FakeDocker
) -> None:
    with PostgresServer() as primary, PostgresStandby(primary) as standby:
        name = name_of(primary.new_database())
        url = (
            f"postgresql+psycopg://test@/{name}?host={primary.folder}&host={standby.folder}"
            "&target_session_attrs=read-write"
        )
        with controller_of(tmp_path / "1", docker, redis.url, RARELY, database_url=url) as one:
            await_true(lambda: one.json("get", "nodes"), "the node is known")
            one.vxctl("pause", "one", "--reason", "the standby gets this")
            await_true(lambda: own(one, "AuditKept")["status"] == "True", "the trail is seen")
            await_true(lambda: standby.holds(name, "SELECT 1 FROM audit"), "the standby has a row")
            standby.stop()
            one.vxctl("resume", "one", "--reason", "and never this")
            with closing(open_database(url)) as database, database.read() as session:
                newest = head_of(session)
            # Two looks, so that it has been seen.
            looked = own(one, "AuditKept")["looked_at"]
            await_true(lambda: own(one, "AuditKept")["looked_at"] > looked, "seen")
            looked = own(one, "AuditKept")["looked_at"]
            await_true(lambda: own(one, "AuditKept")["looked_at"] > looked, "seen again")
            primary.stop(signal.SIGKILL)
            standby.start()
            standby.promote()
            await_true(lambda: one.answers(200), "the promoted server is used")
            await_true(lambda: own(one, "AuditKept")["reason"] == "AuditWentBack", "it is told")
            assert f"it ended at {newest}" in own(one, "AuditKept")["message"]
            assert "AuditWentBack" in one.vxctl("status")
            metrics = HTTP.get(f"{one.url}/metrics").text
            assert "vxlan_operator_audit_kept 0.0" in metrics


def test_rows_that_stand_in_the_place_of_others_are_told(tmp_path: Path) -> None:
    def grown(name: str) -> Database:
        database = open_database(f"sqlite:///{tmp_path / name}.db")
        entry = Entry(stage=Stage.PAUSED, at=START, reason=name, actor="test")
        with database.write() as session:
            append(session, [entry, entry], START)
        return database

    monitor = Health().trail
    with closing(grown("one")) as one, closing(grown("other")) as other:
        test = TrailTest(one, monitor)
        test.step()
        assert monitor.observed().condition.reason == Reason.NO_ROWS_LOST
        test._database = other
        test.step()
        test._database = one
        test.step()
    assert monitor.observed().condition.reason == Reason.AUDIT_WENT_BACK
    assert "its newest rows were replaced" in monitor.observed().condition.message


def test_a_server_that_became_a_standby_is_left_once_its_address_leads_elsewhere() -> None:
    """As an address that moves: connections to the former primary stay open, and answer all but writes."""
    with (
        PostgresServer() as former,
        PostgresServer() as following,
        TemporaryDirectory(prefix="vxo-pg-") as folder,
    ):
        open_database(following.url("postgres")).close()
        address = Path(folder, "address")
        address.symlink_to(former.folder)
        with closing(
            open_database(f"postgresql+psycopg://test@/postgres?host={address}")
        ) as database:

            def write() -> None:
                with database.write() as session:
                    session.execute(text("CREATE TABLE written ()"))

            former.demote()
            for _ in range(2):
                with pytest.raises(SQLAlchemyError, match="read-only transaction"):
                    write()
            address.unlink()
            address.symlink_to(following.folder)
            write()


def test_a_server_that_hangs_is_known_and_holds_nothing_up_for_long(
    tmp_path: Path,
    redis: RedisServer,
    docker: FakeDocker,
) -> None:
    with PostgresServer() as server:
        url = server.new_database()
        with controller_of(tmp_path / "1", docker, redis.url, RARELY, database_url=url) as one:
            with stopped(server):
                # A ping of 5 s that got no answer, then 5 s for a new connection; after that it is known.
                patient = httpx.get(f"{one.url}/readyz", timeout=60.0)
                assert patient.status_code == 503
                await_true(lambda: says(one, "DatabaseUnreachable"), "it gave up")
                assert_quiet(one)
            await_true(lambda: one.answers(200), "it is over")


def test_a_statement_that_gets_no_answer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "_ANSWER_SECONDS", 1.0)
    with (
        PostgresServer() as server,
        closing(open_database(server.new_database())) as database,
        database.engine.connect() as connection,
    ):
        connection.execute(text("SELECT 1"))
        with stopped(server):
            began = time.monotonic()
            with pytest.raises(SQLAlchemyError, match="has not answered for 1 s") as raised:
                connection.execute(text("SELECT 2"))
        assert time.monotonic() - began < 60
        assert is_away(raised.value)
        assert connection.invalidated


@pytest.mark.parametrize("settings", ["", "ignore_startup_parameters = options"])
def test_a_pooler_that_drops_settings_of_a_session_is_refused(settings: str) -> None:
    with PostgresServer() as server, TemporaryDirectory(prefix="vxo-pgb-") as folder:
        Path(folder).chmod(0o777)
        with PgBouncer(Path(folder), server, settings) as pooler:
            name = name_of(server.new_database())
            with pytest.raises(OperatorError) as raised:
                open_database(pooler.url(name))
            assert "is behind a pooler such as PgBouncer" in str(raised.value)
            assert "s3cr3t" not in str(raised.value)
