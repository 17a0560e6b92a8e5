"""What a person asks for is asked for, recorded and sent in one go; or at least not lost."""

import threading
from collections.abc import Sequence

import pytest
import redis
from celery import Celery
from sqlalchemy.orm import Session

from contract.broker import celery_app
from contract.verdicts import Mode, Stage
from controller import due
from controller.audit.append import Entry
from controller.database import Database
from controller.dispatch import BULK, URGENT, Dispatcher
from controller.leader import FencedDatabase, Lease, LeaseLostError
from controller.states import Priority
from tests import stored
from tests.fake_clock import START, Clock
from tests.fake_swarm import swarm_id
from tests.proxy import Proxy
from tests.sent import dispatcher, requests
from tests.servers import RedisServer, await_true
from tests.stored import RESYNC, TIMEOUT, ask, contents, due_row, put, wipe

ONE = swarm_id("one")


def by_hand(session: Session) -> Sequence[Entry]:
    """Ask for node `one`."""
    due.request(session, [ONE], at=START, priority=Priority.MANUAL, reason="by hand")
    return [Entry(stage=Stage.REQUEUED, at=START, reason="why", actor="alice")]


def test_what_is_asked_for_at_once_is_asked_for_recorded_and_sent(
    database: Database, sender: Dispatcher, client: redis.Redis
) -> None:
    put(database)
    sender.at_once(by_hand)
    (request,) = requests(client)
    assert (due_row(database).run_id, due_row(database).due_at) == (request.run_id, None)
    assert [row.stage for row in stored.audit(database)] == [Stage.REQUEUED]
    assert requests(client, "two") == [], "which is due, and not urgent"


def test_an_error_in_asking_changes_nothing_and_sends_nothing(
    database: Database, sender: Dispatcher, client: redis.Redis
) -> None:
    put(database)
    ask(database)
    before = contents(database)

    def wrong(session: Session) -> Sequence[Entry]:
        by_hand(session)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sender.at_once(wrong)
    assert (contents(database), client.keys()) == (before, [])


def test_what_is_asked_for_while_the_broker_is_away_is_sent_when_it_is_back(
    database: Database,
    sender: Dispatcher,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(database)
    with monkeypatch.context() as patch:
        patch.setattr(Celery, "send_task", lambda *_, **__: 1 / 0)
        sender.at_once(by_hand)
        assert (due_row(database).run_id, due_row(database).priority) == (None, Priority.MANUAL)
        # Nobody waits for a broker that was away a moment ago.
        patch.setattr(due, "claim", lambda *_, **__: pytest.fail("it was tried again"))
        sender.at_once(by_hand)
    assert client.keys() == []
    sender.step(URGENT)
    assert len(requests(client)) == 1
    assert len(stored.audit(database)) == 2
    ask(database, priority=Priority.MANUAL)
    stored_run = due_row(database).run_id
    assert stored_run is not None
    sender.at_once(lambda _session: [])
    assert len(requests(client)) == 1, "its run is under way"


def test_who_leads_no_longer_sends_nothing_at_once(
    postgresql: Database, broker_url: str, clock: Clock, client: redis.Redis
) -> None:
    wipe(postgresql)
    put(postgresql)
    lease = Lease(postgresql, "old")
    assert lease.take()
    app: Celery = celery_app("controller", broker_url)
    old = Dispatcher(
        FencedDatabase(postgresql, lease),
        app,
        mode=Mode.ENFORCE,
        run_timeout=TIMEOUT,
        resync=RESYNC,
        fence=lease.fence,
        utcnow=clock,
    )
    lease.release()
    assert Lease(postgresql, "new").take()
    before = contents(postgresql)
    with pytest.raises(LeaseLostError):
        old.at_once(by_hand)
    assert (contents(postgresql), client.keys()) == (before, [])


def test_who_asks_does_not_wait_for_a_broker_that_hangs(
    database: Database, redis_server: RedisServer, clock: Clock, client: redis.Redis
) -> None:
    put(database)
    redis_server.flush()
    ended = []
    with Proxy(redis_server.folder / "redis.sock") as proxy:
        sender = dispatcher(database, proxy.url, clock)
        ask(database, priority=Priority.MANUAL)  # So the lane for bulk leaves it alone.

        def lane() -> None:
            sender.step(BULK)
            ended.append("the lane, which is patient")

        proxy.swallow_all()
        thread = threading.Thread(target=lane)
        thread.start()
        await_true(lambda: due_row(database, "two").run_id, "the lane sends, and waits")
        sender.at_once(by_hand)
        ended.append("who asked")
        thread.join(30)
        assert ended == ["who asked", "the lane, which is patient"]
        assert (due_row(database).run_id, due_row(database).priority) == (None, Priority.MANUAL)
        assert len(stored.audit(database)) == 1
        proxy.heal()
        sender.step(URGENT)
    assert len(requests(client)) == 1
