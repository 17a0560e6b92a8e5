"""Which VNI a rejected task's error is about."""

import pytest

from controller.swarm.faults import Cause, cause_of
from controller.swarm.model import Subnet, SwarmNetwork
from tests.fake_swarm import INGRESS, MAIL, SHOP, network, swarm_id, task

FAULT = "subnet sandbox join failed for {}: error creating vxlan interface: file exists"
TWO = network("two", 5000, 5001)
TWIN = network("twin", 4097)
SAME = SwarmNetwork(swarm_id("same"), "same", False, (Subnet(6000, "10.0.1.0/24"),))
BARE = SwarmNetwork(swarm_id("bare"), "bare", False, (Subnet(7000),))
NETWORKS = (INGRESS, SHOP, MAIL, TWO, SAME, BARE)


def blamed(
    error: str, *names: str, networks: tuple[SwarmNetwork, ...] = NETWORKS, dated: bool = True
) -> Cause:
    rejected = task("t1", "one", *names, live=False, wanted=True, error=error)
    if not dated:
        rejected = task("t1", "one", *names, live=False, wanted=True, error=error, since=None)
    return cause_of(rejected, {each.id: each for each in networks})


@pytest.mark.parametrize(
    ("cidr", "names", "network", "vni"),
    [
        ('"10.0.1.0/24"', ["shop"], "shop", 4097),
        ("10.0.1.0/24", ["ingress", "shop", "mail"], "shop", 4097),
        ('"10.0.1.77/24"', ["shop"], "shop", 4097),
        ('"10.0.137.0/24"', ["two"], "two", 5001),
        ('"10.0.136.0/24"', ["two"], "two", 5000),
    ],
    ids=["quoted", "among several networks", "not in its normal form", "second subnet", "first"],
)
def test_the_subnet_of_the_error_is_looked_up_in_the_tasks_own_networks(
    cidr: str, names: list[str], network: str, vni: int
) -> None:
    found = blamed(FAULT.format(cidr), *names)
    assert (found.network_id, found.vni, found.doubt) == (swarm_id(network), vni, None)


@pytest.mark.parametrize(
    ("error", "names", "networks", "vni", "reason"),
    [
        (FAULT.format('"10.9.9.0/24"'), ["shop"], NETWORKS, None, "no network of the task has it"),
        (FAULT.format('"10.0.1.0/24"'), ["mail"], NETWORKS, None, "no network of the task has it"),
        (FAULT.format('"10.0.1.0/24"'), ["gone"], NETWORKS, None, "no network of the task has it"),
        (
            FAULT.format('"10.0.1.0/24"'),
            ["shop", "same"],
            NETWORKS,
            None,
            "several networks of the task",
        ),
        (FAULT.format('"10.0.88.0/24"'), ["bare"], NETWORKS, None, "no network of the task has it"),
        (FAULT.format("nonsense"), ["shop", "mail"], NETWORKS, None, "names no subnet"),
        (
            FAULT.format('"10.0.1.0/24"'),
            ["shop"],
            (SHOP, TWIN),
            4097,
            "several networks of the Swarm",
        ),
    ],
    ids=[
        "a subnet that no network has",
        "a subnet of another network",
        "a network that is not listed",
        "two networks with one subnet",
        "a network whose subnets are not known",
        "no subnet",
        "two networks with one VNI",
    ],
)
def test_what_cannot_be_told_for_certain_is_in_doubt(
    error: str, names: list[str], networks: tuple[SwarmNetwork, ...], vni: int | None, reason: str
) -> None:
    found = blamed(error, *names, networks=networks)
    assert found.vni == vni
    assert reason in (found.doubt or "")


def test_an_error_without_a_subnet_is_about_the_only_one_that_the_task_has() -> None:
    error = "error creating vxlan interface: file exists"
    assert blamed(error, "shop") == Cause(swarm_id("shop"), 4097)
    assert blamed(error, "two").doubt is not None


def test_a_rejection_whose_time_makes_no_sense_proves_nothing() -> None:
    assert "when it was rejected" in (
        blamed(FAULT.format('"10.0.1.0/24"'), "shop", dated=False).doubt or ""
    )
