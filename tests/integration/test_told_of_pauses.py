"""A worker hears of a pause: then no request from before it counts, whoever kept it back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from contract.queues import node_queue
from controller.db.engine import Database
from controller.db.models import Cluster, DueNode, Network, Node
from controller.db.states import RunState
from controller.safety import decisions
from controller.safety.decisions import Decision
from controller.workqueue import under_way
from tests.controller_process import ControllerProcess, controller_of
from tests.fake_clock import START, Clock
from tests.fake_docker import FakeDocker
from tests.fake_swarm import SHOP, node, snapshot, swarm_id
from tests.integration.namespaces import Namespace
from tests.integration.test_broker_faults import worker_of
from tests.integration.test_dispatch import show_device
from tests.servers import RedisServer, await_true
from tests.stored import RESYNC, claim, finish, put

ONE, TWO = swarm_id("one"), swarm_id("two")


def look(database: Database, clock: Clock) -> set[str]:
    """Carry out what is due; return the nodes that were asked."""
    claims = claim(database, now=clock.now)
    with database.write() as session:
        for each in claims.values():
            finish(session, each.run_id, RunState.SUCCEEDED, now=clock.now, resync=RESYNC)
    return set(claims)


def pause_node(database: Database) -> None:
    with database.write() as session:
        decisions.pause(session, session.get_one(Node, ONE), Decision("ann", None, START))


def pause_cluster(database: Database) -> None:
    with database.write() as session:
        decisions.pause(session, session.get_one(Cluster, 1), Decision("ann", None, START))


def pause_network(database: Database) -> None:
    show_device(database, SHOP.vnis[0])
    with database.write() as session:
        decisions.pause(session, session.get_one(Network, SHOP.id), Decision("ann", None, START))


def ignore_by_label(database: Database) -> None:
    put(database, snapshot(node("one", ignore=True), node("two")))


@pytest.mark.parametrize(
    ("pause", "told", "asked_later"),
    [
        (pause_node, {ONE}, {TWO}),
        (ignore_by_label, {ONE}, {TWO}),
        (pause_cluster, {ONE, TWO}, set[str]()),
        (pause_network, {ONE}, {ONE, TWO}),
    ],
)
def test_a_pause_is_told_once(
    database: Database,
    clock: Clock,
    pause: Callable[[Database], None],
    told: set[str],
    asked_later: set[str],
) -> None:
    put(database, snapshot(node("one"), node("two")))
    assert look(database, clock) == {ONE, TWO}
    pause(database)
    assert look(database, clock) == told
    clock.advance(2 * RESYNC.total_seconds())
    assert look(database, clock) == asked_later


def test_a_pause_that_could_not_be_sent_is_sent_later(database: Database, clock: Clock) -> None:
    put(database, snapshot(node("one"), node("two")))
    look(database, clock)
    pause_node(database)
    run = claim(database, now=clock.now)[ONE].run_id
    with database.write() as session:
        under_way.unclaim(session, run, now=clock.now)
    assert look(database, clock) == {ONE}
    assert look(database, clock) == set()


@pytest.mark.parametrize("pause", [pause_node, ignore_by_label, pause_cluster])
def test_a_pause_whose_request_is_lost_is_not_told_again_and_is_no_failure(
    database: Database, clock: Clock, pause: Callable[[Database], None]
) -> None:
    """The worker is away, or somebody takes its messages: then it hears no older request either."""
    put(database, snapshot(node("one"), node("two")))
    look(database, clock)
    pause(database)
    claim(database, now=clock.now)
    clock.advance(3600)
    with database.write() as session:
        under_way.expire(session, now=clock.now, resync=RESYNC)
        row = session.scalars(select(DueNode).where(DueNode.node_id == ONE)).one()
        assert (row.run_id, row.despite_pause, row.failures) == (None, False, 0)
    assert ONE not in look(database, clock)


@pytest.mark.privileged
def test_a_request_that_was_kept_back_goes_around_no_pause(
    in_empty_namespace: int, docker: FakeDocker, redis: RedisServer, tmp_path: Path
) -> None:
    host = Namespace(in_empty_namespace)
    kept_back: list[Any] = []

    def stolen() -> bool:
        with redis.client() as client:
            raw: Any = client.rpop(node_queue(ONE))
        kept_back.extend([] if raw is None else [raw])
        return bool(kept_back)

    with controller_of(tmp_path, docker, redis.url) as controller:
        await_true(stolen, "a request for a worker that does not run yet")
        with worker_of(host, tmp_path, redis.url, NODE_ID=ONE) as worker:
            controller.vxctl("pause", "one")

            def told() -> bool:
                run = newest_run(controller)
                return "paused by admin" in str(run["reasons"]) and run["state"] == "succeeded"

            await_true(told, "the worker has heard of the pause")
            with redis.client() as client:
                client.lpush(node_queue(ONE), *kept_back)
            worker.await_log("older than one that was already run")


def newest_run(controller: ControllerProcess) -> dict[str, Any]:
    """The newest run of node `one`; an empty state: there was none."""
    runs: list[dict[str, Any]] = controller.json("get", "runs", "--node", "one")
    return runs[0] if runs else {"state": "", "reasons": []}
