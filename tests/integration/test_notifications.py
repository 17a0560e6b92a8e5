"""Notifications from what happened to who is told: real rows, real receivers, a clock that is advanced."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text, update
from standardwebhooks import Webhook

from contract.verdicts import Stage
from controller.access.store import By
from controller.audit.append import Entry, append
from controller.conditions.model import Condition, Conditions, Reason, Status, Type, dated
from controller.conditions.node import of_node
from controller.conditions.node_facts import NodeFacts
from controller.db.engine import Database
from controller.db.models import Cluster, Node
from controller.db.notification_models import Delivery, NotificationTarget, OpenProblem
from controller.db.states import DeliveryState, TargetKind
from controller.notifications import outbox, targets
from controller.notifications.collect import NoticeCollector
from controller.notifications.deliver import Deliverer
from controller.notifications.events import Event
from controller.notifications.send import Sender
from controller.notifications.targets import New, TargetTakenError
from tests.fake_clock import START, Clock
from tests.fake_swarm import snapshot, swarm_id
from tests.receivers import LOOPBACK, HttpReceiver, Received, http_receiver
from tests.servers import await_true
from tests.stored import put

GOOD = {
    Type.READY: Condition(Status.TRUE, Reason.CONVERGED, "fine"),
    Type.DEGRADED: Condition(Status.FALSE, Reason.NOTHING_WRONG, "fine"),
    Type.STALLED: Condition(Status.FALSE, Reason.PROGRESSING, "fine"),
    Type.PAUSED: Condition(Status.FALSE, Reason.NOT_PAUSED, "fine"),
}
SILENT = GOOD | {
    Type.READY: Condition(Status.UNKNOWN, Reason.WORKER_AWAY, "its worker is away"),
    Type.STALLED: Condition(Status.TRUE, Reason.WORKER_AWAY, "its worker is away: start it"),
}
DOWN = of_node(NodeFacts(seen_at=START, state="down", silent=True))
REJECTING = GOOD | {
    Type.READY: Condition(Status.FALSE, Reason.TASKS_REJECTED, "tasks of shop are rejected"),
    Type.DEGRADED: Condition(Status.TRUE, Reason.TASKS_REJECTED, "tasks of shop are rejected"),
}
UNSEEN = GOOD | {
    Type.READY: Condition(Status.UNKNOWN, Reason.NOT_LOOKED_AT, "not looked at yet"),
    Type.DEGRADED: Condition(Status.UNKNOWN, Reason.NOT_LOOKED_AT, "not looked at yet"),
}
NODES = ("one", "two", "three", "four", "five", "six")


class World:
    """A database with six nodes, its leader's two steps, and what people do."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database, self.clock = database, clock
        put(database, snapshot(*NODES))
        self.conditions: dict[str, Conditions] = dict.fromkeys(NODES, GOOD)
        self.certificates: dict[str, str] = {}
        self.derive()
        self.restart()

    def restart(self) -> None:
        """Begin to lead, remembering nothing."""
        self.collector = NoticeCollector(
            self.database,
            certificates=lambda: self.certificates,
            public_url="https://ops.example",
            docs_url="https://docs.example/vx",
            utcnow=self.clock,
        )
        self.deliverer = Deliverer(self.database, Sender(LOOPBACK, self.clock), utcnow=self.clock)

    def add(self, receiver: HttpReceiver, name: str = "ops", **others: Any) -> str | None:
        """Add a webhook; return its secret."""
        new = New(**{"name": name, "kind": TargetKind.WEBHOOK, "address": receiver.url} | others)
        with self.database.write() as session:
            return targets.add(session, targets.checked(new, LOOPBACK), self.by()).secret

    def by(self) -> By:
        return By("ann", None, self.clock.now)

    def derive(self, **changed: Conditions) -> None:
        """Store conditions of these nodes, and that all hold now."""
        self.conditions |= changed
        with self.database.write() as session:
            for name, conditions in self.conditions.items():
                stored = dated(conditions, {}, self.clock.now)
                session.execute(
                    update(Node).where(Node.id == swarm_id(name)).values(conditions=stored)
                )
            until = self.clock.now + timedelta(seconds=15)
            session.execute(
                update(Cluster).values(conditions_at=self.clock.now, conditions_until=until)
            )

    def remove_orphans(
        self, *names: str, stage: Stage = Stage.VERIFIED, reason: str = "gone"
    ) -> None:
        """Record removals on these nodes."""
        with self.database.write() as session:
            nodes = {node.hostname: node for node in session.scalars(select(Node))}
            entries = [
                Entry(
                    stage=stage, at=self.clock.now, reason=reason, actor="controller",
                    node=nodes[name], evidence="idle since then",
                )
                for name in names
            ]  # fmt: skip
            append(session, entries, self.clock.now)

    def pass_(self, seconds: float) -> None:
        """Let time pass in steps of the leader, with fresh conditions."""
        for _ in range(max(1, round(seconds / 10))):
            self.clock.advance(min(seconds, 10))
            self.derive()
            self.work()

    def later(self, **time: float) -> None:
        """Let time pass at once, with fresh conditions at its end."""
        self.clock.advance(timedelta(**time).total_seconds())
        self.derive()
        self.work()

    def work(self) -> None:
        """Collect, and deliver until nothing is due."""
        while not self.collector.step():
            pass
        self.deliver()

    def deliver(self) -> None:
        end = time.monotonic() + 60
        while self.deliverer.step() < 1:
            assert time.monotonic() < end
            time.sleep(0.02)

    def target(self, name: str = "ops") -> NotificationTarget:
        with self.database.read() as session:
            return session.scalars(
                select(NotificationTarget).where(NotificationTarget.name == name)
            ).one()

    def states(self) -> list[DeliveryState]:
        with self.database.read() as session:
            return list(session.scalars(select(Delivery.state).order_by(Delivery.next_at)))


@pytest.fixture
def world(database: Database, clock: Clock) -> World:
    return World(database, clock)


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as found:
        yield found


def data(received: Sequence[Received]) -> list[dict[str, Any]]:
    return [json.loads(got.body)["data"] for got in received]


def titles(receiver: HttpReceiver) -> list[str]:
    return [row["title"] for row in data(receiver.received)]


def test_a_removal_is_told_once_with_all_that_matters(world: World, receiver: HttpReceiver) -> None:
    world.add(receiver)
    world.work()
    world.remove_orphans("one")
    world.work()
    world.work()
    (got,) = data(receiver.received)
    assert (got["title"], got["state"], got["node"]) == ("Orphan removed", "done", "one")
    assert got["why"] == "gone (idle since then)"
    assert got["link"] == f"https://ops.example/nodes/{swarm_id('one')}"
    assert got["runbook"] == "https://docs.example/vx/notifications.html#orphan-removed"
    assert "where: node one" in got["text"]


def test_what_was_before_the_first_target_is_not_told(world: World, receiver: HttpReceiver) -> None:
    world.remove_orphans("one")
    world.work()
    world.add(receiver)
    world.work()
    assert receiver.received == []


@pytest.mark.parametrize("stage", [Stage.FAILED, Stage.LINGERING])
def test_a_removal_that_went_wrong(world: World, receiver: HttpReceiver, stage: Stage) -> None:
    world.add(receiver)
    world.remove_orphans("two", stage=stage, reason="the kernel said EBUSY")
    world.work()
    (got,) = data(receiver.received)
    assert (got["event"], got["state"]) == ("removal_failed", "problem")
    assert "EBUSY" in got["why"]


def test_a_storm_is_one_summary_each_minute(world: World, receiver: HttpReceiver) -> None:
    world.add(receiver)
    world.remove_orphans("one", "two")
    world.work()
    world.remove_orphans(*(NODES * 7))
    world.work()
    assert titles(receiver) == ["Orphan removed"] * 2
    world.pass_(60)
    assert titles(receiver)[2:] == ["44 removals on 6 nodes in 60 s"]
    # It goes on: no message one by one.
    world.remove_orphans("one")
    world.pass_(60)
    assert titles(receiver)[3:] == ["1 removal on 1 node in 60 s"]
    # It is over after a quiet minute.
    world.pass_(60)
    world.remove_orphans("one")
    world.work()
    assert titles(receiver)[4:] == ["Orphan removed"]


def test_many_nodes_that_are_silent_at_once_are_one_message_and_so_is_their_end(
    world: World, receiver: HttpReceiver
) -> None:
    world.add(receiver)
    world.derive(**dict.fromkeys(NODES, SILENT))
    world.pass_(90)
    world.derive(**dict.fromkeys(NODES, GOOD))
    world.pass_(150)
    begin, over = data(receiver.received)
    assert begin["title"] == "Node silent, 6 times in 60 s"
    assert over["title"] == "Node reports again, 6 times in 60 s"
    assert [row["state"] for row in (begin, over)] == ["problem", "over"]


def test_a_silent_node_is_told_once_and_that_it_is_back(
    world: World, receiver: HttpReceiver
) -> None:
    world.add(receiver)
    world.derive(three=SILENT)
    world.work()
    assert receiver.received == []  # It may pass.
    world.pass_(20)
    world.pass_(300)
    assert titles(receiver) == ["Node silent"]
    assert data(receiver.received)[0]["why"].startswith("its worker is away: start it")
    world.derive(three=GOOD)
    world.pass_(40)
    world.derive(three=SILENT)
    world.pass_(10)
    world.derive(three=GOOD)
    assert len(receiver.received) == 1  # It came back for a moment only.
    world.pass_(90)
    over = data(receiver.received)[1]
    assert (over["title"], over["state"]) == ("Node reports again", "over")
    assert over["why"].startswith("it lasted 6 min")


def test_a_restart_in_which_nothing_is_known_is_no_recovery(
    world: World, receiver: HttpReceiver
) -> None:
    world.add(receiver)
    world.derive(three=SILENT, four=REJECTING)
    world.pass_(90)
    assert sorted(titles(receiver)) == [
        "Node silent", "Tasks are rejected, and nothing was done",
    ]  # fmt: skip
    world.restart()
    world.derive(three=UNSEEN, four=UNSEEN)
    world.pass_(180)
    world.derive(three=SILENT, four=REJECTING)
    world.pass_(90)
    assert len(receiver.received) == 2


def test_conditions_that_nobody_derives_say_nothing(world: World, receiver: HttpReceiver) -> None:
    world.add(receiver)
    world.derive(three=SILENT)
    world.clock.advance(60)
    world.work()
    with world.database.read() as session:
        assert session.scalars(select(OpenProblem)).all() == []


def test_a_rejection_that_is_healed_within_a_minute_calls_nobody(
    world: World, receiver: HttpReceiver
) -> None:
    world.add(receiver)
    world.derive(four=REJECTING)
    world.pass_(40)
    world.derive(four=GOOD)
    world.pass_(120)
    assert receiver.received == []


def test_a_breaker_and_its_reset_are_told_at_once(world: World, receiver: HttpReceiver) -> None:
    world.add(receiver)
    with world.database.write() as session:
        session.execute(
            update(Cluster).values(breaker_tripped_at=world.clock.now, breaker_reason="too many")
        )
    world.work()
    with world.database.write() as session:
        session.execute(update(Cluster).values(breaker_tripped_at=None, breaker_reason=None))
    world.work()
    world.work()
    assert titles(receiver) == [
        "Breaker tripped: nothing is removed", "Breaker reset: orphans are removed again",
    ]  # fmt: skip
    assert "everywhere: too many" in data(receiver.received)[0]["why"]


def test_the_swarm_cannot_be_read_and_a_certificate_ends(
    world: World, receiver: HttpReceiver
) -> None:
    world.add(receiver)
    unknown = Condition(Status.FALSE, Reason.SWARM_UNREADABLE, "the manager does not answer")
    with world.database.write() as session:
        stored = dated({Type.DESIRED_STATE_KNOWN: unknown}, {}, world.clock.now)
        session.execute(update(Cluster).values(conditions=stored))
    world.certificates["/etc/tls.pem"] = "the certificate /etc/tls.pem ends at noon"
    world.work()
    assert titles(receiver) == ["Trouble with a certificate"]
    world.pass_(70)
    assert titles(receiver)[1:] == ["The Swarm cannot be read"]
    del world.certificates["/etc/tls.pem"]
    world.pass_(70)
    assert titles(receiver)[2:] == ["The certificate is fine again"]


def test_a_restart_between_telling_and_sending_loses_nothing_and_sends_nothing_twice(
    world: World, receiver: HttpReceiver
) -> None:
    world.add(receiver)
    world.remove_orphans("one")
    world.collector.step()
    world.restart()  # Before anything was sent: another leads now.
    world.work()
    world.restart()
    world.work()
    assert len(receiver.received) == 1


def test_a_leader_that_dies_with_the_answer_leaves_the_same_id(
    world: World, receiver: HttpReceiver
) -> None:
    """Sent, and not stored as sent: the next leader sends it again, and the receiver can tell."""
    secret = world.add(receiver)
    world.remove_orphans("one")
    world.collector.step()
    world.deliverer.step()
    receiver.wait(1)
    world.restart()
    world.clock.advance(1)
    world.work()
    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert secret is not None
    assert world.states() == [DeliveryState.DELIVERED]


def test_a_leader_that_stops_stores_what_is_on_its_way_and_sends_no_more(
    world: World, receiver: HttpReceiver
) -> None:
    gate = threading.Event()

    def late(handler: Any) -> None:
        gate.wait(30)
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    world.add(receiver)
    world.remove_orphans("one")
    world.collector.step()
    receiver.by_hand = late
    world.deliverer.step()
    receiver.wait(1)
    world.remove_orphans("two")
    world.collector.step()
    world.deliverer.end()
    threading.Timer(0.2, gate.set).start()
    world.deliverer.stop(30)
    world.deliverer.step()
    assert sorted(world.states()) == [DeliveryState.DELIVERED, DeliveryState.PENDING]
    receiver.by_hand = None
    world.restart()
    world.work()
    assert [row["node"] for row in data(receiver.received)] == ["one", "two"]


def test_each_target_has_an_id_of_its_own_and_the_event_one_for_all(
    world: World, receiver: HttpReceiver
) -> None:
    world.add(receiver, "a")
    world.add(receiver, "b")
    world.remove_orphans("one")
    world.work()
    first, second = receiver.received
    assert first.headers["webhook-id"] != second.headers["webhook-id"]
    assert data([first])[0]["id"] == data([second])[0]["id"]


def test_500_for_a_day_is_retried_with_backoff_and_then_given_up(
    world: World, receiver: HttpReceiver
) -> None:
    receiver.status, receiver.text = 500, "down\x1b[31m"
    world.add(receiver)
    world.remove_orphans("one")
    world.work()
    for _ in range(52):
        world.clock.advance(1800)
        world.work()
    attempts = len(receiver.received)
    assert 20 < attempts < 40
    assert len({got.headers["webhook-id"] for got in receiver.received}) == 1
    target = world.target()
    assert (target.given_up, target.failing_since) == (1, START)
    assert target.error == "it answered 500: down\\x1b[31m"
    assert world.states() == [DeliveryState.GIVEN_UP]
    world.clock.advance(7200)
    world.work()
    assert len(receiver.received) == attempts
    # The next one is tried, and taken.
    receiver.status = 200
    world.remove_orphans("two")
    world.work()
    assert world.target().failing_since is None
    assert world.target().given_up == 1


def test_a_target_that_hangs_delays_no_other(world: World, receiver: HttpReceiver) -> None:
    gate = threading.Event()

    def late(handler: Any) -> None:
        gate.wait(90)
        handler.wfile.write(b"HTTP/1.1 503 no\r\nContent-Length: 0\r\n\r\n")

    with http_receiver() as stuck:
        stuck.by_hand = late
        world.add(stuck, "stuck")
        world.add(receiver, "works")
        world.remove_orphans("one")
        world.collector.step()
        assert world.deliverer.step() < 1
        receiver.wait(1)
        world.remove_orphans("two")
        world.collector.step()
        end = time.monotonic() + 60
        while len(receiver.received) < 2:
            world.deliverer.step()
            assert time.monotonic() < end
        stuck.wait(1)
        assert world.target("stuck").error is None
        gate.set()
        world.deliver()
        assert len(stuck.received) == 1
    assert world.target("stuck").error == "it answered 503"
    assert world.target("works").failing_since is None


def test_what_a_database_does_not_take_is_not_sent_again_and_again(
    world: World, receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add(receiver)
    world.remove_orphans("one")
    world.collector.step()

    def full(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(outbox, "record", full)
        world.deliverer.step()
        receiver.wait(1)
        with pytest.raises(OSError, match="disk full"):
            world.deliver()
        for _ in range(5):
            with pytest.raises(OSError, match="disk full"):
                world.deliverer.step()
    world.work()
    assert len(receiver.received) == 1
    assert world.states() == [DeliveryState.DELIVERED]


def test_a_rotation_signs_by_both_secrets_for_a_day(world: World, receiver: HttpReceiver) -> None:
    former = world.add(receiver)
    with world.database.write() as session:
        new = targets.rotate(session, "ops", world.by()).secret
    assert former is not None
    assert new is not None
    assert former != new

    def signatures() -> int:
        world.remove_orphans("one")
        world.work()
        return len(receiver.received[-1].headers["webhook-signature"].split(" "))

    assert signatures() == 2
    world.clock.advance(86_401)
    world.derive()
    assert signatures() == 1
    got = receiver.received[-1].headers
    at = world.clock.now
    signed = Webhook(new).sign(got["webhook-id"], at, receiver.received[-1].body.decode())
    assert got["webhook-signature"] == signed


def test_a_muted_target_hears_at_the_end_what_is_still_wrong(
    world: World, receiver: HttpReceiver
) -> None:
    world.add(receiver)
    with world.database.write() as session:
        until = world.clock.now + timedelta(seconds=600)
        targets.mute(session, "ops", world.by(), until=until, reason="maintenance")
    world.remove_orphans("one")
    world.derive(three=SILENT, four=SILENT)
    world.pass_(60)
    world.derive(four=GOOD)
    world.pass_(120)
    assert receiver.received == []
    world.pass_(500)
    assert [(row["title"], row["node"]) for row in data(receiver.received)] == [
        ("Node silent", "three")
    ]


def test_of_a_problem_told_before_a_mute_the_end_is_told_after_it(
    world: World, receiver: HttpReceiver
) -> None:
    world.add(receiver)
    world.derive(three=SILENT)
    world.pass_(30)
    with world.database.write() as session:
        until = world.clock.now + timedelta(seconds=600)
        targets.mute(session, "ops", world.by(), until=until, reason=None)
    world.derive(three=GOOD)
    world.pass_(120)
    assert titles(receiver) == ["Node silent"]
    with world.database.write() as session:
        targets.unmute(session, "ops", world.by())
    world.work()
    assert titles(receiver) == ["Node silent", "Node reports again"]


def test_what_lasts_is_told_again_and_can_be_told_as_the_same(
    world: World, receiver: HttpReceiver
) -> None:
    world.add(receiver, remind_seconds=14_400.0)
    world.derive(three=SILENT)
    world.pass_(30)
    world.later(hours=3.9)
    assert titles(receiver) == ["Node silent"]
    world.restart()  # Another leads now.
    world.later(hours=0.2)
    world.restart()
    world.later(hours=0.2)
    world.later(hours=4)
    assert titles(receiver)[1:] == [
        "Reminder after 4 h: Node silent",
        "Reminder after 8 h: Node silent",
    ]
    world.derive(three=GOOD)
    world.pass_(90)
    world.later(hours=9)
    first, *again, over = data(receiver.received)
    assert [row["reminder"] for row in (first, *again, over)] == [False, True, True, False]
    assert len({row["problem"] for row in (first, *again, over)}) == 1
    assert first["problem"] != ""
    assert {row["since"] for row in (first, *again, over)} == {"2030-01-01T12:00:10Z"}
    assert over["why"].startswith("it lasted 8 h; it was: ")
    # Each is a delivery of its own: its receiver must not take it for one that came twice.
    assert len({got.headers["webhook-id"] for got in receiver.received}) == 4
    # The next time is another problem.
    world.derive(three=SILENT)
    world.pass_(30)
    assert data(receiver.received)[-1]["problem"] != first["problem"]


def test_reminders_come_once_a_day_or_never(world: World, receiver: HttpReceiver) -> None:
    with http_receiver() as quiet:
        world.add(receiver)
        world.add(quiet, "quiet", remind_seconds=0.0)
        world.derive(three=SILENT)
        world.pass_(30)
        for _ in range(50):
            world.later(hours=1)
        assert titles(receiver) == [
            "Node silent",
            "Reminder after 24 h: Node silent",
            "Reminder after 2 days: Node silent",
        ]
        assert titles(quiet) == ["Node silent"]


def test_many_that_last_make_one_reminder_whenever_they_began(
    world: World, receiver: HttpReceiver
) -> None:
    world.add(receiver, remind_seconds=3600.0)
    for at, name in enumerate(NODES):
        if at == 4:
            world.later(minutes=20)
        world.derive(**{name: SILENT})
        world.pass_(20)
    world.pass_(120)
    before = len(receiver.received)
    world.later(minutes=36)  # An hour after the first, and half an hour after the last.
    world.pass_(300)
    (reminder,) = data(receiver.received)[before:]
    assert reminder["title"] == "Reminder: Node silent, 6 times"
    assert (reminder["count"], reminder["reminder"], reminder["problem"]) == (6, True, "")
    assert "nodes one, two, three, four, five and 1 more" in reminder["text"]


def test_who_is_muted_is_reminded_of_nothing_and_afterwards_once(
    world: World, receiver: HttpReceiver
) -> None:
    world.add(receiver, remind_seconds=3600.0)
    world.derive(three=SILENT)
    world.pass_(30)
    with world.database.write() as session:
        until = world.clock.now + timedelta(hours=5)
        targets.mute(session, "ops", world.by(), until=until, reason="maintenance")
    for _ in range(4):
        world.later(hours=1)
    world.derive(four=SILENT)
    world.pass_(30)
    assert titles(receiver) == ["Node silent"]
    world.later(hours=1)
    world.pass_(60)
    # What began meanwhile is told now; the other again an hour later, with it.
    assert [row["node"] for row in data(receiver.received)] == ["three", "four"]
    world.later(hours=1)
    assert titles(receiver)[2:] == [
        "Reminder after 6 h: Node silent",
        "Reminder after 2 h: Node silent",
    ]


def test_what_is_not_known_to_last_is_no_reminder(world: World, receiver: HttpReceiver) -> None:
    world.add(receiver, remind_seconds=3600.0)
    world.derive(three=SILENT)
    world.pass_(30)
    world.derive(three=UNSEEN)
    world.later(hours=2)
    world.clock.advance(7200)  # Nobody derives conditions.
    world.work()
    assert titles(receiver) == ["Node silent"]


def test_a_target_that_fails_is_told_on_the_others_once_and_gets_no_heap_of_reminders(
    world: World, receiver: HttpReceiver
) -> None:
    with http_receiver() as broken:
        broken.status, broken.text = 500, "down"
        world.add(receiver)
        world.add(broken, "broken", remind_seconds=600.0)
        world.derive(three=SILENT)
        world.pass_(300)
        assert titles(receiver) == ["Node silent"]  # It may pass.
        for _ in range(10):
            world.later(minutes=10)
        (failing,) = data(receiver.received)[1:]
        assert (failing["event"], failing["title"]) == (
            "target_fails",
            "Notifications are not taken",
        )
        assert failing["why"].startswith(
            f"notification target broken (webhook, http://127.0.0.1:{broken.port}/***) takes nothing: "
            "it answered 500: down; `vxctl notify test broken` shows"
        )
        assert world.states().count(DeliveryState.PENDING) == 1
        broken.status = 200
        before = len(broken.received)
        world.later(minutes=70)
        world.pass_(90)
        # It is told what waited, once: neither that it failed itself, nor a reminder right behind that.
        assert [row["title"] for row in data(broken.received[before:])] == ["Node silent"]
        assert titles(receiver)[2:] == [
            "Notifications are taken again, or their target was removed"
        ]


def test_a_node_that_dies_is_told_once_whoever_notices_it_first(
    world: World, receiver: HttpReceiver
) -> None:
    """The Swarm and the silence of its worker show it within seconds of each other."""
    world.add(receiver)
    world.derive(three=DOWN, four=SILENT)
    world.pass_(10)
    world.derive(three=SILENT, four=DOWN)
    world.pass_(60)
    world.derive(three=DOWN)
    world.pass_(60)
    assert titles(receiver) == ["Node silent"] * 2
    world.derive(three=GOOD)
    with world.database.write() as session:
        session.execute(
            update(Node).where(Node.id == swarm_id("four")).values(gone_at=world.clock.now)
        )
    world.pass_(90)
    assert sorted(titles(receiver)[2:]) == [
        "Node reports again", "Node silent: over, the node left the Swarm",
    ]  # fmt: skip


def test_a_node_that_joined_again_calls_nobody_for_its_former_id(
    world: World, receiver: HttpReceiver
) -> None:
    world.add(receiver)
    world.derive(three=of_node(NodeFacts(seen_at=START, state="down", joined_again_as="abc")))
    world.pass_(60)
    assert receiver.received == []


def test_two_first_targets_at_once(
    postgresql: Database, clock: Clock, receiver: HttpReceiver
) -> None:
    """The one waits for the other, and takes it for what it is; so does one of the same name."""
    put(postgresql)
    failed: list[Exception] = []

    def add(name: str) -> None:
        try:
            with postgresql.write() as session:
                new = New(name, TargetKind.WEBHOOK, receiver.url)
                targets.add(session, new, By("ann", None, clock.now))
        except TargetTakenError as error:
            failed.append(error)

    others = [threading.Thread(target=add, args=(name,), daemon=True) for name in ("ops", "night")]
    with postgresql.write() as session:
        new = New("ops", TargetKind.WEBHOOK, receiver.url)
        targets.add(session, new, By("bob", None, clock.now))
        for other in others:
            other.start()
        await_true(lambda: waiting_for_locks(postgresql) == 2, "both wait")
    for other in others:
        other.join(30)
    assert [str(error) for error in failed] == ["there is a target 'ops' already"]
    with postgresql.read() as session:
        assert [row.name for row in targets.listed(session)] == ["night", "ops"]


def waiting_for_locks(database: Database) -> int:
    waiting = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with database.read() as session:
        return int(session.scalar(text(waiting)) or 0)


def test_a_target_hears_the_events_that_it_was_added_for(
    world: World, receiver: HttpReceiver
) -> None:
    world.add(receiver, events=[Event.NODE_SILENT])
    world.remove_orphans("one")
    world.derive(three=SILENT)
    world.pass_(30)
    assert titles(receiver) == ["Node silent"]


def test_a_heartbeat_beats_while_conditions_are_derived(
    world: World, receiver: HttpReceiver
) -> None:
    world.add(receiver, kind=TargetKind.HEARTBEAT, every_seconds=30.0)
    world.work()
    world.work()
    assert len(receiver.received) == 1
    assert receiver.received[0].body == b""
    world.pass_(60)
    assert len(receiver.received) == 3
    world.clock.advance(60)  # Nobody derives them now.
    world.work()
    assert len(receiver.received) == 3


def test_hostile_names_are_one_printable_line(world: World, receiver: HttpReceiver) -> None:
    evil = "x\r\nSubject: y\x1b[31m\u202e<!channel> @here `"
    with world.database.write() as session:
        session.execute(update(Node).where(Node.id == swarm_id("one")).values(hostname=evil))
    world.add(receiver)
    world.add(receiver, "chat", kind=TargetKind.SLACK)
    world.remove_orphans(evil)
    world.work()
    by_hook = next(got for got in receiver.received if "webhook-id" in got.headers)
    chat = next(got for got in receiver.received if "webhook-id" not in got.headers)
    (got,) = data([by_hook])
    assert got["node"].isprintable()
    assert got["where"].startswith("node x\\r\\nSubject: y\\x1b[31m\\u202e")
    text = json.loads(chat.body)["text"]
    assert "<!channel>" not in text
    assert "@here" not in text
    assert text.count("`") == 6  # Those of the block alone.


def test_done_deliveries_are_deleted_after_a_week_and_too_many_are_given_up(
    world: World, receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add(receiver)
    world.remove_orphans("one")
    world.work()
    world.clock.advance(8 * 86_400)
    world.derive()
    world.work()
    assert world.states() == []
    receiver.status = 500
    monkeypatch.setattr(outbox, "MAX_WAITING", 1)
    world.remove_orphans("one", "two", "three")
    world.work()
    world.clock.advance(61)
    world.work()
    assert world.states().count(DeliveryState.GIVEN_UP) == 2
    assert world.target().given_up == 2


def test_what_was_while_there_were_no_targets_is_not_told(
    world: World, receiver: HttpReceiver
) -> None:
    world.add(receiver)
    world.work()
    with world.database.write() as session:
        targets.remove(session, "ops", world.by())
    world.collector.step()
    world.remove_orphans("one")
    world.collector.step()
    world.add(receiver)
    world.work()
    assert receiver.received == []
    world.remove_orphans("two")
    world.work()
    assert [row["node"] for row in data(receiver.received)] == ["two"]


def test_a_restored_database_tells_nothing_again(world: World, receiver: HttpReceiver) -> None:
    world.add(receiver)
    world.remove_orphans("one")
    world.work()
    world.collector._read_to = 10_000  # As if it had seen rows that are not there now.
    world.remove_orphans("two")
    world.work()
    assert len(receiver.received) == 1
    world.remove_orphans("three")
    world.work()
    assert [row["node"] for row in data(receiver.received)] == ["one", "three"]
