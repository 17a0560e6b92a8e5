"""How long healing takes, from the rejection over the removal to the task that runs again."""

import math
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import select

from contract.verdicts import Stage, Verdict
from controller.db.engine import Database
from controller.db.models import HealingTime, Rejection
from controller.runs.reports import ReportIntake
from controller.swarm.healing import BUCKETS, Step, histogram
from controller.swarm.model import SwarmTask
from controller.swarm.rejections import Rejections
from tests.fake_clock import START, Clock
from tests.fake_swarm import SHOP, snapshot, swarm_id, task
from tests.reports import believed, device, removal, report
from tests.stored import RESYNC, claim, put

LEAK = 'subnet sandbox join failed for "10.0.1.0/24": error creating vxlan interface: file exists'


def later(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def refused(name: str, seconds: float, *, slot: int = 1) -> SwarmTask:
    """A task of service `web` that node `one` rejected."""
    return task(
        name,
        "one",
        "shop",
        live=False,
        wanted=True,
        error=LEAK,
        service="web",
        since=later(seconds),
        slot=slot,
    )


def runs(
    name: str, seconds: float, *, on: str = "one", slot: int = 1, service: str = "web"
) -> SwarmTask:
    return task(name, on, "shop", service=service, since=later(seconds), slot=slot)


class Healing:
    """A Swarm with rejected tasks, and the worker's reports."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self.clock = clock
        self.rejections = Rejections(database, lambda *_: None, clock)
        put(database, snapshot("one", "two"))

    def read(self, *tasks: SwarmTask) -> None:
        """Take in a reading of both nodes."""
        self.rejections.record(tasks, {SHOP.id: SHOP})
        self.rejections.settle([swarm_id("one"), swarm_id("two")], tasks)

    def remove(self, seconds: float) -> None:
        """Take in the report of a run that removed the device, then."""
        run = claim(self.database)[swarm_id("one")].run_id
        orphan = device(1, Verdict.ORPHAN, removed=True)
        entry = removal(run, 1, orphan.identity).model_copy(update={"at": later(seconds)})
        seen = {"at": later(seconds + 0.5), "stage": Stage.VERIFIED, "sequence": 2, "id": uuid4()}
        intake = ReportIntake(
            self.database, resync=RESYNC, notify=lambda *_: None, utcnow=self.clock
        )
        intake.reports(
            [
                believed(
                    report(run, devices=[orphan], entries=[entry, entry.model_copy(update=seen)])
                )
            ]
        )

    def row(self, name: str) -> Rejection:
        with self.database.read() as session:
            return session.get_one(Rejection, swarm_id(name))

    def observed(self, step: Step) -> tuple[int, float]:
        """The number of healings, and the sum of their seconds."""
        with self.database.read() as session:
            counts, total = histogram(session, step)
            return counts[-1][1], total


@pytest.fixture
def healing(database: Database, clock: Clock) -> Healing:
    return Healing(database, clock)


def test_a_healing_is_measured_from_the_first_of_its_rejections(healing: Healing) -> None:
    healing.read(refused("t1", 0))
    healing.read(refused("t1", 0), refused("t2", 5), refused("t3", 5, slot=2))
    assert healing.row("t3").first_at == START
    healing.clock.advance(7)
    healing.remove(6)
    row = healing.row("t1")
    assert (row.removed_at, row.running_at) == (later(6), None)
    assert row.run_id is not None
    assert healing.observed(Step.REMOVED) == (1, 6)
    # One of its replicas runs, which one it was not: and then both.
    healing.read(runs("t4", 8.5))
    assert healing.row("t1").running_at == healing.row("t2").running_at == later(8.5)
    assert healing.row("t3").running_at is None
    healing.read(runs("t4", 8.5), runs("t5", 20, slot=2))
    assert healing.row("t3").running_at == later(20)
    assert healing.observed(Step.RUNNING) == (1, 2.5)


def test_eleven_rejections_and_more_leave_the_first_time(healing: Healing) -> None:
    tasks = [refused(f"t{number:02}", number) for number in range(15)]
    for number in range(15):
        healing.read(*tasks[: number + 1])
        healing.clock.advance(1)
    assert healing.row("t00").settled_at is not None
    healing.remove(14.5)
    assert healing.observed(Step.REMOVED) == (1, 14.5)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(runs("t9", 9, slot=2), id="another slot"),
        pytest.param(runs("t9", 9, service="mail"), id="another service"),
        pytest.param(runs("t9", -9), id="since before"),
        pytest.param(refused("t9", 9), id="rejected again"),
    ],
)
def test_another_task_is_no_successor(healing: Healing, other: SwarmTask) -> None:
    healing.read(refused("t1", 0))
    healing.remove(1)
    healing.read(other)
    assert healing.row("t1").running_at is None
    assert healing.observed(Step.RUNNING) == (0, 0)


def test_a_successor_may_run_on_another_node_and_of_a_global_service_not(healing: Healing) -> None:
    healing.read(refused("t1", 0), refused("g1", 0, slot=0))
    healing.remove(1)
    healing.read(runs("t2", 3, on="two"), runs("g2", 3, on="two", slot=0))
    assert healing.row("t1").running_at == later(3)
    assert healing.row("g1").running_at is None


def test_a_task_that_ran_elsewhere_before_the_removal_was_not_healed_by_it(
    healing: Healing,
) -> None:
    healing.read(refused("t1", 0))
    healing.remove(5)
    healing.read(runs("t2", 3, on="two"))
    assert healing.row("t1").running_at == later(3)
    assert healing.observed(Step.RUNNING) == (0, 0)


def test_after_an_hour_another_cause_let_the_task_run(healing: Healing) -> None:
    healing.read(refused("t1", 0))
    healing.remove(1)
    healing.clock.advance(3601)
    healing.read(runs("t2", 3600))
    assert healing.row("t1").running_at is None


def test_the_report_of_a_removal_that_comes_twice_is_measured_once(
    healing: Healing, database: Database
) -> None:
    healing.read(refused("t1", 0))
    healing.remove(1)
    healing.read(refused("t1", 0))
    with database.read() as session:
        assert session.scalars(select(HealingTime.step)).all() == ["removed"]
    assert healing.observed(Step.REMOVED) == (1, 1)


def test_counts_of_a_bound_that_is_no_longer_used_are_in_the_next(database: Database) -> None:
    with database.write() as session:
        buckets = {"0.7": 2, "1.0": 3, "inf": 1}
        session.add(HealingTime(step=Step.REMOVED.value, buckets=buckets, seconds=9.5))
    with database.read() as session:
        counts, total = histogram(session, Step.REMOVED)
    assert total == 9.5
    assert dict(counts)[0.5] == 0
    assert dict(counts)[1.0] == 5
    assert counts[-1] == (math.inf, 6)
    assert [bound for bound, _ in counts] == list(BUCKETS)
