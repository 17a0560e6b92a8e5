"""Who leads: two holders of one lease, transactions in flight while it changes hands, and SQLite's lock."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text, update
from sqlalchemy.orm import Session

from contract.runtime.errors import OperatorError
from controller.db import models
from controller.db.engine import Database
from controller.leadership import lease as lease_module
from controller.leadership.election import Election
from controller.leadership.fenced import FencedDatabase
from controller.leadership.lease import (
    LEASE_SECONDS,
    Lease,
    LeaseLostError,
    this_process,
)
from controller.leadership.sqlite_lock import only_one
from controller.views import queries
from tests.fake_clock import START
from tests.fake_swarm import swarm_id
from tests.servers import await_true
from tests.stored import contents


class Boottime:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def boottime() -> Boottime:
    """The clock of the first holder."""
    return Boottime()


@pytest.fixture
def first(database: Database, boottime: Boottime) -> Lease:
    """The first holder: it leads."""
    lease = Lease(database, "first", boottime=boottime)
    assert lease.take()
    return lease


only_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)
only_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def let_expire(database: Database) -> None:
    """Let the lease's time pass."""
    with database.write() as session:
        session.execute(update(models.Lease).values(expires_at=START.replace(year=2000)))


def row(database: Database) -> models.Lease:
    """The lease."""
    with database.read() as session:
        return session.get_one(models.Lease, "controller")


def cluster() -> models.Cluster:
    """Something to write."""
    return models.Cluster(id=1, swarm_id=swarm_id("s"), data_path_port=4789, synced_at=START)


def test_who_takes_the_lease_leads(database: Database, first: Lease) -> None:
    assert first.still_leads()
    assert (row(database).holder, row(database).fence) == ("first", first.fence())
    with FencedDatabase(database, first).write() as session:
        session.add(cluster())
    assert len(contents(database)["cluster"]) == 1


def test_nobody_leads_before_that(database: Database) -> None:
    lease = Lease(database, "nobody")
    assert not lease.held
    assert not lease.still_leads()
    with pytest.raises(LeaseLostError):
        lease.fence()
    with pytest.raises(LeaseLostError), FencedDatabase(database, lease).write():
        pytest.fail("it wrote")
    lease.release()
    assert contents(database)["leases"] == []


@only_postgresql
def test_the_second_waits_while_the_first_renews(database: Database, first: Lease) -> None:
    second = Lease(database, "second")
    assert not second.take()
    let_expire(database)
    first.renew()
    assert not second.take()
    assert row(database).holder == "first"


@only_postgresql
def test_the_second_takes_over_what_has_expired_and_the_first_changes_nothing_more(
    database: Database, first: Lease
) -> None:
    before = first.fence()
    let_expire(database)
    second = Lease(database, "second")
    assert second.take()
    assert second.fence() > before

    assert first.still_leads()  # as far as it can tell
    with pytest.raises(LeaseLostError), FencedDatabase(database, first).write() as session:
        session.add(cluster())
    assert not first.still_leads()
    with pytest.raises(LeaseLostError):
        first.fence()
    with pytest.raises(LeaseLostError):
        first.renew()
    first.release()

    assert contents(database)["cluster"] == []
    second.renew()
    assert row(database).holder == "second"


@only_postgresql
def test_renewing_late_is_early_enough_if_nobody_has_taken_over(
    database: Database, first: Lease, boottime: Boottime
) -> None:
    let_expire(database)
    boottime.now += 100
    assert not first.still_leads()
    with FencedDatabase(database, first).write() as session:
        session.add(cluster())
    first.renew()
    assert first.still_leads()
    assert not Lease(database, "second").take()


@only_postgresql
def test_a_leader_that_cannot_renew_stops_sending_before_anybody_can_take_over(
    database: Database, first: Lease, boottime: Boottime
) -> None:
    boottime.now += LEASE_SECONDS / 2
    assert first.fence()
    boottime.now += LEASE_SECONDS / 2 - 0.5
    assert not first.still_leads()
    with pytest.raises(LeaseLostError):
        first.fence()


@only_postgresql
def test_a_lease_that_was_given_back_is_free_at_once(database: Database, first: Lease) -> None:
    before = first.fence()
    first.release()
    assert not first.still_leads()
    second = Lease(database, "second")
    assert second.take()
    assert second.fence() > before


@pytest.mark.parametrize("how", ["given back", "expired"])
def test_a_lease_that_was_given_back_or_has_expired_names_no_leader(
    database: Database, first: Lease, how: str
) -> None:
    assert named_leader(database) == "first"
    if how == "expired":
        let_expire(database)
    else:
        first.release()
    assert named_leader(database) is None
    assert Lease(database, "second").take()
    assert named_leader(database) == "second"


def test_nobody_is_named_before_anybody_led(database: Database) -> None:
    assert named_leader(database) is None


def named_leader(database: Database) -> str | None:
    """Whom `vxctl status` names."""
    with database.read() as session:
        return queries.leader(session)


@only_postgresql
def test_of_many_that_try_at_once_one_leads(database: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda number: Lease(database, str(number)).take(), range(8)))
    assert sum(taken) == 1


def test_the_fence_goes_up_though_the_database_is_new_or_the_clock_was_put_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Lease(database, "first")
    assert lease.take()
    assert lease.fence() >= int(time.time()) - 60
    before = lease.fence()
    lease.release()
    monkeypatch.setattr("time.time", lambda: 1.0)
    after = Lease(database, "second")
    assert after.take()
    assert after.fence() == before + 1


@only_postgresql
def test_taking_over_waits_for_a_transaction_in_flight(database: Database, first: Lease) -> None:
    let_expire(database)
    second = Lease(database, "second")
    with ThreadPoolExecutor(1) as pool:
        with FencedDatabase(database, first).write() as session:
            taking = pool.submit(second.take)
            await_true(lambda: waiting(database), "the second waits")
            session.add(cluster())
        assert taking.result(60)
    assert len(contents(database)["cluster"]) == 1


@only_postgresql
def test_a_transaction_that_begins_while_another_takes_over_fails(
    database: Database, first: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_expire(database)
    second = Lease(database, "second")
    locked, going_on = threading.Event(), threading.Event()
    expiry = second._expiry

    def slowly() -> object:
        locked.set()
        assert going_on.wait(60)
        return expiry()

    monkeypatch.setattr(second, "_expiry", slowly)
    with ThreadPoolExecutor(2) as pool:
        taking = pool.submit(second.take)
        assert locked.wait(60)
        writing = pool.submit(write_cluster, FencedDatabase(database, first))
        await_true(lambda: waiting(database), "the first waits")
        going_on.set()
        assert taking.result(60)
        with pytest.raises(LeaseLostError):
            writing.result(60)
    assert contents(database)["cluster"] == []


@only_postgresql
def test_what_a_transaction_saw_before_another_took_over_counts_for_nothing(
    database: Database, first: Lease
) -> None:
    """All rests on this: PostgreSQL looks again at a row that changed between finding and locking it.

    It does not for a change that spares the key, such as a renewal's; so there is one of those as well.
    """
    first.renew()
    slow = text(
        "SELECT fence FROM leases WHERE fence = :fence "
        "AND pg_advisory_xact_lock(1) IS NOT NULL FOR KEY SHARE"
    )
    fence = first.fence()

    def look() -> object:
        with database.write() as session:
            session.execute(text("SET LOCAL lock_timeout = 0"))
            return session.execute(slow, {"fence": fence}).first()

    with ThreadPoolExecutor(1) as pool:
        # Outside of a transaction, which the server would end as idle.
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as gate:
            gate.execute(text("SELECT pg_advisory_lock(1)"))
            looking = pool.submit(look)
            await_true(lambda: waiting(database), "it has its snapshot")
            first.renew()
            let_expire(database)
            assert Lease(database, "second").take()
            assert not looking.done()
            gate.execute(text("SELECT pg_advisory_unlock(1)"))
        assert looking.result(60) is None


@only_postgresql
def test_renewing_does_not_wait_for_the_leaders_own_transactions(
    database: Database, first: Lease
) -> None:
    with FencedDatabase(database, first).write() as session:
        session.add(cluster())
        session.flush()
        first.renew()  # would fail for a lock time-out
        with FencedDatabase(database, first).write():
            pass


@only_sqlite
def test_on_sqlite_it_leads_at_once_and_as_long_as_it_lives(
    database: Database, first: Lease, boottime: Boottime
) -> None:
    """The lock on the file proves that whoever holds the lease is dead."""
    boottime.now += 1e6
    assert first.still_leads()
    again = Lease(database, "again")
    assert again.take()
    assert again.fence() > row(database).fence - 1
    assert row(database).holder == "again"


def test_an_election_is_won_once_and_then_renewed(database: Database) -> None:
    told: list[str] = []
    election = Election(
        Lease(database, "first"), won=lambda: told.append("won"), lost=lambda: told.append("lost")
    )
    for _ in range(3):
        election.step()
    assert told == ["won"]


def test_who_cannot_begin_does_not_keep_the_lease(database: Database) -> None:
    told: list[str] = []

    def cannot() -> None:
        raise RuntimeError("can't start new thread")

    lease = Lease(database, "first")
    Election(lease, won=cannot, lost=lambda: told.append("lost")).step()
    assert told == ["lost"]
    assert Lease(database, "other").take()


@only_postgresql
def test_a_lease_counts_from_when_its_row_was_locked(
    database: Database, boottime: Boottime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which may take long: transactions of the old leader have to end first."""
    make_row = lease_module._make_row

    def slowly(session: Session) -> None:
        make_row(session)
        boottime.now += LEASE_SECONDS

    monkeypatch.setattr(lease_module, "_make_row", slowly)
    lease = Lease(database, "slow", boottime=boottime)
    assert lease.take()
    assert lease.still_leads()


@only_postgresql
def test_an_election_is_won_however_long_taking_the_lease_lasted(
    database: Database, boottime: Boottime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a process would renew the lease for ever and do nothing with it."""
    told: list[str] = []
    lease = Lease(database, "slow", boottime=boottime)
    expiry = lease._expiry

    def slowly() -> object:
        boottime.now += 2 * LEASE_SECONDS
        return expiry()

    monkeypatch.setattr(lease, "_expiry", slowly)
    election = Election(lease, won=lambda: told.append("won"), lost=lambda: told.append("lost"))
    election.step()
    assert told == ["won"]
    assert not lease.still_leads()
    monkeypatch.undo()
    election.step()
    assert told == ["won"]
    assert lease.still_leads()


@only_postgresql
def test_an_election_that_another_has_won_is_lost(database: Database) -> None:
    told: list[str] = []
    election = Election(
        Lease(database, "first"), won=lambda: told.append("won"), lost=lambda: told.append("lost")
    )
    other = Election(Lease(database, "other"), won=lambda: told.append("other"), lost=lambda: None)
    election.step()
    other.step()
    assert told == ["won"]
    let_expire(database)
    other.step()
    election.step()
    assert told == ["won", "other", "lost"]


def test_no_two_processes_have_one_name() -> None:
    assert this_process() != this_process()


def test_an_sqlite_database_has_one_controller(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'deep' / 'controller.db'}"
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "deep")
    with only_one(url):
        for same in (url, f"sqlite:///{link / 'controller.db'}"):
            with (
                pytest.raises(OperatorError, match=rf"in use by .*process {os.getpid()}\b"),
                only_one(same),
            ):
                pytest.fail("two at once")
        with only_one(f"sqlite:///{tmp_path / 'other.db'}"):
            pass
    with only_one(url):
        pass
    assert not (tmp_path / "deep" / "controller.db").exists()


def test_the_lock_goes_with_the_process_however_that_ends(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'controller.db'}"
    code = (
        "import sys, time; from controller.leadership.sqlite_lock import only_one\n"
        "with only_one(sys.argv[1]): print('has it', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"has it\n"
        with pytest.raises(OperatorError, match=rf"process {process.pid}\b"), only_one(url):
            pytest.fail("two at once")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    with only_one(url):
        pass


@pytest.mark.privileged
def test_a_full_disk_is_an_error_with_a_hint(tmp_path: Path) -> None:
    code = (
        "import sys; from contract.runtime.errors import OperatorError\n"
        "from controller.leadership.sqlite_lock import only_one\n"
        "try:\n    with only_one(sys.argv[1]): pass\n"
        "except OperatorError as error: print(error)"
    )
    script = 'mount -t tmpfs -o size=4k t "$1"; head -c 4096 /dev/zero >"$1/f"; shift; exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", tmp_path,
         sys.executable, "-c", code, f"sqlite:///{tmp_path}/c.db"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    problem, _, hint = done.stdout.partition("; ")
    assert problem == f"the file {tmp_path}/c.db.lock cannot be written: No space left on device"
    assert hint.startswith("make room there")


def test_any_number_may_be_on_postgresql() -> None:
    with only_one("postgresql://u@127.0.0.1:1/n"), only_one("postgresql://u@127.0.0.1:1/n"):
        pass


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        pytest.param("garbage", "cannot be understood", id="no URL"),
        pytest.param("sqlite:////dev/null/c.db", "/dev/null cannot be made", id="no folder"),
        pytest.param("sqlite:////proc/c.db", "/proc/c.db.lock cannot be written", id="no file"),
    ],
)
def test_a_lock_that_cannot_be_had_is_explained(url: str, problem: str) -> None:
    with pytest.raises(OperatorError, match=problem), only_one(url):
        pytest.fail("it has it")


def write_cluster(database: Database) -> None:
    """Write something."""
    with database.write() as session:
        session.add(cluster())


def waiting(database: Database) -> bool:
    """Whether some transaction waits for a lock."""
    with database.read() as session:
        return bool(session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))
