"""What proves a device dead, on its way through the controller: from the Swarm to a worker's request."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from contract.messages import ReconcileRequest, Stamp
from contract.verdicts import Mode, Proof, Verdict
from controller.api.answers.explain import ExplanationAnswer
from controller.conditions.store import ConditionStore
from controller.db.engine import Database
from controller.db.models import Device, Node, Rejection
from controller.runs import requests
from controller.runs.hints import HintIntake
from controller.runs.reports import ReportIntake
from controller.runs.requests import Terms
from controller.safety.breaker import BreakerLimits
from controller.swarm.events import Hint, Hints
from controller.swarm.readings import Readings
from controller.swarm.rejections import Rejections
from controller.swarm.sync import Sync
from controller.views.explain import explain
from controller.views.outlook import Situation
from controller.workqueue.retention import REJECTION_COUNTS, RunRetention
from tests.fake_clock import START, Clock
from tests.fake_swarm import (
    INGRESS,
    MAIL,
    SHOP,
    FakeSwarm,
    Snapshot,
    node,
    snapshot,
    swarm_id,
    task,
)
from tests.reports import believed, device, drift, entry, report
from tests.signed import keyring
from tests.stored import RESYNC, ask, claim, due_row

FAULT = 'subnet sandbox join failed for "10.0.1.0/24": error creating vxlan interface: file exists'
SESSION = UUID(int=7)
LATER = START + timedelta(seconds=5)


class Whole:
    """A controller's parts that have to do with proof, over a Swarm that a test changes at will."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database, self.clock = database, clock
        self.swarm = FakeSwarm(snapshot(tasks=[running()]))
        self.hints = Hints()
        self.readings = Readings(self.hints, clock.monotonic)
        self.sync = Sync(
            self.swarm, database, hints=self.hints, readings=self.readings, notify=lambda *_: None,
            period=2.0, resync=60.0, share=0.1, utcnow=clock, monotonic=clock.monotonic,
        )  # fmt: skip
        self.intake = ReportIntake(
            database, resync=RESYNC, readings=self.readings, notify=lambda *_: None, utcnow=clock
        )
        self.drift = HintIntake(
            database, readings=self.readings, notify=lambda *_: None, utcnow=clock
        ).drift
        self.open: UUID | None = None
        self.read()

    def read(self, *tasks: object, answer: Snapshot | None = None) -> None:
        """Let everything be read."""
        if tasks or answer:
            self.swarm.answer = answer or snapshot(tasks=tasks)  # type: ignore[arg-type]
        self.clock.advance(2.0)
        self.hints.add(Hint(everything=True))
        assert self.sync.step()

    def request(self) -> ReconcileRequest:
        """What node `one` is asked now; what it was asked before is answered by then."""
        if self.open is not None:
            self.intake.reports([believed(report(self.open))])
        ask(self.database, "one", at=self.clock())
        terms = Terms(
            mode=Mode.ENFORCE, limits=BreakerLimits(), fence=lambda: 1, reading=self.readings.newest,
            next_within=RESYNC, keys=keyring(self.database),
        )  # fmt: skip
        claims = claim(self.database, now=self.clock())
        with self.database.write() as session:
            (request,) = requests.build(
                session, [claims[swarm_id("one")]], terms, now := self.clock(), issued_at=now
            )
        self.open = request.run_id
        return request

    def answer(self, **told: object) -> None:
        """Let its worker answer."""
        run_id = self.request().run_id
        self.open = None
        self.intake.reports([believed(report(run_id, **told))])  # type: ignore[arg-type]

    def rejections(self) -> list[Rejection]:
        """What is kept."""
        with self.database.read() as session:
            return list(session.scalars(select(Rejection).order_by(Rejection.task_id)))

    def ready(self) -> tuple[str, str, str]:
        """Status, reason and message of node `one`'s condition Ready."""
        ConditionStore(self.database, mode=Mode.ENFORCE, resync=RESYNC, utcnow=self.clock).step()
        with self.database.read() as session:
            ready = session.get_one(Node, swarm_id("one")).conditions["Ready"]
        return ready["status"], ready["reason"], ready["message"]

    def explained(self, line: str = FAULT, mode: Mode = Mode.ENFORCE) -> ExplanationAnswer:
        """What a line means."""
        situation = Situation(self.clock(), mode, timedelta(minutes=3))
        with self.database.read() as session:
            return ExplanationAnswer.of(explain(session, line, situation))


@pytest.fixture
def whole(database: Database, clock: Clock) -> Whole:
    return Whole(database, clock)


def running(name: str = "t1", **more: object):  # type: ignore[no-untyped-def]
    """A task of shop that runs on node one."""
    return task(name, "one", "shop", **more)  # type: ignore[arg-type]


def rejected(name: str = "t2", error: str = FAULT, **more: object):  # type: ignore[no-untyped-def]
    """A task of shop that node one rejected."""
    more = {"since": LATER, "live": False, "wanted": True} | more
    return task(name, "one", "shop", error=error, **more)  # type: ignore[arg-type]


# A rejected task.


def test_a_rejected_task_comes_with_the_next_request(whole: Whole) -> None:
    whole.read(rejected())
    (kept,) = whole.rejections()
    assert (kept.network_id, kept.vni, kept.cidr) == (SHOP.id, 4097, "10.0.1.0/24")
    (told,) = whole.request().rejections
    assert (told.task_id, told.at, told.vni, told.doubt) == (swarm_id("t2"), LATER, 4097, None)


def test_what_cannot_be_matched_is_told_with_its_doubt(whole: Whole) -> None:
    whole.read(rejected(error=FAULT.replace("10.0.1", "10.9.9")))
    (told,) = whole.request().rejections
    assert told.vni is None
    assert "it is about subnet 10.9.9.0/24, and no network of the task has it" in (told.doubt or "")


def test_a_rejection_is_kept_once_also_by_a_controller_that_was_started_anew(
    whole: Whole, database: Database, clock: Clock
) -> None:
    whole.read(rejected())
    claim(database, now=clock())
    again = Whole(database, clock)
    again.read(rejected())
    assert len(again.rejections()) == 1


def test_a_rejection_on_a_node_that_is_not_stored_yet_is_kept_once_it_is(whole: Whole) -> None:
    refused = task("t5", "new", "shop", live=False, wanted=True, error=FAULT, since=LATER)
    kept = Rejections(whole.database, lambda *_: None, whole.clock)
    networks = {each.id: each for each in (INGRESS, SHOP, MAIL)}
    kept.record([refused], networks)
    assert whole.rejections() == []
    whole.read(answer=snapshot("one", "two", "new", tasks=[running()]))
    kept.record([refused], networks)
    assert [each.task_id for each in whole.rejections()] == [swarm_id("t5")]


def test_what_was_followed_by_a_task_that_runs_is_history_from_the_first(whole: Whole) -> None:
    """A controller that is started on a healthy Swarm reads of what was healed hours ago."""
    whole.answer()
    whole.read(rejected(wanted=False), running("t3", since=LATER + timedelta(seconds=5)))
    assert whole.rejections() == []
    assert whole.ready()[0] == "True"


def test_a_task_of_another_network_does_not_follow_a_rejection(whole: Whole) -> None:
    """Of a task on two networks: on one of them tasks come and go all the time."""
    refused = task("t2", "one", "shop", "mail", error=FAULT, since=LATER, live=False, wanted=True)
    whole.read(refused, task("t3", "one", "mail", since=LATER + timedelta(seconds=1)))
    (told,) = whole.request().rejections
    assert (told.task_id, told.vni) == (swarm_id("t2"), 4097)


def test_of_many_rejections_the_newest_few_speak_for_all(whole: Whole) -> None:
    many = [
        rejected(f"r{number:03}", since=LATER + timedelta(seconds=number)) for number in range(100)
    ]
    whole.read(*many[:60])
    whole.read(*many)
    assert len(whole.rejections()) == 100
    told = whole.request().rejections
    assert len(told) == 10
    assert {each.task_id for each in told} <= {each.id for each in many[60:]}


def test_what_only_speaks_of_the_fault_is_no_rejection(whole: Whole) -> None:
    """A path of a bind mount, say, in the error of a task that runs."""
    whole.read(task("t2", "one", "shop", error=FAULT))
    assert whole.rejections() == []


def test_of_history_nothing_is_told(whole: Whole) -> None:
    whole.read(rejected(since=START - timedelta(days=2)))
    (kept,) = whole.rejections()
    assert kept.settled_at is not None
    assert whole.request().rejections == ()


@pytest.mark.parametrize(
    ("tasks", "settled"),
    [
        ([rejected(wanted=False), running("t3", since=LATER + timedelta(seconds=5))], True),
        ([rejected(wanted=False), running("t3", since=LATER - timedelta(seconds=5))], False),
        ([rejected(wanted=False)], None),
        ([rejected(wanted=False), task("t4", "one", "mail")], None),
        ([rejected(), task("t4", "two", "shop", since=LATER + timedelta(seconds=5))], False),
    ],
    ids=[
        "a later task runs",
        "an earlier one runs",
        "none is to",
        "of another network",
        "elsewhere",
    ],
)
def test_a_rejection_counts_until_a_later_task_runs_there_or_none_is_to(
    whole: Whole, clock: Clock, tasks: list[object], settled: bool | None
) -> None:
    whole.read(rejected())
    whole.read(*tasks)
    if settled is None:
        assert whole.rejections()[0].settled_at is None, "its successor may not be assigned yet"
        clock.advance(60)
        whole.read(*tasks)
        settled = True
    assert (whole.rejections()[0].settled_at is not None) is settled
    assert (whole.request().rejections == ()) is settled


def test_a_rejection_is_settled_when_the_device_was_removed(whole: Whole, clock: Clock) -> None:
    whole.read(rejected())
    whole.answer(devices=[device(7, Verdict.ORPHAN, removed=True, vni=4098)])
    assert whole.rejections()[0].settled_at is None, "another device was removed"
    whole.answer(devices=[device(7, Verdict.ORPHAN, removed=True)])
    settled_at = whole.rejections()[0].settled_at
    assert settled_at is not None
    clock.advance(60)
    whole.answer(devices=[device(7, Verdict.ORPHAN, removed=True)])
    assert whole.rejections()[0].settled_at == settled_at, "it was settled already"


@pytest.mark.parametrize(("after", "settled"), [(1.0, True), (-1.0, False)])
def test_a_rejection_that_is_read_after_the_removal_that_followed_it_is_over(
    whole: Whole, after: float, settled: bool
) -> None:
    """Of two replicas the second one's rejection is read late: its device is gone by then."""
    whole.read(rejected())
    at = LATER + timedelta(seconds=2)
    removal = {
        "devices": [device(7, Verdict.ORPHAN, removed=True)],
        "entries": [entry(1, at=at)],
        "journal_id": uuid4(),
    }
    whole.answer(**removal)
    whole.read(rejected(), rejected("t3", since=at - timedelta(seconds=after)))
    _, late = whole.rejections()
    assert (late.settled_at is not None) is settled
    assert (whole.ready()[1] == "TasksRejected") is not settled


def test_after_minutes_without_another_a_rejection_says_nothing_any_more(
    whole: Whole, database: Database, clock: Clock
) -> None:
    whole.read(rejected())
    keeper = RunRetention(database, retention=timedelta(days=1), utcnow=clock)
    clock.advance(REJECTION_COUNTS.total_seconds() - 1)
    keeper.step()
    assert whole.rejections()[0].settled_at is None
    clock.advance(2)
    keeper.step()
    assert whole.rejections()[0].settled_at is not None
    clock.advance(86_400)
    keeper.step()
    assert whole.rejections() == []


# A reading of the Swarm.


def stamp(seconds: float) -> Stamp:
    return Stamp(session=SESSION, seconds=seconds)


def test_a_request_says_after_what_the_swarm_was_read(whole: Whole) -> None:
    whole.answer(stamp=stamp(1.0))
    assert whole.request().reading.after is None, "it was read before that"
    whole.answer(stamp=stamp(2.0))
    whole.read()
    reading = whole.request().reading
    assert reading.after == stamp(2.0)
    assert reading.ready_seconds == pytest.approx(2.0)


def test_a_drift_hint_is_heard_too(whole: Whole) -> None:
    hint = drift(7).model_copy(update={"stamp": stamp(3.0)})
    whole.drift(believed(hint))
    whole.read()
    assert whole.request().reading.after == stamp(3.0)


def test_a_node_that_is_not_ready_is_told_so(whole: Whole) -> None:
    whole.read(answer=snapshot(node("one", state="down"), "two"))
    assert whole.readings.newest(swarm_id("one")).ready_seconds is None


def test_a_report_that_waits_for_a_reading_gets_one_and_then_a_run(
    whole: Whole, clock: Clock
) -> None:
    whole.answer(stamp=stamp(1.0), wants_reading=True, then_run=True)
    whole.swarm.asked.clear()
    clock.advance(0.1)
    assert whole.sync.step()
    assert ("tasks_of_nodes", (swarm_id("one"),)) in whole.swarm.asked, "that node alone"
    assert whole.readings.newest(swarm_id("one")).after == stamp(1.0)
    assert due_row(whole.database).reasons == ["resync", "the Swarm was read for it"]
    assert due_row(whole.database).due_at == clock()


def test_a_reading_of_a_nodes_tasks_alone_does_not_count_for_the_node(
    whole: Whole, clock: Clock
) -> None:
    """Whether the node is ready was not read."""
    whole.answer(stamp=stamp(1.0))
    whole.swarm.answer = snapshot(tasks=[running(), running("t2", service="web")])
    whole.swarm.asked.clear()
    clock.advance(0.1)
    whole.hints.add(Hint(services=frozenset({swarm_id("web")})))
    assert whole.sync.step()
    assert ("tasks_of_nodes", (swarm_id("one"),)) in whole.swarm.asked
    assert whole.readings.newest(swarm_id("one")).after is None


def test_while_the_grace_period_lasts_the_reading_makes_no_run(whole: Whole, clock: Clock) -> None:
    whole.answer(stamp=stamp(1.0), wants_reading=True, recheck_after=4.0)
    assert whole.sync.step()
    assert "the Swarm was read for it" not in due_row(whole.database).reasons


def test_a_reading_with_a_network_without_a_vni_is_not_whole(whole: Whole) -> None:
    whole.answer(stamp=stamp(1.0))
    bare = replace(SHOP, subnets=())
    whole.read(answer=snapshot(tasks=[running()], networks=[INGRESS, bare, MAIL]))
    assert whole.readings.newest(swarm_id("one")).after is None


def test_a_reading_with_a_task_on_a_network_that_is_not_listed_yet_is_not_whole(
    whole: Whole,
) -> None:
    """A network that was made between the two lists may have taken over the VNI."""
    whole.answer(stamp=stamp(1.0))
    whole.read(answer=snapshot(tasks=[task("t1", "one", "new")], networks=[INGRESS, SHOP, MAIL]))
    assert whole.readings.newest(swarm_id("one")).after is None
    assert whole.readings.newest(swarm_id("two")).ready_seconds is not None, "of others it is"


def test_a_task_that_is_to_end_is_wanted_until_its_node_has_said_that_it_has(whole: Whole) -> None:
    """Its dockerd may be held up in the middle of starting it, and go on later."""
    whole.read(running(ending=True))
    (desired,) = (each for each in whole.request().desired if each.id == SHOP.id)
    assert desired.vnis == (4097,)
    whole.read(running(live=False))
    assert SHOP.id not in {each.id for each in whole.request().desired}


# What is told.


def test_a_node_that_rejects_tasks_is_not_ready_whatever_holds_the_vni(whole: Whole) -> None:
    whole.answer()
    assert whole.ready()[0] == "True"
    whole.read(rejected())
    whole.answer()
    status, reason, message = whole.ready()
    assert (status, reason) == ("False", "TasksRejected")
    assert "the last run saw no device with VNI 4097" in message
    held = device(7, Verdict.IN_USE).model_copy(
        update={
            "identity": device(7).identity.model_copy(update={"netns": "nsid:4"}),
            "netns_file": "/run/docker/netns/1-shop",
            "reason": "holds VNI 4097: remove it by hand",
        }
    )
    whole.answer(devices=[held])
    status, reason, message = whole.ready()
    assert (status, reason) == ("False", "VniHeld")
    assert "vx-001001-shopz in nsid:4 (/run/docker/netns/1-shop) holds VNI 4097" in message
    explained = whole.explained()
    assert [each.reason for each in explained.now] == ["holds VNI 4097: remove it by hand"]
    assert "holds VNI 4097: remove it by hand" in explained.findings[0].on_nodes[0].verdict
    assert any("does not remove vx-001001-shopz" in each for each in explained.advice)
    whole.read(rejected(wanted=False), running("t3", since=LATER + timedelta(seconds=9)))
    whole.answer(devices=[device(7)])
    assert whole.ready()[0] == "True"


def test_the_device_that_docker_has_made_again_is_not_said_to_hold_the_vni(whole: Whole) -> None:
    """After other software gave the VNI back: the task runs, and no reading of tasks has shown it yet."""
    other = device(7, Verdict.CONFLICT)
    whole.answer(devices=[other])
    whole.read(rejected())
    whole.answer(devices=[other])
    assert whole.ready()[1] == "DeviceConflict"
    whole.clock.advance(1.0)
    own = device(9, Verdict.IN_USE)
    whole.answer(devices=[own])
    assert whole.ready()[:2] == ("True", "Converged")
    whole.read(rejected(), rejected("t3", since=LATER + timedelta(seconds=9)))
    assert whole.ready()[:2] == ("False", "TasksRejected"), (
        "again, and whose VNI it is is not judged"
    )


def test_the_proof_of_an_orphan_is_kept_with_its_place(whole: Whole, database: Database) -> None:
    orphan = device(7, Verdict.ORPHAN).model_copy(
        update={"proof": Proof.UNWANTED, "netns_file": "/run/docker/netns/1-shop"}
    )
    whole.answer(devices=[orphan])
    with database.read() as session:
        (row,) = session.scalars(select(Device))
    assert (row.proof, row.netns_file) == (Proof.UNWANTED, "/run/docker/netns/1-shop")


def test_what_looks_dead_for_long_without_proof_is_told(whole: Whole, clock: Clock) -> None:
    settling = device(7, Verdict.SETTLING)
    whole.answer(devices=[settling])
    assert whole.ready()[0] == "True"

    def degraded() -> str:
        whole.ready()
        with whole.database.read() as session:
            return str(session.get_one(Node, swarm_id("one")).conditions["Degraded"]["reason"])

    assert degraded() == "NothingWrong"
    clock.advance(31)
    assert degraded() == "LooksDead"


@pytest.mark.parametrize("verdict", [Verdict.SETTLING, Verdict.ORPHAN])
def test_explain_promises_no_removal_that_something_forbids(whole: Whole, verdict: Verdict) -> None:
    whole.read(rejected())
    whole.answer(devices=[device(7, verdict)])
    free = "\n".join(whole.explained().advice)
    assert ("is proved dead: the next run removes it" in free) is (verdict is Verdict.ORPHAN)
    assert "whatever proves it dead" not in free
    held = "\n".join(whole.explained(mode=Mode.OBSERVE).advice)
    even = "" if verdict is Verdict.ORPHAN else ", even if proved dead"
    assert f"is not removed{even}: mode observe of the cluster" in held
    assert "removes it" not in held
    with whole.database.write() as session:
        session.get_one(Node, swarm_id("one")).paused_at = START
    assert "node one is paused" in "\n".join(whole.explained().advice)


def test_explain_says_it_is_gone_only_if_no_task_was_rejected_since(whole: Whole) -> None:
    whole.read(rejected())
    removed = {
        "devices": [device(7, Verdict.ORPHAN, removed=True)],
        "entries": [entry(1, at=LATER + timedelta(seconds=1))],
        "journal_id": uuid4(),
    }
    whole.answer(**removed)
    assert "should work" in whole.explained().findings[0].on_nodes[0].verdict
    whole.read(rejected(wanted=False), rejected("t9", since=LATER + timedelta(seconds=6)))
    assert "should work" not in whole.explained().findings[0].on_nodes[0].verdict
