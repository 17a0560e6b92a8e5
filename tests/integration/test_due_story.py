"""No order of events breaks the workqueue: a state machine against a simple model, on both databases."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.db.engine import Database
from controller.db.models import (
    Cluster,
    DueNode,
    Node,
    Run,
)
from controller.db.states import RunState
from controller.workqueue import queue, under_way
from controller.workqueue.priorities import Priority
from controller.workqueue.queue import Claim
from tests import stored
from tests.fake_clock import Clock
from tests.fake_swarm import snapshot, swarm_id
from tests.stored import RESYNC, TIMEOUT, contents, put, wipe

NAMES = ("a", "b", "c", "d")
FINAL = [state for state in RunState if state is not RunState.RUNNING]
PRIORITY_CLASSES = (Priority.RESYNC, Priority.DRIFT)
ROUNDING = timedelta(milliseconds=2)
"""SQLite compares ranks by the millisecond."""


@dataclass
class Wish:
    """What is asked for of a node."""

    at: datetime
    priority: Priority
    reasons: list[str]

    @property
    def rank(self) -> datetime:
        """Who goes first, as `controller.workqueue.queue` states it."""
        return self.at - self.priority * timedelta(minutes=1)


@dataclass
class Model:
    """A node as it should be."""

    wish: Wish | None
    running: Claim | None = None
    was_due: datetime | None = None
    """When what runs was asked for."""
    failures: int = 0
    held: set[str] = field(default_factory=set)
    despite_pause: bool = False
    """Whether its worker is to hear of a pause."""


class Workqueue(RuleBasedStateMachine):
    """Asking, claiming, reports, lost runs, what cannot be sent, pauses, nodes that are down, time."""

    nodes = st.sampled_from([swarm_id(name) for name in NAMES])
    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        wipe(self.database)
        put(self.database, snapshot(*NAMES))
        self.closed: list[Claim] = []
        self.cluster_paused = False
        self.model = {
            node: Model(Wish(row.due_at, Priority(row.priority), list(row.reasons)))
            for node, row in self._rows().items()
            if row.due_at is not None
        }
        assert len(self.model) == len(NAMES)

    @rule(
        node=nodes,
        priority=st.sampled_from(Priority),
        wait=st.sampled_from([0, 5, -70, -200]),
        despite_pause=st.booleans(),
    )
    def request(
        self, node: str, priority: Priority, wait: int, despite_pause: bool = False
    ) -> None:
        """Somebody asks; or asked a while ago, and it could not be done until now."""
        at = self.clock.now + timedelta(seconds=wait)
        reason = f"asked at {self.clock.now:%T} with {priority}"
        with self.database.write() as session:
            count = queue.request(
                session,
                [node],
                at=at,
                priority=priority,
                reason=reason,
                despite_pause=despite_pause,
            )
        assert count == 1
        self._wish(node, at, priority, reason)
        self.model[node].despite_pause |= despite_pause
        if priority is Priority.MANUAL:
            self.model[node].failures = 0

    @rule(
        asked=st.lists(
            st.tuples(st.sampled_from(Priority), st.sampled_from([0, 50, 70, 130, 200, 270])),
            min_size=len(NAMES),
            max_size=len(NAMES),
        )
    )
    def crowd(self, asked: list[tuple[Priority, int]]) -> None:
        """Many have waited, each for its time and with its priority; one after another is taken."""
        for node, (priority, waited) in zip(self.model, asked, strict=True):
            self.request(node, priority, -waited)
        for _ in asked:
            self.claim(1, Priority.RESYNC)

    @rule(limit=st.sampled_from([1, 1, 2, 100]), lowest=st.sampled_from(PRIORITY_CLASSES))
    def claim(self, limit: int, lowest: Priority) -> None:
        """A dispatcher comes by: the first by rank of those that may run, and all if there is room."""
        with self.database.write() as session:
            claims = self._claim(session, limit, lowest)
        self._claimed(claims, limit, lowest)

    @rule(node=nodes)
    def at_once(self, node: str) -> None:
        """A person asks, and what is urgent is taken in the same transaction."""
        now, reason = self.clock.now, f"by hand at {self.clock.now:%T}"
        with self.database.write() as session:
            queue.request(session, [node], at=now, priority=Priority.MANUAL, reason=reason)
            claims = self._claim(session, 100, Priority.DRIFT)
        self._wish(node, now, Priority.MANUAL, reason)
        self.model[node].failures = 0
        self._claimed(claims, 100, Priority.DRIFT)

    @precondition(lambda self: self._running())
    @rule(data=st.data(), state=st.sampled_from(FINAL), recheck=st.sampled_from([None, 3]))
    def finish(self, data: st.DataObject, state: RunState, recheck: int | None) -> None:
        """A run ends."""
        node = data.draw(st.sampled_from(self._running()))
        self._finish(node, state, None if recheck is None else timedelta(seconds=recheck))

    @precondition(lambda self: self._running())
    @rule(data=st.data())
    def unclaim(self, data: st.DataObject) -> None:
        """The broker does not take a request: just what was asked for is asked for again, since then."""
        node = data.draw(st.sampled_from(self._running()))
        since = self.model[node].was_due
        assert since is not None
        claimed = self._no_longer_runs(node)
        with self.database.write() as session:
            under_way.unclaim(session, claimed.run_id, now=self.clock.now)
        self.model[node].despite_pause = True
        self._wish(node, since, claimed.priority, *claimed.reasons)
        if claimed.priority is Priority.MANUAL:
            self.model[node].failures = 0

    @precondition(lambda self: self.closed)
    @rule(data=st.data(), state=st.sampled_from(FINAL))
    def finish_again(self, data: st.DataObject, state: RunState) -> None:
        """A report comes twice, or late, and changes nothing."""
        claimed = data.draw(st.sampled_from(self.closed))
        before = contents(self.database)
        with self.database.write() as session:
            assert (
                stored.finish(session, claimed.run_id, state, now=self.clock.now, resync=RESYNC)
                is None
            )
            under_way.unclaim(session, claimed.run_id, now=self.clock.now)
        assert contents(self.database) == before

    @rule()
    def expire(self) -> None:
        """A dispatcher looks for lost runs."""
        late = [node for node in self._running() if self._run(node).deadline < self.clock.now]
        with self.database.write() as session:
            lost = under_way.expire(session, now=self.clock.now, resync=RESYNC)
        assert set(lost) == {self._run(node).run_id for node in late}
        for node in late:
            self.closed.append(self._no_longer_runs(node))
            # A paused node's worker may be away.
            held = self.model[node].held
            self._failed(node, counts=not (self.cluster_paused or held & {"paused", "ignored"}))

    @rule(node=nodes, what=st.sampled_from(["paused", "ignored", "down"]))
    def hold(self, node: str, what: str) -> None:
        """A node is paused, labelled, or goes down."""
        self._hold(node, self.model[node].held | {what})

    @rule()
    def pause_the_cluster(self) -> None:
        """Everything is paused."""
        self._pause_cluster(True)

    @rule()
    def let_all_go(self) -> None:
        """Nothing is in the way any more."""
        self._pause_cluster(False)
        for node in self.model:
            self._hold(node, set())

    @rule(seconds=st.sampled_from([1, 7, 31, 61, 130]))
    def wait(self, seconds: int) -> None:
        """Time passes."""
        self.clock.advance(seconds)

    @invariant()
    def the_rows_are_as_they_should_be(self) -> None:
        """At most one run a node, nothing that was asked for is lost, and failures are counted."""
        for node, row in self._rows().items():
            model = self.model[node]
            assert row.run_id == (model.running and model.running.run_id)
            assert row.failures == model.failures
            assert row.despite_pause == model.despite_pause
            assert (row.due_at, row.priority if row.due_at else None) == (
                (None, None) if model.wish is None else (model.wish.at, model.wish.priority)
            )
            assert row.due_at is not None or row.run_id is not None, "neither due nor running"
        with self.database.read() as session:
            under_way = session.scalars(select(Run).where(Run.state == RunState.RUNNING)).all()
        assert sorted(str(run.id) for run in under_way) == sorted(
            str(self._run(node).run_id) for node in self._running()
        )

    @invariant()
    def who_waits_wakes_up_for_what_can_be_done(self) -> None:
        """The next time is that of the next claim: no later, and no earlier."""
        with self.database.read() as session:
            for lowest in PRIORITY_CLASSES:
                times = [wish.at for wish in self._claimable(lowest).values()]
                assert queue.next_time(session, lowest=lowest) == min(times, default=None)
            deadlines = [self._run(node).deadline for node in self._running()]
            assert under_way.next_deadline(session) == min(deadlines, default=None)

    def teardown(self) -> None:
        """Whatever came before, everything is run once nothing is in the way, and then rests."""
        self.let_all_go()
        self.clock.advance(queue.MAX_BACKOFF.total_seconds() + TIMEOUT.total_seconds())
        self.expire()
        self.clock.advance(queue.MAX_BACKOFF.total_seconds())
        self.claim(100, Priority.RESYNC)
        assert sorted(self._running()) == sorted(self.model)
        for again in (1, 0):
            for node in self._running():
                self._finish(node, RunState.SUCCEEDED, None)
            # What was asked for while it ran makes one more run, and no further.
            self.claim(100, Priority.RESYNC)
            assert again or not self._running()

    def _claim(self, session: Session, limit: int, lowest: Priority) -> list[Claim]:
        return queue.claim(session, now=self.clock.now, limit=limit, timeout=TIMEOUT, lowest=lowest)

    def _claimed(self, claims: Sequence[Claim], limit: int, lowest: Priority) -> None:
        """These were taken: the right ones, and all of them if there was room."""
        now = self.clock.now
        waiting = {node: wish for node, wish in self._claimable(lowest).items() if wish.at <= now}
        assert len(claims) == min(limit, len(waiting))
        taken = {each.node_id for each in claims}
        assert len(taken) == len(claims)
        assert taken <= waiting.keys()
        last = max((waiting[node].rank for node in taken), default=now)
        assert all(last <= waiting[node].rank + ROUNDING for node in waiting.keys() - taken)
        for claimed in claims:
            wish = waiting[claimed.node_id]
            assert (claimed.priority, claimed.deadline) == (wish.priority, now + TIMEOUT)
            assert set(wish.reasons) <= set(claimed.reasons) or len(claimed.reasons) == 10
            self.model[claimed.node_id].was_due = wish.at
            self.model[claimed.node_id].wish = None
            self.model[claimed.node_id].running = claimed
            self.model[claimed.node_id].despite_pause = False

    def _hold(self, node: str, held: set[str]) -> None:
        self.model[node].held = held
        with self.database.write() as session:
            row = session.get_one(Node, node)
            row.paused_at = self.clock.now if "paused" in held else None
            row.label_ignore = "ignored" in held
            row.state = "down" if "down" in held else "ready"

    def _pause_cluster(self, paused: bool) -> None:
        self.cluster_paused = paused
        with self.database.write() as session:
            session.get_one(Cluster, 1).paused_at = self.clock.now if paused else None

    def _finish(self, node: str, state: RunState, recheck: timedelta | None) -> None:
        claimed = self._no_longer_runs(node)
        self.closed.append(claimed)
        now, model = self.clock.now, self.model[node]
        with self.database.write() as session:
            run = stored.finish(
                session, claimed.run_id, state, now=now, resync=RESYNC, recheck=recheck
            )
        assert run is not None
        if state is not RunState.SUCCEEDED:
            self._failed(node)
            return
        model.failures = 0
        if recheck is not None:
            self._wish(node, now + recheck, Priority.RETRY, "recheck")
        elif model.wish is None:
            at = self._due_at(node)
            assert RESYNC * 0.9 <= at - now <= RESYNC * 1.1
            self._wish(node, at, Priority.RESYNC, "resync")

    def _failed(self, node: str, *, counts: bool = True) -> None:
        """A failure makes a node due after its backoff, or before if that was asked for."""
        model, now = self.model[node], self.clock.now
        model.failures += counts
        at, longest = self._due_at(node), timedelta(seconds=min(2 ** (model.failures - 1), 120))
        if model.wish is None or at < model.wish.at:
            assert longest / 2 <= at - now <= longest
        else:
            assert at == model.wish.at
        self._wish(node, at, Priority.RETRY)

    def _wish(self, node: str, at: datetime, priority: Priority, *reasons: str) -> None:
        """The earliest time, the highest priority, all reasons."""
        wish = self.model[node].wish or Wish(at, priority, [])
        self.model[node].wish = Wish(
            min(wish.at, at), max(wish.priority, priority), [*wish.reasons, *reasons]
        )

    def _claimable(self, lowest: Priority) -> dict[str, Wish]:
        return {
            node: model.wish
            for node, model in self.model.items()
            if model.wish is not None
            and model.running is None
            and "down" not in model.held
            and (model.despite_pause or not (model.held or self.cluster_paused))
            and model.wish.priority >= lowest
        }

    def _running(self) -> Sequence[str]:
        return sorted(node for node, model in self.model.items() if model.running is not None)

    def _run(self, node: str) -> Claim:
        claimed = self.model[node].running
        assert claimed is not None
        return claimed

    def _no_longer_runs(self, node: str) -> Claim:
        claimed = self._run(node)
        self.model[node].running = None
        return claimed

    def _rows(self) -> dict[str, DueNode]:
        with self.database.read() as session:
            return {row.node_id: row for row in session.scalars(select(DueNode))}

    def _due_at(self, node: str) -> datetime:
        at = self._rows()[node].due_at
        assert at is not None
        return at


def test_no_order_of_events_breaks_the_workqueue(database: Database) -> None:
    machine: Any = type("Workqueue", (Workqueue,), {"database": database})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=25, stateful_step_count=30, deadline=None)
    )
