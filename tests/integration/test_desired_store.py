"""Storing what the Swarm says: what counts as a change, and what leaves everything as it was."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, select

from contract.verdicts import Mode
from controller.db.engine import Database, open_database
from controller.db.models import Attachment, Cluster, Network
from controller.swarm.model import SwarmError, SwarmNetwork, SwarmTask
from controller.workqueue.priorities import Priority
from tests.fake_clock import START
from tests.fake_swarm import INGRESS, MAIL, SHOP, Snapshot, network, node, snapshot, swarm_id, task
from tests.stored import claim, contents, due_row, node_row, put

LATER = START + timedelta(seconds=5)


def attached(database: Database, name: str = "one") -> dict[str, list[str]]:
    """Names of the networks that a node should carry, with the reasons."""
    with database.read() as session:
        rows = session.execute(
            select(Network.name, Attachment.reasons)
            .join(Attachment, Attachment.network_id == Network.id)
            .where(Attachment.node_id == swarm_id(name))
        )
        return {row.name: row.reasons for row in rows}


def stored_network(database: Database, name: str) -> Network:
    """A network, by name."""
    with database.read() as session:
        return session.get_one(Network, swarm_id(name))


def test_a_first_snapshot_makes_every_node_due(database: Database) -> None:
    assert put(database) == {swarm_id("one"), swarm_id("two")}
    assert attached(database) == {"ingress": ["ingress"]}
    row = due_row(database)
    assert (row.due_at, row.priority, row.reasons) == (
        START,
        Priority.CHANGE,
        ["new node", "desired state changed"],
    )


@pytest.mark.parametrize(
    "tasks", [[], [task("t1", "one", "shop", "mail"), task("c1", "two", "shop", attachment=True)]]
)
def test_the_same_snapshot_again_changes_nothing_at_all(
    database: Database, tasks: list[SwarmTask]
) -> None:
    state = snapshot(networks=[INGRESS, network("shop", 4097, 4100), MAIL], tasks=tasks)
    put(database, state)
    before = contents(database)
    assert put(database, state) == frozenset()
    assert contents(database) == before


NAMES = st.sampled_from(["a", "b", "c"])


@st.composite
def swarms(draw: st.DrawFn) -> Snapshot:
    """Small Swarms that share node, network and task names, so that one follows another."""
    tasks = [
        task(f"t{number}", draw(NAMES), *draw(st.sets(NAMES)), live=draw(st.booleans()))
        for number in range(draw(st.integers(0, 4)))
    ]
    networks = [
        network(f"{name}", *sorted(draw(st.sets(st.integers(4096, 4099), max_size=3))))
        for name in sorted(draw(st.sets(NAMES)))
    ]
    nodes = sorted(draw(st.sets(NAMES, min_size=1)))
    return snapshot(*nodes, networks=[INGRESS, *networks], tasks=tasks)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(first=swarms(), second=swarms())
def test_whatever_came_before_storing_twice_is_storing_once(
    tmp_path_factory: pytest.TempPathFactory, first: Snapshot, second: Snapshot
) -> None:
    database = open_database(f"sqlite:///{tmp_path_factory.mktemp('law') / 'c.db'}")
    put(database, first)
    generations = {each.id: node_row(database, each.hostname).generation for each in first.nodes}
    wanted = {each.id: attached(database, each.hostname).keys() for each in first.nodes}

    changed = put(database, second, LATER)
    before = contents(database)
    assert put(database, second, LATER) == frozenset()

    assert contents(database) == before
    for each in second.nodes:
        assert (each.id in changed) == (
            attached(database, each.hostname).keys() != wanted.get(each.id, set())
        )
        if each.id in generations:
            generation = node_row(database, each.hostname).generation
            assert generation == generations[each.id] + (each.id in changed)
    database.close()


@pytest.mark.parametrize(
    ("tasks", "changes"),
    [
        pytest.param([task("t1", "one", "shop")], False, id="nothing"),
        pytest.param([task("t2", "one", "shop")], False, id="another task of the network"),
        pytest.param(
            [task("t1", "one", "shop"), task("t2", "one", "shop")], False, id="one task more"
        ),
        pytest.param([task("t1", "one", "shop", attachment=True)], False, id="another kind"),
        pytest.param([task("t1", "one", "shop", "mail")], True, id="one network more"),
        pytest.param([task("t1", "one", "mail")], True, id="another network"),
        pytest.param([task("t1", "one", "shop", live=False)], True, id="the last task ended"),
        pytest.param([], True, id="the last task went"),
    ],
)
def test_the_generation_goes_up_only_when_the_set_of_networks_changes(
    database: Database, tasks: list[SwarmTask], changes: bool
) -> None:
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    before = node_row(database), node_row(database, "two")
    claim(database)

    changed = put(database, snapshot(tasks=tasks), LATER)

    assert changed == ({swarm_id("one")} if changes else set())
    assert node_row(database).generation == before[0].generation + changes
    assert node_row(database, "two").generation == before[1].generation
    assert due_row(database).due_at == (LATER if changes else None)
    assert due_row(database, "two").due_at is None


def test_reasons_are_kept_up_to_date_all_the_same(database: Database) -> None:
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    put(database, snapshot(tasks=[task("t2", "one", "shop")]), LATER)
    assert attached(database)["shop"] == [f"task {swarm_id('t2')}"]


def test_a_node_that_is_gone_wants_nothing_and_keeps_its_row(database: Database) -> None:
    put(database, snapshot("one", "two", tasks=[task("t1", "one", "shop")]))
    put(database, snapshot("two", tasks=[task("t1", "one", "shop")]), LATER)

    assert node_row(database).gone_at == LATER
    assert attached(database) == {}
    assert swarm_id("one") not in claim(database, now=LATER)

    put(database, snapshot("two"), LATER + timedelta(hours=1))
    assert node_row(database).gone_at == LATER


def test_a_node_that_is_back_is_due_again(database: Database) -> None:
    put(database)
    claim(database)
    put(database, snapshot("two"), LATER)
    gone = node_row(database)

    changed = put(database, snapshot(), LATER)

    back = node_row(database)
    assert changed == {swarm_id("one")}
    assert back.gone_at is None
    assert back.generation > gone.generation
    assert attached(database) == {"ingress": ["ingress"]}
    assert due_row(database).due_at == LATER


def test_a_node_is_known_by_its_id_and_not_by_its_name(database: Database) -> None:
    put(database)
    renamed = replace(node("one"), hostname="uno", role="manager", state="down", address="::1")
    assert put(database, snapshot(renamed, "two"), LATER) == frozenset()
    found = node_row(database)
    assert (found.hostname, found.role, found.state, found.address) == (
        "uno",
        "manager",
        "down",
        "::1",
    )


def test_a_network_that_is_gone_is_wanted_nowhere_and_keeps_its_name(database: Database) -> None:
    tasks = [task("t1", "one", "shop")]
    put(database, snapshot(tasks=tasks))

    changed = put(database, snapshot(networks=[INGRESS, MAIL], tasks=tasks), LATER)

    assert changed == {swarm_id("one")}
    gone = stored_network(database, "shop")
    assert (gone.name, gone.gone_at, [row.vni for row in gone.vnis]) == ("shop", LATER, [4097])

    put(database, snapshot(tasks=tasks), LATER)
    assert stored_network(database, "shop").gone_at is None
    assert attached(database).keys() == {"ingress", "shop"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param((4097,), (4097, 4100), id="a subnet more"),
        pytest.param((4097, 4100), (4100,), id="a subnet less"),
        pytest.param((4097, 4100), (4097, 4101), id="another one"),
        pytest.param((4097,), (), id="none any more"),
        pytest.param((), (4097,), id="first none"),
        pytest.param((4098,), (4097,), id="one that another network had"),
    ],
)
def test_a_networks_list_of_vnis_may_change(
    database: Database, before: tuple[int, ...], after: tuple[int, ...]
) -> None:
    for vnis in (before, after):
        others: list[SwarmNetwork] = [INGRESS, network("mail", *before)]
        put(database, snapshot(networks=[*others, network("shop", *vnis)]))
    assert tuple(row.vni for row in stored_network(database, "shop").vnis) == after
    assert tuple(row.vni for row in stored_network(database, "mail").vnis) == before


def test_another_swarm_is_refused_and_nothing_is_changed(database: Database) -> None:
    put(database)
    before = contents(database)
    with pytest.raises(SwarmError, match=rf"about Swarm {swarm_id('swarm')}.*{swarm_id('other')}"):
        put(database, snapshot("three", networks=[SHOP], swarm="other"), LATER)
    assert contents(database) == before


def test_the_cluster_says_when_it_was_read_and_with_which_port(database: Database) -> None:
    put(database)
    put(database, snapshot(port=4790), LATER)
    with database.read() as session:
        cluster = session.get_one(Cluster, 1)
    assert (cluster.data_path_port, cluster.synced_at, cluster.sync_error) == (4790, LATER, None)


def test_labels_are_stored_and_a_changed_one_makes_its_nodes_due(database: Database) -> None:
    tasks = [task("t1", "one", "shop")]
    put(database, snapshot(tasks=tasks))
    claim(database)

    labelled = network("shop", 4097, mode=Mode.OBSERVE)
    state = snapshot("one", node("two", ignore=True), networks=[INGRESS, labelled], tasks=tasks)
    assert put(database, state, LATER) == frozenset()

    assert stored_network(database, "shop").label_mode is Mode.OBSERVE
    assert node_row(database, "two").label_ignore
    for name, reason in (
        ("one", "a network's labels changed"),
        ("two", "the node's labels changed"),
    ):
        row = due_row(database, name)
        assert (row.due_at, row.priority, row.reasons) == (LATER, Priority.CHANGE, [reason])

    put(database, snapshot(tasks=tasks), LATER)
    assert stored_network(database, "shop").label_mode is None
    assert not node_row(database, "two").label_ignore


@pytest.mark.parametrize(
    ("before", "after", "due"),
    [("down", "ready", True), ("unknown", "ready", True), ("ready", "down", False)],
)
def test_a_node_that_is_ready_again_is_due_once(
    database: Database, before: str, after: str, due: bool
) -> None:
    put(database, snapshot("one"))
    claim(database)  # which leaves out nodes that are down
    put(database, snapshot(node("one", state=before)))
    for _ in range(2):
        put(database, snapshot(node("one", state=after)), LATER)
    row = due_row(database)
    assert row.due_at == (LATER if due else None)
    assert row.reasons == (["the node is ready again"] if due else [])


def test_rows_that_nobody_knows_the_digest_of_are_compared(database: Database) -> None:
    put(database, snapshot(tasks=[task("t1", "one", "shop")]))
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE nodes SET desired_digest = NULL")
        connection.exec_driver_sql("DELETE FROM attachments")
    assert put(database, snapshot(tasks=[task("t1", "one", "shop")])) == {
        swarm_id("one"),
        swarm_id("two"),
    }
    assert attached(database).keys() == {"ingress", "shop"}


def test_nodes_that_did_not_change_cost_no_rows(database: Database) -> None:
    names = [f"n{number}" for number in range(20)]
    put(database, snapshot(*names, tasks=[task("t1", "n1", "shop")]))
    said: list[str] = []

    def note(_c: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        if "attachments" in statement:
            said.append(str(parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    put(database, snapshot(*names, tasks=[task("t1", "n1", "shop")]))
    nothing, said[:] = list(said), []
    put(database, snapshot(*names, tasks=[task("t1", "n2", "shop")]))
    event.remove(database.engine, "before_cursor_execute", note)
    assert nothing == []
    assert said
    others = {swarm_id(name) for name in names} - {swarm_id("n1"), swarm_id("n2")}
    assert not [each for each in said if any(name in each for name in others)]
