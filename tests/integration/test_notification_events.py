"""Each event that people are told of, from where it comes from to a receiver: nothing between is made up."""

import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from contract.runtime.refusals import Refusals
from contract.signing.refusals import Reason as RefusalReason
from contract.signing.refusals import RefusedError
from contract.verdicts import Mode, Outcome, Stage, Verdict
from controller.access.store import By
from controller.conditions.model import Condition, Reason, Status
from controller.conditions.node_facts import Sign
from controller.conditions.store import ConditionStore
from controller.db.engine import Database
from controller.db.models import Cluster, DueNode, Rejection
from controller.db.states import TargetKind
from controller.notifications import targets
from controller.notifications.collect import NoticeCollector
from controller.notifications.deliver import Deliverer
from controller.notifications.events import Event
from controller.notifications.send import Sender
from controller.notifications.targets import New
from controller.process.certificates import Certificates
from controller.runs.reports import ReportIntake
from controller.safety.breaker import BreakerLimits
from tests.certificates import make
from tests.fake_clock import START, Clock
from tests.fake_swarm import node, snapshot, swarm_id, task
from tests.integration.test_notifications import data
from tests.receivers import LOOPBACK, HttpReceiver, http_receiver
from tests.reports import believed, device, entry, report
from tests.servers import await_true
from tests.stored import RESYNC, claim, put

NODES = ("one", "two", "three")
HOST = socket.gethostname()


class World:
    """A leader's steps, from the report of a worker to the message that leaves."""

    def __init__(self, database: Database, clock: Clock, folder: Path) -> None:
        self.database, self.clock, self.folder = database, clock, folder
        put(database, snapshot(*NODES, tasks=[task("t1", "one", "shop")]))
        self.signs: dict[str, Sign] = {}
        self.broker: Condition | None = None
        self.refusals = Refusals()
        self.mode = Mode.ENFORCE
        self.intake = ReportIntake(
            database,
            resync=RESYNC,
            limits=BreakerLimits(
                window=timedelta(seconds=100), node_removals=4, max_nodes_share=0.3, min_nodes=1
            ),
            notify=lambda *_: None,
            utcnow=clock,
        )
        self.certificate = folder / "listen.crt"
        self.collector: NoticeCollector | None = None
        self.deliverer = Deliverer(database, Sender(LOOPBACK, clock), utcnow=clock)
        for name in NODES:
            self.look(name)

    def add(self, receiver: HttpReceiver, name: str = "ops") -> None:
        with self.database.write() as session:
            new = New(name, TargetKind.WEBHOOK, receiver.url)
            targets.add(session, new, By("ann", None, self.clock.now))

    def look(
        self, name: str, *devices: Any, outcome: Outcome = Outcome.DONE, **others: Any
    ) -> None:
        """Let a node's worker answer a request."""
        with self.database.write() as session:
            session.execute(update(DueNode).values(due_at=None))
            due = session.get_one(DueNode, swarm_id(name))
            due.due_at, due.run_id = self.clock.now, None
        run = claim(self.database, now=self.clock.now)[swarm_id(name)].run_id
        said = report(run, node=name, devices=devices, outcome=outcome, **others)
        self.intake.reports([believed(said)])

    def pass_(self, seconds: int = 90) -> None:
        """Let time pass, while workers give signs of life, but for those that do not."""
        if self.collector is None:
            self.conditions = ConditionStore(
                self.database, mode=self.mode, resync=RESYNC, utcnow=self.clock,
                broker=lambda: self.broker, sign_of=self.signs.get, refusals=self.refusals,
            )  # fmt: skip
            self.collector = NoticeCollector(
                self.database, certificates=Certificates({"listen_cert": str(self.certificate)}, self.clock),
                public_url="https://ops.example", utcnow=self.clock,
            )  # fmt: skip
        for _ in range(seconds // 15):
            self.conditions.step()
            while not self.collector.step():
                pass
            await_true(lambda: self.deliverer.step() >= 1, "all is delivered")
            self.clock.advance(15)

    def of_cluster(self, **values: Any) -> None:
        with self.database.write() as session:
            session.execute(update(Cluster).values(**values))


def removed(world: World) -> None:
    world.look("one", entries=[entry(1, stage=Stage.VERIFIED, at=world.clock.now)])


def removal_failed(world: World) -> None:
    world.look("one", entries=[entry(1, stage=Stage.FAILED, at=world.clock.now)])


def removal_lingers(world: World) -> None:
    world.look("one", entries=[entry(1, stage=Stage.LINGERING, at=world.clock.now)])


def observed(world: World) -> None:
    world.mode = Mode.OBSERVE
    world.look("one", device(7, Verdict.ORPHAN))


def held_by_another(world: World) -> None:
    world.look("one", device(7, Verdict.CONFLICT))


def rejected(world: World) -> None:
    with world.database.write() as session:
        session.add(
            Rejection(
                task_id=swarm_id("t1"), node_id=swarm_id("one"), network_id=swarm_id("shop"), vni=4097,
                at=world.clock.now, seen_at=world.clock.now, error="file exists",
            )
        )  # fmt: skip


def silent(world: World) -> None:
    at = world.clock.now - timedelta(seconds=30)
    world.signs[swarm_id("two")] = Sign(
        at, world.clock.now, timedelta(0), 2.5, ended=False, serves=swarm_id("two")
    )


def never_seen(world: World) -> None:
    put(world.database, snapshot(*NODES, "four"))


def down(world: World) -> None:
    put(world.database, snapshot("one", node("two", state="down"), "three"))


def runs_fail(world: World) -> None:
    for _ in range(3):
        world.look("one", outcome=Outcome.FAILED, error="no capability NET_ADMIN")


def clock_differs(world: World) -> None:
    for _ in range(3):
        world.look("one", outcome=Outcome.REFUSED, error="the request is 400 s old")


def node_breaker(world: World) -> None:
    world.look("one", *(device(number, Verdict.ORPHAN, removed=True) for number in range(1, 6)))


def cluster_breaker(world: World) -> None:
    for name in NODES[:2]:
        world.look(name, device(1, Verdict.ORPHAN, removed=True))


def swarm_unreadable(world: World) -> None:
    world.of_cluster(sync_error="10.0.0.1:2377 does not answer")


def no_broker(world: World) -> None:
    world.broker = Condition(Status.FALSE, Reason.BROKER_UNREACHABLE, "no answer from redis:6379")


def refused(world: World) -> None:
    world.refusals.add(RefusedError(RefusalReason.UNKNOWN_KEY, "nobody vouches", kid="0" * 16))
    newest = world.refusals.newest
    assert newest is not None
    world.refusals._newest = newest._replace(at=world.clock.now + timedelta(minutes=1))


def certificate(world: World, ends: datetime) -> None:
    days = (ends - datetime.now(UTC)).days + 1
    make(world.folder, "listen", algorithm="ec", days=max(days, 1))


def certificate_ends_soon(world: World) -> None:
    certificate(world, START + timedelta(days=5))


def certificate_has_ended(world: World) -> None:
    certificate(world, START - timedelta(days=5))


def target_fails(world: World) -> None:
    pass  # That is in the test: it takes a second receiver.


TOLD: list[tuple[Callable[[World], None], Event, str, str]] = [
    (removed, Event.ORPHAN_REMOVED, "node one, device vx-001001-shopz in host", "reason (what)"),
    (removal_failed, Event.REMOVAL_FAILED, "node one", "reason (what)"),
    (removal_lingers, Event.REMOVAL_FAILED, "node one", "reason (what)"),
    (observed, Event.TASKS_REJECTED, "node one", "(`vxctl mode enforce --cluster` ends it)"),
    (held_by_another, Event.TASKS_REJECTED, "node one", "move that software to another VNI"),
    (rejected, Event.TASKS_REJECTED, "node one", "tasks of network shop are rejected here"),
    (silent, Event.NODE_SILENT, "node two", "its worker gives no sign of life"),
    (never_seen, Event.NODE_SILENT, "node four", "no worker has ever reported from this node"),
    (down, Event.NODE_SILENT, "node two", "the Swarm reports the node as down: start it"),
    (runs_fail, Event.NODE_STALLED, "node one", "no capability NET_ADMIN"),
    (clock_differs, Event.CLOCK, "node one", "compare the clocks of node and controller"),
    (node_breaker, Event.BREAKER_TRIPPED, "node one", "on this node: "),
    (cluster_breaker, Event.BREAKER_TRIPPED, "the cluster", "everywhere: "),
    (swarm_unreadable, Event.DESIRED_STATE_UNKNOWN, "the cluster", "10.0.0.1:2377 does not answer"),
    (no_broker, Event.BROKER_UNREACHABLE, "the cluster", "no answer from redis:6379"),
    (refused, Event.MESSAGES_REFUSED, "the cluster", "naming the key 0000000000000000"),
    (certificate_ends_soon, Event.CERTIFICATE, "the controller that leads", f"on {HOST} (VXLAN_"),
    (certificate_has_ended, Event.CERTIFICATE, "the controller that leads", "has ended at 20"),
    (target_fails, Event.TARGET_FAILS, "the notifications", "`vxctl notify test broken` shows"),
]


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as found:
        yield found


@pytest.fixture
def world(sqlite: Database, clock: Clock, tmp_path: Path) -> World:
    world = World(sqlite, clock, tmp_path)
    certificate(world, START + timedelta(days=400))
    return world


def test_every_event_is_in_the_table() -> None:
    assert {event for _, event, *_ in TOLD} == {*Event}


@pytest.mark.parametrize(
    ("cause", "event", "where", "why"), TOLD, ids=[row[0].__name__ for row in TOLD]
)
def test_each_event_leaves_to_a_receiver(
    world: World,
    receiver: HttpReceiver,
    cause: Callable[[World], None],
    event: Event,
    where: str,
    why: str,
) -> None:
    world.add(receiver)
    cause(world)
    with http_receiver() as broken:
        if event is Event.TARGET_FAILS:
            broken.status = 500
            world.add(broken, "broken")
            removed(world)
            for _ in range(6):
                world.pass_(60)
                world.of_cluster(synced_at=world.clock.now)
                for name in NODES:
                    world.look(name)
        world.pass_(120)
    (told,) = [row for row in data(receiver.received) if row["event"] == event]
    others = {row["event"] for row in data(receiver.received)} - {event}
    assert others <= {Event.ORPHAN_REMOVED}, "the cause makes that event, and no other trouble"
    assert told["where"].startswith(where)
    assert why in told["why"]
    assert told["link"].startswith("https://ops.example/")
    assert told["todo"]


def test_when_all_is_well_nobody_is_called(world: World, receiver: HttpReceiver) -> None:
    world.add(receiver)
    world.pass_(120)
    assert receiver.received == []
