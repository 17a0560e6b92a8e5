"""Reading the Swarm again and again: failures change nothing, and a rejected task makes its node due once."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError

from controller.db.engine import Database
from controller.db.models import Attachment, Cluster
from controller.swarm.events import Hint, Hints
from controller.swarm.model import SwarmError, SwarmTask
from controller.swarm.sync import Sync
from controller.workqueue.priorities import Priority
from tests.fake_clock import START, Clock
from tests.fake_swarm import INGRESS, FakeSwarm, Snapshot, network, node, snapshot, swarm_id, task
from tests.stored import claim, contents, due_row, node_row, put

LEAK = 'subnet sandbox join failed for "10.0.2.0/24": error creating vxlan interface: file exists'


NOTHING = Hint()


class Watched:
    """A sync over a Swarm that a test changes at will."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.swarm = FakeSwarm(snapshot())
        self.notified = 0
        self.clock = clock
        self.hints = Hints()
        self.sync = Sync(
            self.swarm,
            database,
            hints=self.hints,
            notify=self._notify,
            period=2.0,
            resync=60.0,
            share=0.1,
            utcnow=clock,
            monotonic=clock.monotonic,
        )

    def see(self, answer: Snapshot | SwarmError) -> bool:
        """Look once at all of this."""
        self.swarm.answer = answer
        self.hints.add(Hint(everything=True))
        return self.sync.step()

    def hear(self, answer: Snapshot, hint: Hint = NOTHING, *, after: float = 2.0) -> set[str]:
        """Look at what a hint names, a while later; return the nodes whose tasks were asked for."""
        self.swarm.answer = answer
        self.swarm.asked.clear()
        self.clock.advance(after)
        self.hints.add(hint)
        assert self.sync.step()
        return {id_ for what, ids in self.swarm.asked if what == "tasks_of_nodes" for id_ in ids}

    @property
    def whole(self) -> bool:
        """Whether everything was read since the last hint."""
        return ("nodes", ()) in self.swarm.asked

    def takes(self, **seconds: float) -> None:
        """Let each of these questions take so long."""

        def pass_time(question: str) -> None:
            self.clock.advance(seconds.get(question, 0.0))

        self.swarm.before = pass_time

    def _notify(self, _priority: Priority | None = None, /) -> None:
        self.notified += 1


@pytest.fixture
def watched(database: Database, clock: Clock) -> Watched:
    """A sync that has not looked yet."""
    return Watched(database, clock)


def cluster(database: Database) -> Cluster:
    """What is known of the cluster."""
    with database.read() as session:
        return session.get_one(Cluster, 1)


def rejected(name: str = "t1", on: str = "one", error: str = LEAK) -> Snapshot:
    """A Swarm in which a node rejected a task."""
    return snapshot(tasks=[task(name, on, "shop", live=False, error=error)])


def test_what_the_swarm_says_is_stored_and_the_dispatcher_is_told(
    database: Database, watched: Watched
) -> None:
    assert watched.see(snapshot())
    assert node_row(database).hostname == "one"
    assert watched.notified == 1


def test_before_the_first_reading_a_failure_leaves_the_database_empty(
    database: Database, watched: Watched
) -> None:
    assert not watched.see(SwarmError("no leader"))
    assert not any(contents(database).values())
    assert watched.notified == 0


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        pytest.param(SwarmError("no leader"), "no leader", id="an error"),
        pytest.param(snapshot(swarm="other"), "is of Swarm other", id="another Swarm"),
    ],
)
def test_a_failure_leaves_desired_state_as_it_was_and_stores_the_reason(
    database: Database,
    watched: Watched,
    clock: Clock,
    answer: Snapshot | SwarmError,
    problem: str,
) -> None:
    watched.see(snapshot(tasks=[task("t1", "one", "shop")]))
    before = contents(database)
    clock.advance(5)

    assert not watched.see(answer)

    after = contents(database)
    assert {**after, "cluster": []} == {**before, "cluster": []}
    found = cluster(database)
    assert problem in str(found.sync_error)
    assert (found.synced_at, found.sync_error_at) == (START, clock.now)
    assert watched.notified == 1


def test_it_recovers(database: Database, watched: Watched, clock: Clock) -> None:
    watched.see(snapshot())
    watched.see(SwarmError("no leader"))
    clock.advance(5)
    assert watched.see(snapshot())
    found = cluster(database)
    assert (found.sync_error, found.sync_error_at, found.synced_at) == (None, None, clock.now)


def test_a_rejected_task_makes_its_node_due_at_once(database: Database, watched: Watched) -> None:
    watched.see(snapshot())
    claim(database)
    watched.see(rejected())
    row = due_row(database)
    assert (row.due_at, row.priority) == (START, Priority.DRIFT)
    assert row.reasons == [f"task {swarm_id('t1')} was rejected: {LEAK}"]
    assert due_row(database, "two").due_at is None


def test_a_task_makes_its_node_due_once_however_long_it_is_listed(
    database: Database, watched: Watched
) -> None:
    watched.see(snapshot())
    for _ in range(3):
        watched.see(rejected())
    assert len(due_row(database).reasons) == len({*due_row(database).reasons})
    claim(database)
    watched.see(rejected())
    assert due_row(database).due_at is None


def test_another_rejected_task_makes_the_node_due_again(
    database: Database, watched: Watched
) -> None:
    watched.see(rejected("t1"))
    claim(database)
    watched.see(rejected("t2"))
    assert due_row(database).priority == Priority.DRIFT


def test_a_failure_in_between_does_not_make_the_node_due_again(
    database: Database, watched: Watched
) -> None:
    watched.see(rejected())
    claim(database)
    watched.see(SwarmError("no leader"))
    watched.see(rejected())
    assert due_row(database).due_at is None


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(rejected(error="No such image: shop:latest"), id="another error"),
        pytest.param(rejected(error=""), id="no error"),
        pytest.param(rejected(on="nosuch"), id="on an unknown node"),
    ],
)
def test_other_tasks_make_no_node_due(
    database: Database, watched: Watched, state: Snapshot
) -> None:
    watched.see(snapshot())
    claim(database)
    assert watched.see(state)
    assert due_row(database).due_at is None


def test_a_rejection_that_could_not_be_stored_is_not_forgotten(
    database: Database, watched: Watched
) -> None:
    watched.see(snapshot())
    claim(database)

    def fail(*_: object) -> None:
        raise OperationalError("COMMIT", None, Exception("disk full"))

    event.listen(database.engine, "commit", fail)
    with pytest.raises(OperationalError):
        watched.see(rejected())
    event.remove(database.engine, "commit", fail)
    assert due_row(database).due_at is None

    watched.see(rejected())
    assert due_row(database).priority == Priority.DRIFT


def test_a_node_that_changes_its_name_is_not_due_for_it(
    database: Database, watched: Watched
) -> None:
    watched.see(snapshot())
    claim(database)
    watched.see(snapshot(replace(node("one"), hostname="uno"), "two"))
    assert due_row(database).due_at is None


# --- how often, and how long ---


def test_a_small_swarm_is_read_whole_every_fifth_time(watched: Watched) -> None:
    watched.see(snapshot())
    whole = []
    for _ in range(10):
        watched.hear(snapshot())
        whole.append(watched.whole)
    assert whole == [False, False, False, False, True] * 2


def test_a_large_swarm_is_read_whole_as_seldom_as_it_takes_long(watched: Watched) -> None:
    """One second at a share of a twentieth: the other half of a tenth is for what cannot wait."""
    watched.see(snapshot())
    watched.takes(nodes=1.0)
    watched.hear(snapshot(), after=10.0)
    watched.hear(snapshot(), after=18.9)
    assert not watched.whole
    watched.hear(snapshot(), after=1.2)
    assert watched.whole


def test_a_whole_reading_is_postponed_until_the_manager_has_rested(
    database: Database, watched: Watched
) -> None:
    watched.see(snapshot())
    watched.takes(nodes=10.0)
    watched.hear(snapshot(), after=10.0)
    watched.hear(snapshot(), Hint(everything=True), after=189.0)
    was_whole = watched.whole
    watched.hear(snapshot(), after=2.0)
    assert (was_whole, watched.whole) == (False, True)
    found = cluster(database)
    assert found.sync_seconds == 10.0
    assert found.sync_share is not None
    assert 0.03 < found.sync_share < 0.1


def test_what_cannot_wait_is_bounded_too_and_not_forgotten(watched: Watched) -> None:
    state = snapshot(tasks=[task("t1", "one", "shop", service="web")])
    watched.see(state)
    watched.takes(nodes=100.0)
    watched.hear(state, after=10.0)
    watched.takes(restarting=2.0)
    watched.hear(state)
    hint = Hint(services=frozenset([swarm_id("web")]))
    assert watched.hear(state, hint, after=17.0) == set()
    assert watched.swarm.asked == []
    assert watched.hear(state, after=1.5) == {swarm_id("one")}


def test_a_question_without_an_answer_costs_no_rest(watched: Watched) -> None:
    watched.see(snapshot())
    watched.takes(identity=15.0)
    watched.see(SwarmError("it hangs"))
    watched.takes()
    watched.hear(snapshot(), after=0.5)
    assert watched.whole


# --- what events name ---


LARGE = [f"n{number:02}" for number in range(60)]


def large(*extra: SwarmTask, waiting: tuple[SwarmTask, ...] = ()) -> Snapshot:
    """Sixty nodes with a task each; what is extra besides."""
    tasks = [task(f"base{name}", name, "mail", service=f"svc{name}") for name in LARGE]
    return snapshot(*LARGE, tasks=[*tasks, *extra, *waiting])


@pytest.fixture
def busy(watched: Watched) -> Watched:
    """A sync of a Swarm so large that it was read whole, and will not be for long."""
    watched.see(large())
    watched.takes(nodes=10.0)
    watched.hear(large(), after=10.0)
    watched.takes()
    watched.hear(large())
    return watched


def web(*nodes: str, live: bool = True) -> list[SwarmTask]:
    """The tasks of a service."""
    return [task(f"web{name}", name, "shop", service="web", live=live) for name in nodes]


WEB = Hint(services=frozenset([swarm_id("web")]))


@contextmanager
def rows_of_attachments(database: Database) -> Iterator[list[str]]:
    """The statements about desired state, while they happen."""
    statements: list[str] = []

    def note(_c: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        if "attachments" in statement and "count(" not in statement:
            statements.append(f"{statement} {parameters}")

    event.listen(database.engine, "before_cursor_execute", note)
    yield statements
    event.remove(database.engine, "before_cursor_execute", note)


def carriers(database: Database, name: str = "shop") -> set[str]:
    """Ids of the nodes that should carry a network."""
    with database.read() as session:
        query = select(Attachment.node_id).where(Attachment.network_id == swarm_id(name))
        return set(session.scalars(query))


def ids(*names: str) -> set[str]:
    """Of nodes."""
    return {swarm_id(name) for name in names}


def test_an_event_of_one_service_touches_only_its_nodes(database: Database, busy: Watched) -> None:
    with rows_of_attachments(database) as statements:
        assert busy.hear(large(*web("n03", "n07")), WEB) == ids("n03", "n07")
    assert carriers(database) == ids("n03", "n07")
    assert not busy.whole
    assert statements
    untouched = ids(*LARGE) - ids("n03", "n07")
    assert not [
        statement for statement in statements if any(node in statement for node in untouched)
    ]

    assert busy.hear(large(*web("n07", "n09")), WEB) == ids("n03", "n07", "n09")
    assert carriers(database) == ids("n07", "n09")


def test_a_service_that_is_gone_leaves_its_nodes(database: Database, busy: Watched) -> None:
    busy.hear(large(*web("n03")), WEB)
    assert busy.hear(large(), WEB) == ids("n03")
    assert carriers(database) == set()


def test_a_service_is_watched_until_it_has_settled(database: Database, busy: Watched) -> None:
    """Its tasks are not placed yet when the event comes, and there is no event of tasks."""
    assert busy.hear(large(), WEB) == set()
    assert busy.hear(large(*web("n03"))) == ids("n03")
    assert busy.hear(large(*web("n03", "n07"))) == ids("n07")
    assert carriers(database) == ids("n03", "n07")
    for _ in range(5):
        assert busy.hear(large(*web("n03", "n07"))) == set()
    assert ("tasks_of_service", (swarm_id("web"),)) not in busy.swarm.asked
    assert busy.hear(large(*web("n05"))) == set()


def test_a_task_on_a_network_that_is_not_known_yet(database: Database, busy: Watched) -> None:
    new = replace(
        large(task("webn03", "n03", "new", service="web")),
        networks=(*large().networks, network("new", 4999)),
    )
    assert busy.hear(new, WEB) == ids("n03")
    assert carriers(database, "new") == ids("n03")
    assert not busy.whole


def test_a_node_event_is_about_that_node(database: Database, busy: Watched) -> None:
    claim(database)
    down = replace(
        large(),
        nodes=tuple(
            replace(each, state="down") if each.hostname == "n03" else each
            for each in large().nodes
        ),
    )
    hint = Hint(nodes=frozenset(ids("n03")))
    assert busy.hear(down, hint) == ids("n03")
    assert node_row(database, "n03").state == "down"
    # Its services' tasks go elsewhere.
    assert ("tasks_of_service", (swarm_id("svcn03"),)) in busy.swarm.asked
    assert due_row(database, "n03").due_at is None

    busy.hear(large(), hint)
    row = due_row(database, "n03")
    assert (row.due_at, row.reasons) == (busy.clock.now, ["the node is ready again"])
    assert not busy.whole


@pytest.mark.parametrize(
    "hint",
    [Hint(nodes=frozenset(ids("gone"))), Hint(networks=frozenset(ids("gone")))],
)
def test_whether_what_is_missing_is_gone_only_the_whole_list_says(
    watched: Watched, hint: Hint
) -> None:
    """It is read as soon as the manager has rested, before its turn, which is after 20 s."""
    watched.see(large())
    watched.takes(nodes=1.0)
    watched.hear(large())
    watched.takes()
    watched.hear(large(), hint)
    assert not watched.whole
    watched.hear(large(), after=17.5)
    assert watched.whole


def test_a_manager_of_another_swarm_is_not_listened_to(database: Database, busy: Watched) -> None:
    before = contents(database)
    busy.swarm.answer = replace(large(*web("n03")), swarm_id=swarm_id("other"))
    busy.hints.add(WEB)
    busy.clock.advance(2)
    assert not busy.sync.step()
    after = contents(database)
    assert {**after, "cluster": []} == {**before, "cluster": []}
    assert cluster(database).sync_reason == "SwarmChanged"


def test_a_hint_that_could_not_be_followed_is_not_forgotten(
    database: Database, busy: Watched
) -> None:
    busy.swarm.answer = SwarmError("no leader")
    busy.hints.add(WEB)
    assert not busy.sync.step()
    assert cluster(database).sync_reason == "SwarmUnreadable"
    busy.hear(large(*web("n03")), after=0.1)
    assert carriers(database) == ids("n03")


# --- rejected tasks ---


def test_a_rejected_tasks_node_is_due_before_everything_is_read_again(
    database: Database, busy: Watched
) -> None:
    claim(database)
    refused = task("web1", "n03", "shop", service="web", live=False, error=LEAK)
    successor = task("web2", "n04", "shop", service="web", live=False, wanted=True)
    busy.swarm.waiting = {successor.id}
    busy.hear(large(refused, successor))
    assert not busy.whole
    row = due_row(database, "n03")
    assert (row.due_at, row.priority) == (busy.clock.now, Priority.DRIFT)
    assert due_row(database, "n05").due_at is None
    busy.hear(large(refused, successor))
    assert due_row(database, "n03").reasons == row.reasons


def test_a_task_that_is_rejected_while_it_waits(database: Database, busy: Watched) -> None:
    claim(database)
    refused = task("web1", "n03", "shop", service="web", live=False, wanted=True, error=LEAK)
    busy.swarm.waiting = {refused.id}
    busy.hear(large(refused))
    assert due_row(database, "n03").priority == Priority.DRIFT


def test_a_rejection_does_not_wait_for_the_end_of_a_long_reading(
    database: Database, busy: Watched
) -> None:
    claim(database)
    refused = task("web1", "n03", "shop", service="web", live=False, error=LEAK)
    successor = task("web2", "n03", "shop", service="web", live=False, wanted=True)
    busy.swarm.waiting = {successor.id}
    seen = []

    def look(question: str) -> None:
        busy.clock.advance(3.0 if question == "tasks_of_nodes" else 0.0)
        seen.append((question, due_row(database, "n03").due_at is not None))

    busy.swarm.before = look
    busy.hear(large(refused, successor), Hint(everything=True), after=500.0)
    assert busy.whole
    assert ("tasks_of_nodes", True) in seen


# --- what is not to be believed ---


MANY = [f"s{number:02}" for number in range(12)]
CROWD = snapshot(
    networks=[INGRESS, *(network(name, 5000 + each) for each, name in enumerate(MANY))],
    tasks=[task(f"t{name}", "one", name, service=f"v{name}") for name in MANY],
)
EMPTIED = [
    pytest.param(replace(CROWD, tasks=()), "12 of 14 attachments", id="no tasks"),
    pytest.param(
        replace(CROWD, tasks=(), networks=(INGRESS,)), "12 of 13 networks", id="no networks"
    ),
    pytest.param(
        replace(snapshot("three"), tasks=(), networks=CROWD.networks), "2 of 2 nodes", id="no nodes"
    ),
]


@pytest.mark.parametrize(("emptied", "words"), EMPTIED)
def test_a_great_loss_is_not_believed_before_it_was_said_for_a_while(
    database: Database, watched: Watched, emptied: Snapshot, words: str
) -> None:
    watched.see(CROWD)
    before = contents(database)
    for seconds in (2, 2, 25):
        assert not watched.see(emptied)
        after = contents(database)
        assert {**after, "cluster": []} == {**before, "cluster": []}
        assert cluster(database).sync_reason == "ListShrunk"
        assert words in str(cluster(database).sync_error)
        watched.clock.advance(seconds)
    assert not watched.see(emptied)
    watched.clock.advance(1)
    assert watched.see(emptied)
    assert cluster(database).sync_reason is None
    assert carriers(database, "s00") == set()


def test_two_looks_are_not_enough_however_far_apart(watched: Watched) -> None:
    watched.see(CROWD)
    assert not watched.see(replace(CROWD, tasks=()))
    watched.clock.advance(3600)
    assert not watched.see(replace(CROWD, tasks=()))
    assert watched.see(replace(CROWD, tasks=()))


@pytest.mark.parametrize(
    "between", [CROWD, SwarmError("no leader")], ids=["all there", "unreadable"]
)
def test_the_looks_must_be_in_a_row(watched: Watched, between: Snapshot | SwarmError) -> None:
    watched.see(CROWD)
    for _ in range(2):
        watched.see(replace(CROWD, tasks=()))
        watched.clock.advance(60)
    watched.see(between)
    assert not watched.see(replace(CROWD, tasks=()))


def test_some_may_go_at_once(database: Database, watched: Watched) -> None:
    watched.see(CROWD)
    assert watched.see(replace(CROWD, tasks=CROWD.tasks[:6]))
    assert len(CROWD.tasks) > 6
    assert carriers(database, "s06") == set()


def test_a_great_loss_at_some_nodes_waits_for_the_whole_list(
    database: Database, watched: Watched
) -> None:
    watched.see(CROWD)
    watched.takes(nodes=1.0)
    watched.hear(CROWD)
    watched.hear(replace(CROWD, tasks=()), Hint(nodes=frozenset(ids("one"))))
    assert carriers(database, "s00") == ids("one")
    watched.takes()
    watched.clock.advance(20.0)
    assert not watched.sync.step()
    assert cluster(database).sync_reason == "ListShrunk"


def test_no_networks_at_all_though_tasks_use_some(database: Database, watched: Watched) -> None:
    watched.see(CROWD)
    assert not watched.see(replace(CROWD, networks=()))
    assert cluster(database).sync_reason == "SwarmUnreadable"
    assert carriers(database, "s00") == ids("one")


@pytest.mark.parametrize("question", ["identity", "nodes", "networks", "tasks_of_nodes"])
@pytest.mark.parametrize("nth", [1, 2])
def test_an_error_in_the_middle_changes_nothing(
    database: Database, watched: Watched, question: str, nth: int
) -> None:
    """Each of two questions about the tasks of some nodes, and each of two about who answers."""
    many = [f"n{number:02}" for number in range(60)]
    watched.see(snapshot(*many, tasks=[task("t1", "n01", "shop")]))
    before = contents(database)
    count = 0

    def fail(asked: str) -> None:
        nonlocal count
        count += asked == question
        if count == nth and asked == question:
            raise SwarmError("no leader")

    watched.swarm.before = fail
    failed = not watched.see(snapshot(*many[:58], tasks=[task("t1", "n02", "shop")]))
    if count >= nth:
        assert failed
        after = contents(database)
        assert {**after, "cluster": []} == {**before, "cluster": []}


def test_a_swarm_that_changes_in_the_middle_changes_nothing(
    database: Database, watched: Watched
) -> None:
    watched.see(CROWD)
    before = contents(database)

    def switch(question: str) -> None:
        if question == "tasks_of_nodes":
            other = replace(CROWD, tasks=CROWD.tasks[:10], swarm_id=swarm_id("other"))
            watched.swarm.answer = other

    watched.swarm.before = switch
    assert not watched.see(CROWD)
    after = contents(database)
    assert {**after, "cluster": []} == {**before, "cluster": []}


def test_a_node_that_goes_away_in_the_middle_is_no_failure(
    database: Database, watched: Watched
) -> None:
    watched.see(snapshot("one", "two", "three"))

    def leave(question: str) -> None:
        if question == "tasks_of_nodes":
            watched.swarm.answer = snapshot("one", "two")

    watched.swarm.before = leave
    watched.see(snapshot("one", "two", "three"))
    assert cluster(database).sync_error is None
    assert watched.sync.step()
    assert node_row(database, "three").gone_at is not None


def test_a_node_without_a_digest_is_compared(database: Database, watched: Watched) -> None:
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE nodes SET desired_digest = NULL")
    watched.see(snapshot(tasks=[task("t2", "two", "shop")]))
    assert carriers(database) == ids("two")
