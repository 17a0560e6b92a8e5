"""The workqueue in rows: asking, claiming, finishing, expiring, one rule at a time."""

from datetime import datetime, timedelta
from uuid import RFC_4122, uuid4

import pytest

from controller.db import lookup
from controller.db.engine import Database
from controller.db.models import Cluster, DueNode, Node
from controller.db.states import RunState
from controller.workqueue import queue, under_way
from controller.workqueue.priorities import Priority
from controller.workqueue.queue import Claim
from tests import stored
from tests.fake_clock import START
from tests.fake_swarm import snapshot, swarm_id
from tests.stored import RESYNC, TIMEOUT, ask, claim, contents, due_row, plans, put, run_row

ONE, TWO = swarm_id("one"), swarm_id("two")
FINAL = [state for state in RunState if state is not RunState.RUNNING]
UNHAPPY = [RunState.FAILED, RunState.REFUSED, RunState.LOST]


def finish(
    database: Database,
    claimed: Claim,
    state: RunState = RunState.SUCCEEDED,
    *,
    now: datetime = START,
    recheck: timedelta | None = None,
) -> bool:
    """Close a run; whether it was under way."""
    with database.write() as session:
        run = stored.finish(
            session, claimed.run_id, state, now=now, resync=RESYNC, recheck=recheck, error="reason"
        )
    return run is not None


def unclaim(database: Database, claimed: Claim, now: datetime) -> None:
    """Undo a claim."""
    with database.write() as session:
        under_way.unclaim(session, claimed.run_id, now=now)


def expire(database: Database, now: datetime) -> int:
    """Close lost runs; return how many."""
    with database.write() as session:
        return len(under_way.expire(session, now=now, resync=RESYNC))


@pytest.fixture
def one(database: Database) -> Claim:
    """The run under way of node `one`, for which nothing is asked beyond that; `two` is at rest."""
    put(database)
    claims = claim(database)
    finish(database, claims[TWO])
    return claims[ONE]


def test_a_claim_starts_a_run_that_remembers_why(database: Database) -> None:
    put(database)
    claimed = claim(database)[ONE]

    run = run_row(database, claimed.run_id)
    assert (run.state, run.priority, run.requested_at) == (RunState.RUNNING, Priority.CHANGE, START)
    assert run.deadline == claimed.deadline == START + TIMEOUT
    assert run.reasons == list(claimed.reasons) == ["new node", "desired state changed"]
    row = due_row(database)
    assert (row.run_id, row.due_at, row.reasons) == (claimed.run_id, None, [])


def test_a_running_node_is_not_claimed(database: Database, one: Claim) -> None:
    ask(database)
    assert claim(database) == {}


@pytest.mark.parametrize("times", [1, 2, 5])
def test_asking_while_it_runs_makes_exactly_one_more_run(
    database: Database, one: Claim, times: int
) -> None:
    for number in range(times):
        ask(database, reason=f"reason {number}")
    finish(database, one)

    again = claim(database)
    assert again.keys() == {ONE}
    assert again[ONE].reasons == tuple(f"reason {number}" for number in range(times))
    finish(database, again[ONE])
    assert claim(database) == {}


@pytest.mark.parametrize("first_is", ["first", "second"])
def test_asking_twice_merges(database: Database, one: Claim, first_is: str) -> None:
    asked = [
        (START + timedelta(seconds=10), Priority.DRIFT, "late and urgent"),
        (START, Priority.RETRY, "early"),
        (START, Priority.RETRY, "early"),
    ]
    for at, priority, reason in asked if first_is == "first" else reversed(asked):
        ask(database, at=at, priority=priority, reason=reason)
    row = due_row(database)
    assert (row.due_at, row.priority) == (START, Priority.DRIFT)
    assert sorted(row.reasons) == ["early", "late and urgent"]


def test_reasons_are_bounded(database: Database, one: Claim) -> None:
    for number in range(50):
        ask(database, reason=f"reason {number}")
    assert due_row(database).reasons == [f"reason {number}" for number in range(10)]


def test_asking_tells_how_many_nodes_there_are(database: Database, one: Claim) -> None:
    assert ask(database, "one", "two", "nosuch") == 2


def test_a_node_at_rest_is_due_again_after_about_the_resync_time(
    database: Database, one: Claim
) -> None:
    row = due_row(database, "two")
    assert row.due_at is not None
    assert RESYNC * 0.9 <= row.due_at - START <= RESYNC * 1.1
    assert (row.priority, row.reasons) == (Priority.RESYNC, ["resync"])


@pytest.mark.parametrize("state", UNHAPPY)
def test_failures_back_off_and_success_forgets_them(
    database: Database, one: Claim, state: RunState
) -> None:
    claimed, now = one, START
    for failures, longest in enumerate((1, 2, 4, 8, 16, 32, 64, 120, 120), start=1):
        finish(database, claimed, state, now=now)
        row = due_row(database)
        assert row.failures == failures
        assert row.due_at is not None
        assert longest / 2 <= (row.due_at - now).total_seconds() <= longest
        assert row.priority == Priority.RETRY
        now = row.due_at
        claimed = claim(database, now=now)[ONE]
    finish(database, claimed, now=now)
    assert due_row(database).failures == 0


def test_a_manual_request_clears_the_failures_and_goes_at_once(
    database: Database, one: Claim
) -> None:
    finish(database, one, RunState.FAILED)
    ask(database, priority=Priority.DRIFT, at=START + timedelta(hours=1))
    assert due_row(database).failures == 1
    ask(database, priority=Priority.MANUAL)
    row = due_row(database)
    assert (row.failures, row.due_at, row.priority) == (0, START, Priority.MANUAL)
    assert claim(database).keys() == {ONE}


def test_a_failure_does_not_put_off_what_was_asked_for_meanwhile(
    database: Database, one: Claim
) -> None:
    ask(database, priority=Priority.MANUAL, reason="by hand")
    finish(database, one, RunState.FAILED)
    row = due_row(database)
    assert (row.due_at, row.priority) == (START, Priority.MANUAL)
    assert row.reasons == ["by hand", "the last run failed"]


@pytest.mark.parametrize("again", FINAL)
@pytest.mark.parametrize("state", FINAL)
def test_a_run_closes_once(
    database: Database, one: Claim, state: RunState, again: RunState
) -> None:
    assert finish(database, one, state)
    before = contents(database)
    assert not finish(database, one, again)
    assert contents(database) == before
    run = run_row(database, one.run_id)
    assert (run.state, run.closed_at, run.error) == (state, START, "reason")


def test_closing_an_unknown_run_does_nothing(database: Database, one: Claim) -> None:
    before = contents(database)
    assert not finish(database, Claim(ONE, uuid4(), Priority.RESYNC, (), START))
    assert contents(database) == before


def test_a_run_that_was_not_sent_asks_again_for_just_what_was_asked_for(
    database: Database, one: Claim
) -> None:
    unclaim(database, one, START)
    row = due_row(database)
    assert (row.due_at, row.priority, row.failures, row.run_id) == (START, one.priority, 0, None)
    assert not any(run.id == one.run_id for run in contents(database)["runs"])
    assert row.reasons == list(one.reasons)


def test_a_run_remembers_since_when_its_node_was_due(database: Database, one: Claim) -> None:
    finish(database, one)
    ask(database, at=START + timedelta(seconds=3))
    ask(database, at=START + timedelta(seconds=2))
    claimed = claim(database, now=START + timedelta(seconds=5))[ONE]
    assert run_row(database, claimed.run_id).due_at == START + timedelta(seconds=2)
    # The broker did not take it: the node waits since then, and not since this attempt.
    unclaim(database, claimed, START + timedelta(seconds=6))
    again = claim(database, now=START + timedelta(seconds=7))[ONE]
    assert run_row(database, again.run_id).due_at == START + timedelta(seconds=2)


def test_a_recheck_comes_when_the_worker_says(database: Database, one: Claim) -> None:
    finish(database, one, recheck=timedelta(seconds=5))
    row = due_row(database)
    assert (row.due_at, row.reasons) == (START + timedelta(seconds=5), ["recheck"])


def test_a_recheck_later_than_the_resync_does_not_put_that_off(
    database: Database, one: Claim
) -> None:
    """A device that nobody takes up is waited for longer than nodes go unasked."""
    finish(database, one, recheck=RESYNC * 5)
    row = due_row(database)
    assert row.due_at is not None
    assert row.due_at <= START + RESYNC * 1.1
    assert row.reasons == ["resync"]


def test_a_run_is_lost_after_its_deadline_and_backs_off(database: Database, one: Claim) -> None:
    assert expire(database, one.deadline) == 0
    late = one.deadline + timedelta(milliseconds=1)
    assert expire(database, late) == 1
    assert expire(database, late) == 0

    run = run_row(database, one.run_id)
    assert run.state is RunState.LOST
    assert "no report came by the deadline" in str(run.error)
    row = due_row(database)
    assert (row.run_id, row.failures, row.reasons) == (None, 1, ["the last run was lost"])


def test_a_node_that_is_gone_is_not_claimed_and_one_that_is_back_is(database: Database) -> None:
    put(database)
    put(database, snapshot("two"))
    assert claim(database).keys() == {TWO}
    put(database)
    assert claim(database).keys() == {ONE}


def test_the_most_urgent_goes_first_and_then_the_longest_due(database: Database) -> None:
    names = ["resync", "late", "early", "drift", "manual"]
    put(database, snapshot(*names))
    claims = claim(database)
    asked = zip(names, [0, 2, 2, 3, 4], [0, 5, 4, 8, 9], strict=True)
    for name, priority, seconds in asked:
        ask(
            database,
            name,
            priority=Priority(priority),
            at=START + timedelta(seconds=seconds),
        )
        finish(database, claims[swarm_id(name)])
    now = START + timedelta(seconds=10)
    first = [next(iter(claim(database, now=now, limit=1))) for _ in names]
    assert first == [swarm_id(each) for each in ("manual", "drift", "early", "late", "resync")]


def test_no_more_than_the_limit_is_claimed(database: Database) -> None:
    put(database, snapshot("one", "two", "three"))
    assert [len(claim(database, limit=2)) for _ in range(3)] == [2, 1, 0]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param(None, TIMEOUT, id="the deadline of the run under way"),
        pytest.param(timedelta(seconds=7), timedelta(seconds=7), id="a due node"),
    ],
)
def test_the_next_time_is_the_earliest_of_all(
    database: Database, one: Claim, asked: timedelta | None, expected: timedelta
) -> None:
    if asked is not None:
        ask(database, "two", at=START + asked)
    with database.read() as session:
        times = [queue.next_time(session), under_way.next_deadline(session)]
    assert min(each for each in times if each is not None) == START + expected


def test_there_is_no_next_time_without_nodes(database: Database) -> None:
    with database.read() as session:
        assert queue.next_time(session) is None


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_two_controllers_that_claim_at_once_get_different_nodes(database: Database) -> None:
    put(database, snapshot("one", "two", "three"))
    with database.write() as first, database.write() as second:
        taken = [
            {each.node_id for each in queue.claim(session, now=START, limit=limit, timeout=TIMEOUT)}
            for session, limit in ((first, 2), (second, 100))
        ]
    assert [len(each) for each in taken] == [2, 1]
    assert not taken[0] & taken[1]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_asking_after_a_claim_is_not_lost_on_who_read_the_row_before(database: Database) -> None:
    put(database)
    with database.write() as session:
        found = lookup.find_node(session, "one")
        assert found.due.due_at == START
        claimed = claim(database)[ONE]
        queue.request(session, [ONE], at=START, priority=Priority.MANUAL, reason="by hand")
    row = due_row(database)
    assert (row.run_id, row.due_at, row.reasons) == (claimed.run_id, START, ["by hand"])


HELD: dict[str, tuple[type[Node] | type[Cluster], str, object]] = {
    "paused": (Node, "paused_at", START),
    "ignored by label": (Node, "label_ignore", True),
    "down": (Node, "state", "down"),
    "in a paused cluster": (Cluster, "paused_at", START),
}


@pytest.mark.parametrize("how", HELD)
def test_what_is_held_is_not_run_and_gets_one_run_when_it_is_back(
    database: Database, one: Claim, how: str
) -> None:
    table, column, value = HELD[how]
    key = ONE if table is Node else 1
    finish(database, one)
    with database.write() as session:
        before = getattr(session.get_one(table, key), column)
        setattr(session.get_one(table, key), column, value)
    for number in range(100):
        ask(database, reason=f"reason {number}")
    assert claim(database) == {}
    with database.read() as session:
        next_time = queue.next_time(session)
    assert next_time is None or next_time > START, "nobody wakes up for nothing"

    with database.write() as session:
        setattr(session.get_one(table, key), column, before)
    with database.read() as session:
        assert queue.next_time(session) == START
    again = claim(database)[ONE]
    finish(database, again)
    assert claim(database) == {}


def test_a_node_that_waits_climbs_one_priority_a_minute(database: Database) -> None:
    put(database, snapshot("old", "new"))
    for claimed in claim(database).values():
        finish(database, claimed)
    for name, priority, seconds in (("old", Priority.RESYNC, 0), ("new", Priority.CHANGE, 119)):
        ask(database, name, priority=priority, at=START + timedelta(seconds=seconds))
    now = START + timedelta(seconds=200)
    assert claim(database, now=now, limit=1).keys() == {swarm_id("new")}
    ask(
        database,
        "new",
        priority=Priority.CHANGE,
        at=START + timedelta(seconds=121),
    )
    assert claim(database, now=now, limit=1).keys() == {swarm_id("old")}


def test_a_resync_never_starves(database: Database) -> None:
    names = [f"n{number}" for number in range(10)]
    put(database, snapshot("rest", *names))
    for claimed in claim(database).values():
        finish(database, claimed)
    ask(database, "rest", priority=Priority.RESYNC)
    waited = 0
    while True:
        now = START + timedelta(seconds=waited)
        with database.write() as session:
            for name in names:
                queue.request(
                    session, [swarm_id(name)], at=now, priority=Priority.MANUAL, reason="again"
                )
        (claimed,) = claim(database, now=now, limit=1).values()
        if claimed.node_id == swarm_id("rest"):
            break
        finish(database, claimed, now=now)
        waited += 5
    assert 240 - 5 * len(names) <= waited <= 240 + 5 * len(names)


def test_a_claim_of_urgent_nodes_leaves_the_others(database: Database) -> None:
    put(database)
    ask(database, "two", priority=Priority.DRIFT)
    with database.write() as session:
        claims = queue.claim(session, now=START, limit=9, timeout=TIMEOUT, lowest=Priority.DRIFT)
    assert [each.node_id for each in claims] == [TWO]
    with database.read() as session:
        assert queue.next_time(session, lowest=Priority.DRIFT) is None
        assert queue.next_time(session) == START


def test_runs_have_random_uuids_of_their_own(database: Database) -> None:
    put(database, snapshot(*(f"n{number}" for number in range(50))))
    ids = [claimed.run_id for claimed in claim(database).values()]
    assert len(set(ids)) == 50
    assert {(each.version, each.variant) for each in ids} == {(4, RFC_4122)}


def test_what_is_urgent_is_found_without_a_look_at_all_that_waits(database: Database) -> None:
    put(database)
    with database.write() as session:
        session.add_all(
            Node(
                id=swarm_id(f"n{number}x"),
                hostname="n",
                role="worker",
                availability="active",
                state="ready",
                address="192.0.2.1",
                due=DueNode(due_at=START),
            )
            for number in range(3_000)
        )
    ask(database, priority=Priority.MANUAL)
    urgent = {"lowest": Priority.DRIFT, "highest": Priority.MANUAL}
    claims: list[Claim] = []
    claimed = plans(
        database,
        lambda session: claims.extend(
            queue.claim(session, now=START, limit=200, timeout=TIMEOUT, **urgent)
        ),
    )
    assert "ix_due_nodes_urgent" in claimed
    assert [each.node_id for each in claims] == [ONE]
