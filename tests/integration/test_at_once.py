"""What a person asks for is asked for, recorded and sent in one go; or at least not lost."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import redis
from sqlalchemy import update
from structlog.testing import capture_logs

from contract.runtime import broker, transport
from contract.runtime.broker import celery_app
from contract.verdicts import Mode, Stage
from controller.conditions.model import Status
from controller.db import models
from controller.db.engine import Database
from controller.health.live import Health
from controller.health.monitor import Monitor
from controller.leadership.fenced import FencedDatabase
from controller.leadership.lease import LEASE_SECONDS, Lease, LeaseLostError
from controller.runs import dispatch
from controller.runs.dispatch import Dispatcher
from controller.workqueue import queue
from controller.workqueue.priorities import BULK, URGENT, Priority
from controller.workqueue.requeue import RequeueRequest, TokenTakenError, store
from tests import stored
from tests.fake_clock import START, Clock
from tests.fake_swarm import swarm_id
from tests.proxy import Proxy
from tests.sent import dispatcher, requests
from tests.servers import RedisServer, await_true
from tests.signed import keyring
from tests.stored import RESYNC, TIMEOUT, ask, contents, due_row, put

ONE = swarm_id("one")


def by_hand(number: int = 1) -> RequeueRequest:
    """A request for node `one`."""
    return RequeueRequest("one", f"t-{number}", "alice", "reason")


def test_what_is_asked_for_at_once_is_asked_for_recorded_and_sent(
    database: Database, sender: Dispatcher, client: redis.Redis
) -> None:
    put(database)
    sender.requeue(by_hand())
    (request,) = requests(client)
    assert (due_row(database).run_id, due_row(database).due_at) == (request.run_id, None)
    assert [row.stage for row in stored.audit(database)] == [Stage.REQUEUED]
    assert requests(client, "two") == [], "which is due, and not urgent"


def test_an_error_in_storing_changes_nothing_and_sends_nothing(
    database: Database, sender: Dispatcher, client: redis.Redis
) -> None:
    put(database)
    with database.write() as session:
        store(session, by_hand(), START)
    before = contents(database)

    with pytest.raises(TokenTakenError):
        sender.requeue(replace(by_hand(), node="two"))
    assert (contents(database), client.keys()) == (before, [])


def test_what_is_asked_for_while_the_broker_is_away_is_sent_when_it_is_back(
    database: Database,
    sender: Dispatcher,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(database)
    with monkeypatch.context() as patch:
        patch.setattr(dispatch, "publish", lambda *_, **__: 1 / 0)
        sender.requeue(by_hand())
        assert (due_row(database).run_id, due_row(database).priority) == (None, Priority.MANUAL)
        # Nobody waits for a broker that was away a moment ago.
        patch.setattr(queue, "claim", lambda *_, **__: pytest.fail("it was tried again"))
        sender.requeue(by_hand(2))
    assert client.keys() == []
    sender.step(URGENT)
    assert len(requests(client)) == 1
    assert len(stored.audit(database)) == 2
    ask(database, priority=Priority.MANUAL)
    stored_run = due_row(database).run_id
    assert stored_run is not None
    sender.requeue(by_hand())
    assert len(requests(client)) == 1, "its run is under way"


def test_who_leads_no_longer_sends_nothing_at_once(
    postgresql: Database, broker_url: str, clock: Clock, client: redis.Redis
) -> None:
    put(postgresql)
    lease = Lease(postgresql, "old")
    assert lease.take()
    old = fenced_by(lease, postgresql, broker_url, clock)
    lease.release()
    assert Lease(postgresql, "new").take()
    before = contents(postgresql)
    with pytest.raises(LeaseLostError):
        old.requeue(by_hand())
    assert (contents(postgresql), client.keys()) == (before, [])


def fenced_by(
    lease: Lease,
    database: Database,
    broker_url: str,
    clock: Clock,
    broker: Monitor | None = None,
) -> Dispatcher:
    """A dispatcher of the controller that has this lease."""
    return Dispatcher(
        FencedDatabase(database, lease),
        celery_app("controller", broker_url),
        keyring(database),
        mode=Mode.ENFORCE,
        run_timeout=TIMEOUT,
        resync=RESYNC,
        fence=lease.fence,
        broker=broker,
        utcnow=clock,
    )


@pytest.mark.parametrize("taken_over", [False, True], ids=["for a moment", "to another"])
@pytest.mark.parametrize(
    "act",
    [
        pytest.param(Dispatcher.step, id="a step"),
        pytest.param(lambda sender: sender.requeue(by_hand()), id="at once"),
    ],
)
def test_a_lease_that_is_lost_while_sending_is_not_blamed_on_the_broker(
    postgresql: Database,
    broker_url: str,
    clock: Clock,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[Dispatcher], object],
    taken_over: bool,
) -> None:
    put(postgresql)
    boottime = [1000.0]
    lease = Lease(postgresql, "old", boottime=lambda: boottime[0])
    assert lease.take()
    broker = Health().broker
    broker.succeeded()
    sender = fenced_by(lease, postgresql, broker_url, clock, broker)
    publish = transport.publish

    def send(*arguments: Any, **options: Any) -> None:
        publish(*arguments, **options)
        boottime[0] += LEASE_SECONDS
        if taken_over and lease.still_leads() is False:
            let_expire(postgresql)
            Lease(postgresql, "new").take()

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(dispatch, "publish", send)
        with pytest.raises(LeaseLostError):
            act(sender)
    assert (client.keys(), [each for each in logs if "condition" in each]) == ([], [])
    assert broker.observed().condition.status is Status.TRUE
    # Another leader must not find its rows changed by this one: it closes the run as lost.
    assert (due_row(postgresql).run_id is not None) == taken_over
    if not taken_over:
        lease.renew()
        sender.requeue(by_hand())
        assert len(requests(client)) == 1


def let_expire(database: Database) -> None:
    """Let the time of the lease pass."""
    with database.write() as session:
        session.execute(update(models.Lease).values(expires_at=START.replace(year=2000)))


def test_who_asks_does_not_wait_for_a_broker_that_hangs(
    database: Database,
    redis_server: RedisServer,
    clock: Clock,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # More patient than it is: who asks may be held up by a loaded machine, which is not the lane's doing.
    monkeypatch.setitem(broker._REDIS_OPTIONS, "socket_timeout", 15)
    put(database)
    redis_server.flush()
    ended = []
    with Proxy(redis_server.folder / "redis.sock") as proxy:
        sender = dispatcher(database, proxy.url, clock)
        ask(database, priority=Priority.MANUAL)  # So the lane for bulk leaves it alone.

        def priority_class() -> None:
            sender.step(BULK)
            ended.append("the lane, which is patient")

        proxy.swallow_all()
        thread = threading.Thread(target=priority_class)
        thread.start()
        await_true(lambda: due_row(database, "two").run_id, "the lane sends, and waits")
        sender.requeue(by_hand())
        ended.append("who asked")
        thread.join(30)
        assert ended == ["who asked", "the lane, which is patient"]
        assert (due_row(database).run_id, due_row(database).priority) == (None, Priority.MANUAL)
        assert len(stored.audit(database)) == 1
        proxy.heal()
        sender.step(URGENT)
    assert len(requests(client)) == 1
