"""The breaker on real rows: what counts, when it trips, and what a reset does."""

import threading
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import insert, select, update

from contract.verdicts import DEVICE_STAGES, Outcome, Stage, Verdict
from controller.db.engine import Database
from controller.db.models import (
    Cluster,
    DueNode,
    Node,
    Run,
)
from controller.db.states import RunState
from controller.process.settings import ControllerSettings
from controller.runs.reports import ReportIntake
from controller.safety import breaker
from controller.safety.breaker import BreakerLimits
from controller.safety.decisions import Decision, lock
from controller.workqueue.priorities import Priority
from tests.fake_clock import START, Clock
from tests.fake_swarm import snapshot, swarm_id
from tests.reports import believed, device, report
from tests.servers import await_true
from tests.stored import RESYNC, audit, claim, contents, node_row, plans, put

FEW = BreakerLimits(
    window=timedelta(seconds=100), node_removals=4, max_nodes_share=0.5, min_nodes=1
)


class Swarm:
    """A Swarm of nodes whose workers remove devices."""

    def __init__(
        self, database: Database, clock: Clock, *nodes: str, limits: BreakerLimits = FEW
    ) -> None:
        self.database = database
        self.clock = clock
        self.limits = limits
        put(database, snapshot(*nodes))
        self.intake = ReportIntake(
            database, resync=RESYNC, limits=limits, notify=lambda *_: None, utcnow=clock
        )

    def run(self, name: str, removed: int, *, orphans: int = 0) -> None:
        """Let a node's worker report a run that removed so many."""
        with self.database.write() as session:
            session.execute(update(DueNode).values(due_at=None))
            session.get_one(DueNode, swarm_id(name)).due_at = self.clock()
        claimed = claim(self.database, now=self.clock())[swarm_id(name)]
        told = [
            device(number, Verdict.ORPHAN, removed=number <= removed)
            for number in range(1, removed + orphans + 1)
        ]
        told_report = report(claimed.run_id, node=name, devices=told)
        for _ in range(2):
            self.intake.reports([believed(told_report)])

    def tripped(self, name: str) -> str | None:
        """Why a node's breaker has tripped."""
        return node_row(self.database, name).breaker_reason

    @property
    def cluster(self) -> Cluster:
        """The cluster."""
        with self.database.read() as session:
            return session.get_one(Cluster, 1)

    def budget(self, name: str) -> int:
        """What a node has left."""
        with self.database.read() as session:
            id_ = swarm_id(name)
            counted = session.execute(breaker.counted(self.limits.since(self.clock())))
            return self.limits.left({row.node_id: row.removals for row in counted}.get(id_, 0))

    def reset(self, name: str | None = None, *, reason: str | None = None) -> list[str]:
        """Reset by a person."""
        with self.database.write() as session:
            node = None if name is None else session.get_one(Node, swarm_id(name))
            return breaker.reset(session, node, Decision("alice", reason, self.clock()))

    def state(self) -> breaker.BreakerState:
        """What there is to see."""
        with self.database.read() as session:
            return breaker.state(session, self.limits, self.clock())


@pytest.fixture
def swarm(database: Database, clock: Clock) -> Swarm:
    """Four nodes, of which two may remove something in the window."""
    return Swarm(database, clock, "one", "two", "three", "four")


def stages(database: Database) -> list[tuple[Stage, str | None, str]]:
    """What the audit trail says, apart from runs and devices."""
    others = DEVICE_STAGES | {Stage.REQUESTED}
    rows = audit(database)
    return [(row.stage, row.node_name, row.reason) for row in rows if row.stage not in others]


def test_the_defaults_are_those_of_the_settings() -> None:
    defaults = {name: field.default for name, field in ControllerSettings.model_fields.items()}
    limits = breaker.DEFAULTS
    assert limits.window.total_seconds() == defaults["breaker_window_seconds"]
    assert limits.node_removals == defaults["breaker_node_removals"]
    assert limits.max_nodes_share == defaults["breaker_max_nodes_share"]
    assert limits.min_nodes == defaults["breaker_min_nodes"]


@pytest.mark.parametrize(
    ("nodes", "allowed"), [(0, 5), (1, 5), (5, 5), (23, 5), (24, 6), (100, 25), (5_000, 1_250)]
)
def test_how_many_nodes_may_remove_something(nodes: int, allowed: int) -> None:
    assert breaker.DEFAULTS.nodes(nodes) == allowed


def test_a_node_that_uses_up_its_number_trips_its_own_breaker_once(swarm: Swarm) -> None:
    swarm.run("one", 3)
    assert (swarm.tripped("one"), swarm.budget("one"), swarm.budget("two")) == (None, 1, 4)
    swarm.run("one", 1)
    reason = "4 device(s) removed within 100 s: the limit of a node"
    assert swarm.tripped("one") == reason
    assert swarm.budget("one") == 0
    assert (swarm.tripped("two"), swarm.cluster.breaker_tripped_at) == (None, None)

    at = node_row(swarm.database).breaker_tripped_at
    swarm.clock.advance(1)
    swarm.run("one", 1)
    assert node_row(swarm.database).breaker_tripped_at == at == START
    assert stages(swarm.database) == [(Stage.BREAKER_TRIPPED, "one", f"node one: {reason}")]
    assert {row.actor for row in audit(swarm.database)} == {"controller"}


def test_a_trip_that_was_missed_is_made_good_by_the_next_removal_anywhere(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(breaker, "check", lambda *_: None)  # The controller died just before.
        swarm.run("one", 4)
    assert swarm.tripped("one") is None
    assert swarm.budget("one") == 0, "until then it may remove nothing all the same"
    swarm.run("two", 1)
    assert swarm.tripped("one") is not None


def test_tripping_waits_for_a_reading_of_the_swarm_without_standing_in_its_way(
    postgresql: Database, clock: Clock
) -> None:
    """Who stores what the Swarm says locks the cluster first, and then nodes."""
    swarm = Swarm(
        postgresql, clock, "one", "two", limits=FEW._replace(max_nodes_share=0, min_nodes=0)
    )
    told = threading.Thread(target=swarm.run, args=("one", 4), daemon=True)
    with postgresql.write() as session:
        lock(session, session.get_one(Cluster, 1))
        told.start()
        await_true(lambda: swarm.budget("one") == 0, "the report is stored")
        session.execute(update(Node).values(state="ready"))
    told.join(60)
    assert not told.is_alive()
    assert swarm.tripped("one") is not None
    assert swarm.cluster.breaker_reason is not None


def test_too_many_nodes_trip_the_clusters_breaker(swarm: Swarm) -> None:
    swarm.run("one", 1)
    swarm.run("two", 1)
    swarm.run("two", 1)
    assert swarm.cluster.breaker_tripped_at is None
    swarm.run("three", 1)
    reason = "3 nodes removed devices within 100 s; the limit is 2"
    assert swarm.cluster.breaker_reason == reason
    assert [swarm.tripped(name) for name in ("one", "two", "three", "four")] == [None] * 4
    assert stages(swarm.database) == [(Stage.BREAKER_TRIPPED, None, f"the cluster: {reason}")]


def test_a_small_swarm_with_leaks_everywhere_does_not_trip(
    database: Database, clock: Clock
) -> None:
    names = ["one", "two", "three", "four", "five"]
    swarm = Swarm(database, clock, *names, limits=breaker.DEFAULTS)
    for name in names:
        swarm.run(name, 20)
    assert swarm.cluster.breaker_tripped_at is None
    assert stages(database) == []


def test_a_node_that_would_remove_and_may_not_counts_for_nothing(swarm: Swarm) -> None:
    for name in ("one", "two", "three", "four"):
        swarm.run(name, 0, orphans=50)
    assert swarm.cluster.breaker_tripped_at is None
    assert swarm.budget("one") == 4
    assert stages(swarm.database) == []


def test_what_lies_before_the_window_counts_no_more(swarm: Swarm) -> None:
    swarm.run("one", 3)
    swarm.run("two", 1)
    swarm.clock.advance(99)
    assert swarm.budget("one") == 1
    swarm.clock.advance(1)
    assert swarm.budget("one") == 4
    swarm.run("one", 3)
    swarm.run("three", 1)
    assert swarm.tripped("one") is None
    assert swarm.cluster.breaker_tripped_at is None


def test_nodes_that_are_gone_are_no_part_of_the_share(swarm: Swarm) -> None:
    put(swarm.database, snapshot("one", "two"))
    swarm.run("one", 1)
    assert swarm.cluster.breaker_tripped_at is None
    swarm.run("two", 1)
    assert swarm.cluster.breaker_reason is not None


def test_a_run_that_was_given_up_and_told_of_its_removals_later_counts(swarm: Swarm) -> None:
    id_ = swarm_id("one")
    claimed = claim(swarm.database, now=swarm.clock())[id_]
    with swarm.database.write() as session:
        run = session.get_one(Run, claimed.run_id)
        run.state, run.closed_at = RunState.LOST, swarm.clock()
    told = [device(number, Verdict.ORPHAN, removed=True) for number in range(1, 5)]
    swarm.intake.reports([believed(report(claimed.run_id, devices=told))])
    assert swarm.budget("one") == 0
    assert swarm.tripped("one") is not None


def test_a_run_that_failed_counts_what_it_removed(swarm: Swarm) -> None:
    claimed = claim(swarm.database, now=swarm.clock())[swarm_id("one")]
    told = report(
        claimed.run_id,
        outcome=Outcome.FAILED,
        error="1 removal(s) failed",
        devices=[device(1, Verdict.ORPHAN, removed=True), device(2, Verdict.ORPHAN)],
    )
    swarm.intake.reports([believed(told)])
    assert swarm.budget("one") == 3


def test_what_there_is_to_see(swarm: Swarm) -> None:
    assert swarm.state() == (0, 2, [])
    swarm.run("two", 1)
    swarm.run("one", 4)
    removing, allowed, nodes = swarm.state()
    assert (removing, allowed) == (2, 2)
    assert [(node.hostname, removals) for node, removals in nodes] == [("one", 4), ("two", 1)]
    swarm.clock.advance(200)
    removing, _, nodes = swarm.state()
    assert removing == 0
    assert [(node.hostname, removals) for node, removals in nodes] == [("one", 0)], "it has tripped"


def test_a_reset_counts_from_zero_is_recorded_and_looks_at_once(swarm: Swarm) -> None:
    swarm.run("one", 4)
    swarm.run("two", 3)
    swarm.clock.advance(1)
    assert swarm.reset("one", reason="a new disk") == ["node one"]
    assert swarm.tripped("one") is None
    assert (swarm.budget("one"), swarm.budget("two")) == (4, 1)
    row = audit(swarm.database)[-1]
    assert (row.stage, row.actor, row.node_name) == (Stage.BREAKER_RESET, "alice", "one")
    assert row.reason == (
        "node one: tripped (4 device(s) removed within 100 s: the limit of a node) -> "
        "reset: a new disk"
    )
    assert asked_for(swarm.database, swarm.clock()) == {"one": ["breaker reset by alice"]}


def test_a_reset_of_the_cluster_is_one_of_all_nodes_too(swarm: Swarm) -> None:
    swarm.run("one", 4)
    swarm.run("two", 1)
    swarm.run("three", 1)
    swarm.clock.advance(1)
    assert swarm.reset("two") == []
    assert swarm.reset() == ["the cluster", "node one"]
    assert (swarm.cluster.breaker_tripped_at, swarm.cluster.breaker_reason) == (None, None)
    assert swarm.tripped("one") is None
    assert asked_for(swarm.database, swarm.clock()).keys() == {"one", "two", "three", "four"}
    assert swarm.state().removing == 0
    swarm.run("four", 1)
    assert swarm.cluster.breaker_tripped_at is None


def test_a_reset_of_what_has_not_tripped_changes_nothing(swarm: Swarm) -> None:
    swarm.run("one", 3)
    before = contents(swarm.database)
    assert swarm.reset() == swarm.reset("one") == []
    assert contents(swarm.database) == before


def asked_for(database: Database, now: datetime) -> dict[str, list[str]]:
    """The nodes that are due now because somebody decided something, and why."""
    with database.read() as session:
        rows = session.execute(
            select(Node.hostname, DueNode.reasons)
            .join(DueNode, DueNode.node_id == Node.id)
            .where(DueNode.due_at <= now, DueNode.priority == Priority.CHANGE)
        )
        return {
            name: [each for each in reasons if "breaker" in each]
            for name, reasons in rows
            if any("breaker" in each for each in reasons)
        }


def test_counting_needs_no_look_at_the_whole_history(database: Database) -> None:
    """Of ten thousand runs, of which three removed something: through the index made for it."""
    put(database)
    # Made before: PostgreSQL ends a transaction that idles while a loaded machine makes rows.
    rows = [
        {
            "id": uuid4(),
            "node_id": swarm_id("one"),
            "state": RunState.SUCCEEDED,
            "priority": 0,
            "reasons": [],
            "generation": 1,
            "requested_at": START,
            "deadline": START,
            "closed_at": START,
            "removed": number % 3_000 == 0,
        }
        for number in range(9_000)
    ]
    with database.write() as session:
        session.execute(insert(Run), rows)
    plan = plans(database, lambda session: session.execute(breaker.counted(FEW.since(START))))
    assert "ix_runs_removals" in plan
