"""From due rows to messages on a real Redis, and what becomes of a run that cannot be sent."""

import base64
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import redis
from kombu.transport.redis import PublishBatch

from contract.messages import (
    Acknowledgement,
    DesiredNetwork,
    ReconcileRequest,
    SwarmReading,
)
from contract.runtime.broker import NODE_QUEUE_EXPIRES, celery_app
from contract.verdicts import Mode, Verdict
from controller.conditions.model import Status
from controller.db.engine import Database
from controller.db.models import Device, Network, Node
from controller.db.states import RunState
from controller.health.live import Health
from controller.runs.dispatch import Dispatcher
from controller.runs.requests import CLOCKS_MAY_DIFFER
from controller.safety.breaker import DEFAULTS
from controller.swarm.model import SwarmNetwork
from controller.trust.keyring import Keyring
from controller.workqueue import queue
from controller.workqueue.priorities import (
    BULK,
    PRIORITY_CLASSES,
    URGENT,
    Priority,
    PriorityClass,
)
from tests import stored
from tests.fake_clock import START, Clock
from tests.fake_swarm import INGRESS, MAIL, SHOP, network, snapshot, swarm_id, task
from tests.sent import dispatcher, raw_messages, requests
from tests.servers import RedisServer
from tests.signed import keyring
from tests.stored import RESYNC, TIMEOUT, ask, contents, due_row, finish, put, run_row

ONE = swarm_id("one")


def desired(network: SwarmNetwork, *, running: bool = False) -> DesiredNetwork:
    """A network as a request names it, when the node should carry it."""
    return DesiredNetwork(
        id=network.id,
        name=network.name,
        vnis=network.vnis,
        ingress=network.ingress,
        running=running,
    )


def show_device(database: Database, vni: int, ifindex: int = 7) -> None:
    """Store a device that node `one` has shown."""
    with database.write() as session:
        session.add(
            Device(
                node_id=ONE,
                netns="host",
                ifindex=ifindex,
                name=f"vx-{vni:06x}-shopz",
                vni=vni,
                port=4789,
                verdict=Verdict.SETTLING,
                reason="reason",
                evidence="what",
                first_seen_at=START,
                judged_at=START,
                verdict_at=START,
            )
        )


def test_nothing_is_sent_before_the_swarm_was_read(
    database: Database, sender: Dispatcher, client: redis.Redis
) -> None:
    assert sender.step() == 0
    assert client.keys() == []


def test_after_a_rotation_the_succession_of_keys_goes_beside_each_request(
    database: Database, sender: Dispatcher, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(database, snapshot("one"))
    monkeypatch.setattr(Keyring, "succession", "the former vouches for this one")
    sender.step()
    (message,) = raw_messages(client, "one")
    (arguments, _, _) = json.loads(base64.b64decode(message["body"]))
    assert arguments[1:] == ["the former vouches for this one"]


def test_each_due_node_gets_its_request_on_its_own_queue(
    database: Database, sender: Dispatcher, client: redis.Redis
) -> None:
    put(database, snapshot(tasks=[task("t1", "one", "shop")], port=4790))

    assert sender.step() == 0

    (request,) = requests(client)
    assert request == ReconcileRequest(
        run_id=request.run_id,
        node_id=ONE,
        generation=2,
        issued_at=START,
        deadline=START + TIMEOUT + CLOCKS_MAY_DIFFER,
        mode=Mode.ENFORCE,
        data_path_port=4790,
        desired=request.desired,
        known=(),
        acknowledged=None,
        fence=0,
        next_within=queue.MAX_BACKOFF.total_seconds() + TIMEOUT.total_seconds(),
        max_removals=DEFAULTS.node_removals,
        reading=SwarmReading(),
        controller_keys=(),
    )
    assert set(request.desired) == {desired(INGRESS), desired(SHOP, running=True)}
    assert due_row(database).run_id == request.run_id
    assert run_row(database, request.run_id).state is RunState.RUNNING
    (other,) = requests(client, "two")
    assert (other.node_id, other.desired) == (swarm_id("two"), (desired(INGRESS),))


@pytest.mark.parametrize("seconds", [0, 60, 120, 299])
def test_no_request_is_dated_before_an_earlier_one_though_the_clock_was_set_back(
    database: Database, sender: Dispatcher, client: redis.Redis, clock: Clock, seconds: int
) -> None:
    """Else workers refuse all, a pause's among them, until the clock is where it was."""
    put(database, snapshot("one"))
    sender.step()
    clock.advance(-seconds)
    for _ in range(2):
        with database.write() as session:
            run_id = due_row(database).run_id
            assert run_id is not None
            finish(session, run_id, RunState.SUCCEEDED, now=clock.now, resync=RESYNC)
        ask(database, at=clock.now, priority=Priority.MANUAL)
        sender.notify()
        sender.step()
    issued = [request.issued_at for request in requests(client)]
    assert issued == sorted({*issued})
    assert len(issued) == 3
    assert issued[-1] - issued[0] < timedelta(seconds=1)


def test_a_clock_that_was_an_hour_ahead_is_followed_back(
    database: Database, sender: Dispatcher, client: redis.Redis, clock: Clock
) -> None:
    put(database, snapshot("one", "two"))
    clock.advance(3600)
    sender.step()
    with database.write() as session:
        run_id = due_row(database).run_id
        assert run_id is not None
        finish(session, run_id, RunState.SUCCEEDED, now=clock.now, resync=RESYNC)
    clock.advance(-3600)
    ask(database, at=clock.now, priority=Priority.MANUAL)
    sender.notify()
    sender.step()
    assert requests(client)[-1].issued_at == clock.now


def test_the_message_is_the_workers_task_and_expires_with_the_run(
    database: Database, sender: Dispatcher, client: redis.Redis
) -> None:
    put(database)
    sender.step()
    (message,) = raw_messages(client, "one")
    assert message["headers"]["task"] == "worker.reconcile"
    assert message["headers"]["expires"] == (START + TIMEOUT + CLOCKS_MAY_DIFFER).isoformat()
    assert message["content-type"] == "application/json"


def test_what_nobody_takes_is_dropped_by_the_broker(
    database: Database, sender: Dispatcher, client: redis.Redis
) -> None:
    put(database)
    sender.step()
    ttl = client.ttl(f"node.{ONE}")
    assert 0 < ttl <= NODE_QUEUE_EXPIRES


def test_the_lane_for_bulk_leaves_what_is_urgent_to_the_other(
    database: Database, sender: Dispatcher, client: redis.Redis
) -> None:
    put(database)
    ask(database, priority=Priority.MANUAL)
    sender.step(BULK)
    assert [client.llen(f"node.{swarm_id(each)}") for each in ("one", "two")] == [0, 1]


def test_after_a_full_batch_nobody_asks_whether_there_is_more(
    database: Database, sender: Dispatcher, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.runs.dispatch._BATCH", 1)
    asked: list[int] = []
    put(database)
    sender.step()
    with monkeypatch.context() as patch:
        patch.setattr(queue, "next_time", lambda *_, **__: pytest.fail("it asked"))
        sender.wait()
        sender.step()
        sender.wait()
        sender.step()
        patch.setattr(queue, "next_time", lambda *_, **__: asked.append(1))
        sender.step()
    assert asked, "what is due next is asked again once nothing was left"
    assert [client.llen(f"node.{swarm_id(each)}") for each in ("one", "two")] == [1, 1]


def test_what_a_step_found_is_not_read_again_to_wait(
    database: Database, sender: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(database)
    sender.step()
    sender.step()
    monkeypatch.setattr("controller.runs.dispatch._MAX_WAIT_SECONDS", 0.01)
    monkeypatch.setattr("controller.runs.dispatch._LONE_WAIT_SECONDS", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(queue, "next_time", lambda *_, **__: pytest.fail("it asked again"))
        sender.wait()
    ask(database)
    asked: list[int] = []
    monkeypatch.setattr(queue, "next_time", lambda *_, **__: asked.append(1))
    sender.step()
    assert asked, "another process may have made a node due while it waited"


def test_a_second_step_sends_nothing_more(
    database: Database, sender: Dispatcher, client: redis.Redis
) -> None:
    put(database)
    sender.step()
    sender.step()
    assert len(requests(client)) == 1


def test_what_is_asked_for_meanwhile_waits_for_the_report(
    database: Database, sender: Dispatcher, client: redis.Redis
) -> None:
    put(database)
    sender.step()
    ask(database)
    sender.step()
    (first,) = requests(client)
    with database.write() as session:
        stored.finish(session, first.run_id, RunState.SUCCEEDED, now=START, resync=RESYNC)
    sender.step()
    assert len(requests(client)) == 2


def test_the_mode_is_told(
    database: Database, broker_url: str, clock: Clock, client: redis.Redis
) -> None:
    put(database)
    dispatcher(database, broker_url, clock, Mode.OBSERVE).step()
    assert requests(client)[0].mode is Mode.OBSERVE


@pytest.mark.parametrize(
    ("vnis", "known"),
    [
        pytest.param([], [], id="no device"),
        pytest.param([4098], [MAIL], id="of another network"),
        pytest.param([4098, 4100], [MAIL], id="a network with two devices is named once"),
        pytest.param([4096], [], id="of a network that is desired anyhow"),
        pytest.param([5000], [], id="of no network"),
        pytest.param([4099], [], id="of a network that is gone"),
    ],
)
def test_networks_whose_vnis_a_node_has_shown_are_named(
    database: Database,
    sender: Dispatcher,
    client: redis.Redis,
    vnis: list[int],
    known: list[SwarmNetwork],
) -> None:
    mail = network("mail", 4098, 4100)
    put(database, snapshot(networks=[INGRESS, mail, network("old", 4099)]))
    put(database, snapshot(networks=[INGRESS, mail]))
    for number, vni in enumerate(vnis, start=7):
        show_device(database, vni, number)
    sender.step()
    (request,) = requests(client)
    assert request.desired == (desired(INGRESS),)
    assert [each.id for each in request.known] == [each.id for each in known]
    assert requests(client, "two")[0].known == ()


def test_an_overlong_network_name_does_not_stop_the_request(
    database: Database, sender: Dispatcher, client: redis.Redis
) -> None:
    put(database)
    with database.write() as session:
        session.get_one(Network, INGRESS.id).name = "x" * 1000
    sender.step()
    assert requests(client)[0].desired[0].name == "x" * 255


def test_the_journal_is_acknowledged_up_to_where_it_is_stored(
    database: Database, sender: Dispatcher, client: redis.Redis
) -> None:
    journal: UUID = uuid4()
    put(database)
    with database.write() as session:
        node = session.get_one(Node, ONE)
        node.journal_id, node.journal_through = journal, 17
    sender.step()
    assert requests(client)[0].acknowledged == Acknowledgement(journal_id=journal, through=17)


def test_more_nodes_than_a_batch_are_all_sent(
    database: Database, sender: Dispatcher, client: redis.Redis
) -> None:
    names = [f"n{number}" for number in range(51)]
    put(database, snapshot(*names))
    sender.step()
    sender.step()
    assert [len(requests(client, name)) for name in names] == [1] * 51


def test_a_lost_run_is_closed_and_sent_again_after_its_backoff(
    database: Database, sender: Dispatcher, clock: Clock, client: redis.Redis
) -> None:
    put(database)
    sender.step()
    (first,) = requests(client)
    clock.advance(TIMEOUT.total_seconds() + 1)
    sender.step()
    assert run_row(database, first.run_id).state is RunState.LOST
    clock.advance(1)
    sender.step()
    (second,) = requests(client)
    assert second.run_id == due_row(database).run_id != first.run_id


def take(client: redis.Redis, node: str = "one") -> ReconcileRequest | None:
    """What the worker of a node takes next from its queue."""
    waiting = requests(client, node)
    client.rpop(f"node.{swarm_id(node)}")
    return waiting[0] if waiting else None


def report(database: Database, run_id: UUID, clock: Clock) -> bool:
    """The report of a run that went well comes; whether the run was under way."""
    with database.write() as session:
        return (
            stored.finish(session, run_id, RunState.SUCCEEDED, now=clock.now, resync=RESYNC)
            is not None
        )


@pytest.mark.parametrize("by_hand", [False, True], ids=["by itself", "and requeued by hand"])
def test_a_node_without_a_worker_has_one_message_and_its_worker_gets_one_run(
    database: Database, sender: Dispatcher, clock: Clock, client: redis.Redis, by_hand: bool
) -> None:
    put(database)
    sent = 0
    for number in range(60):
        if by_hand and number % 7 == 3:
            ask(database, priority=Priority.MANUAL, at=clock.now)
        sender.step()
        if due_row(database).run_id is not None:
            sent += 1
        assert client.llen(f"node.{ONE}") <= 1
        clock.advance(TIMEOUT.total_seconds() + 1)
    assert sent > 12

    sender.step()  # Closes what is lost, so that the next is sent at its due time.
    if due_row(database).run_id is None:
        clock.advance(queue.MAX_BACKOFF.total_seconds())
        sender.step()
    taken = take(client)
    assert taken is not None
    assert report(database, taken.run_id, clock)
    assert take(client) is None
    sender.step()
    assert take(client) is None, "and rests until the next resync"
    assert due_row(database).failures == 0


def test_what_may_have_been_sent_is_not_sent_twice(
    database: Database, sender: Dispatcher, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(database)
    with monkeypatch.context() as patch:
        patch.setattr("kombu.transport.redis.PublishBatch.flush", flush_and_lose_the_answer)
        assert sender.step() > 0
    assert client.llen(f"node.{ONE}") == 1, "taken, and nobody knows"
    assert due_row(database).run_id is None
    assert sender.step() == 0
    (request,) = requests(client)
    assert request.run_id == due_row(database).run_id


def flush_and_lose_the_answer(batch: PublishBatch) -> None:
    """The connection breaks after Redis has done what it was asked to."""
    batch.pipeline.execute()
    raise ConnectionError("the connection was lost")


def test_the_urgent_lane_sends_what_is_urgent_and_nothing_else(
    database: Database, sender: Dispatcher, clock: Clock, client: redis.Redis
) -> None:
    put(database)
    assert sender.step(URGENT) == 0
    assert client.llen(f"node.{ONE}") == 0
    ask(database, priority=Priority.MANUAL)
    assert sender.step(URGENT) == 0
    assert [client.llen(f"node.{swarm_id(each)}") for each in ("one", "two")] == [1, 0]
    clock.advance(TIMEOUT.total_seconds() + 1)
    sender.step(URGENT)
    assert due_row(database).run_id is not None, "what is lost is the other lane's to close"


def test_the_fence_is_told(
    database: Database, broker_url: str, clock: Clock, client: redis.Redis
) -> None:
    put(database)
    Dispatcher(
        database,
        celery_app("controller", broker_url),
        keyring(database),
        mode=Mode.ENFORCE,
        run_timeout=TIMEOUT,
        resync=RESYNC,
        fence=lambda: 7,
        utcnow=clock,
    ).step()
    assert requests(client)[0].fence == 7


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that a test may stop."""
    with RedisServer(tmp_path) as server:
        yield server


def test_a_broker_that_is_away_costs_nothing_but_time(
    database: Database, own_redis: RedisServer, clock: Clock
) -> None:
    put(database)
    broker = Health().broker
    sender = dispatcher(database, own_redis.url, clock, broker=broker)
    before = due_row(database)
    own_redis.stop()

    assert sender.step() > 0

    for row in (due_row(database), due_row(database, "two")):
        assert (row.run_id, row.failures, row.due_at) == (None, 0, START)
        assert (row.priority, row.reasons) == (before.priority, before.reasons)
    assert contents(database)["runs"] == [], "there was none: an outage does not fill the history"
    assert broker.observed().condition.status is Status.FALSE

    own_redis.start()
    assert sender.step() == 0
    assert broker.observed().condition.status is Status.TRUE
    with own_redis.client() as client:
        assert len(requests(client)) == len(requests(client, "two")) == 1


def test_what_is_asked_for_while_the_broker_is_away_is_kept(
    database: Database, own_redis: RedisServer, clock: Clock
) -> None:
    put(database)
    sender = dispatcher(database, own_redis.url, clock)
    own_redis.stop()
    sender.step()
    ask(database, priority=Priority.MANUAL, reason="by hand")
    sender.step()
    row = due_row(database)
    assert (row.priority, row.due_at) == (Priority.MANUAL, START)
    assert "by hand" in row.reasons


def test_a_broker_that_forgot_everything_gets_the_next_message_all_the_same(
    database: Database, sender: Dispatcher, redis_server: RedisServer, clock: Clock
) -> None:
    put(database)
    sender.step()
    redis_server.flush()
    clock.advance(TIMEOUT.total_seconds() + 1)
    sender.step()
    clock.advance(1)
    sender.step()
    with redis_server.client() as client:
        assert len(requests(client)) == 1


@pytest.mark.parametrize("priority_class", PRIORITY_CLASSES)
@pytest.mark.parametrize("event", ["the bell", "a due node"])
def test_waiting_ends_by(
    database: Database,
    sender: Dispatcher,
    monkeypatch: pytest.MonkeyPatch,
    event: str,
    priority_class: PriorityClass,
) -> None:
    monkeypatch.setattr("controller.runs.dispatch._MAX_WAIT_SECONDS", 3600.0)
    monkeypatch.setattr("controller.runs.dispatch._LONE_WAIT_SECONDS", 3600.0)
    if event == "a due node":
        put(database)
        ask(database, priority=Priority.DRIFT)
    waiting = threading.Thread(target=sender.wait, args=[priority_class], daemon=True)
    waiting.start()
    if event == "the bell":
        sender.notify()
    waiting.join(60)
    assert not waiting.is_alive()


@pytest.mark.parametrize(
    ("priority", "woken"),
    [(Priority.MANUAL, [URGENT]), (Priority.RETRY, [BULK]), (None, list(PRIORITY_CLASSES))],
)
def test_the_bell_wakes_whom_it_concerns(
    database: Database,
    sender: Dispatcher,
    monkeypatch: pytest.MonkeyPatch,
    priority: Priority | None,
    woken: list[PriorityClass],
) -> None:
    monkeypatch.setattr("controller.runs.dispatch._MAX_WAIT_SECONDS", 3600.0)
    monkeypatch.setattr("controller.runs.dispatch._LONE_WAIT_SECONDS", 3600.0)
    threads = {
        priority_class: threading.Thread(target=sender.wait, args=[priority_class], daemon=True)
        for priority_class in PRIORITY_CLASSES
    }
    for thread in threads.values():
        thread.start()
    sender.notify(priority)
    for priority_class in woken:
        threads[priority_class].join(60)
    assert [
        priority_class
        for priority_class in PRIORITY_CLASSES
        if not threads[priority_class].is_alive()
    ] == woken
    sender.notify()


def test_the_urgent_lane_does_not_look_first_when_it_was_rung(
    database: Database,
    sender: Dispatcher,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(database)
    ask(database, priority=Priority.MANUAL)
    monkeypatch.setattr(queue, "next_time", lambda *_, **__: pytest.fail("it looked"))
    sender.notify(Priority.MANUAL)
    sender.step(URGENT)
    assert [request.run_id for request in requests(client)] == [due_row(database).run_id]


def test_a_second_controller_sends_what_the_first_left(
    database: Database, broker_url: str, clock: Clock, client: redis.Redis
) -> None:
    put(database)
    pair = [dispatcher(database, broker_url, clock) for _ in range(2)]
    threads = [threading.Thread(target=each.step) for each in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    clock.advance(5)
    for each in pair:
        each.step()
    assert len(requests(client)) == len(requests(client, "two")) == 1
