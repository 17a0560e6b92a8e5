"""Which network belongs on which node, from a snapshot of the Swarm."""

from collections.abc import Mapping

import pytest

from controller.swarm.desired import DesiredAttachment, NodeAttachments
from controller.swarm.desired import desired_state as desired_state_of
from controller.swarm.model import SwarmTask
from tests.fake_swarm import INGRESS, SHOP, Snapshot, network, snapshot, swarm_id, task

ONE, TWO = swarm_id("one"), swarm_id("two")
INGRESS_ONLY = {INGRESS.id: DesiredAttachment(["ingress"], running=False)}


def desired_state(state: Snapshot) -> Mapping[str, NodeAttachments]:
    """Of a whole Swarm."""
    return desired_state_of([each.id for each in state.nodes], state.networks, state.tasks)


def test_ingress_belongs_on_every_node_without_any_task() -> None:
    assert desired_state(snapshot()) == {ONE: INGRESS_ONLY, TWO: INGRESS_ONLY}


def test_a_swarm_without_ingress_wants_nothing_by_itself() -> None:
    assert desired_state(snapshot(networks=[SHOP])) == {ONE: {}, TWO: {}}


@pytest.mark.parametrize(
    ("tasks", "reasons"),
    [
        pytest.param([task("t1", "one", "shop")], [f"task {swarm_id('t1')}"], id="of a service"),
        pytest.param(
            [task("t1", "one", "shop", attachment=True)],
            [f"container {swarm_id('t1')}"],
            id="of docker run",
        ),
        pytest.param(
            [task("t2", "one", "shop"), task("t1", "one", "shop")],
            [f"task {swarm_id('t1')}", f"task {swarm_id('t2')}"],
            id="two, in the order of their ids",
        ),
        pytest.param(
            [task("t1", "one", "shop", "nosuch")],
            [f"task {swarm_id('t1')}"],
            id="on an unknown network as well",
        ),
        pytest.param([task("t1", "one", "shop", live=False)], None, id="ended"),
        pytest.param([task("t1", "one")], None, id="without networks"),
        pytest.param([task("t1", "elsewhere", "shop")], None, id="of an unknown node"),
        pytest.param([task("t1", "one", "nosuch")], None, id="of an unknown network"),
    ],
)
def test_a_task_wants_its_networks_on_its_node_alone(
    tasks: list[SwarmTask], reasons: list[str] | None
) -> None:
    wanted = desired_state(snapshot(tasks=tasks))
    want = wanted[ONE].get(SHOP.id)
    assert (None if want is None else want.reasons) == reasons
    assert wanted[ONE].keys() == {INGRESS.id} | ({SHOP.id} if reasons else set())
    assert wanted[TWO] == INGRESS_ONLY
    assert wanted.keys() == {ONE, TWO}


@pytest.mark.parametrize(
    ("tasks", "running"),
    [
        pytest.param([task("t1", "one", "shop", live=False, wanted=True)], False, id="rejected"),
        pytest.param(
            [task("t1", "one", "shop", live=False, wanted=True), task("t2", "one", "shop")],
            True,
            id="one of two runs",
        ),
    ],
)
def test_a_network_must_have_its_device_when_a_task_of_it_runs(
    tasks: list[SwarmTask], running: bool
) -> None:
    assert desired_state(snapshot(tasks=tasks))[ONE][SHOP.id].running is running


def test_a_task_may_want_several_networks() -> None:
    wanted = desired_state(snapshot(tasks=[task("t1", "one", "shop", "mail")]))
    assert wanted[ONE].keys() == {INGRESS.id, SHOP.id, swarm_id("mail")}


@pytest.mark.parametrize(
    ("count", "shown", "last"),
    [
        pytest.param(20, 20, f"task {swarm_id('t19')}", id="all of twenty"),
        pytest.param(21, 21, "and 1 more", id="twenty of more"),
        pytest.param(500, 21, "and 480 more", id="twenty of very many"),
    ],
)
def test_reasons_are_bounded(count: int, shown: int, last: str) -> None:
    tasks = [task(f"t{number:02}", "one", "shop") for number in range(count)]
    reasons = desired_state(snapshot(tasks=tasks))[ONE][SHOP.id].reasons
    assert len(reasons) == shown
    assert reasons[-1] == last


def test_the_order_in_which_the_swarm_lists_does_not_matter() -> None:
    tasks = [task(f"t{number}", "one", "shop") for number in range(5)]
    networks = [SHOP, INGRESS, network("mail", 4098)]
    forth = snapshot("one", "two", networks=networks, tasks=tasks)
    back = snapshot("two", "one", networks=networks[::-1], tasks=tasks[::-1])
    assert desired_state(forth) == desired_state(back)
