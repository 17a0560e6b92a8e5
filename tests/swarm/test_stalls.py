"""A dockerd that is held up halfway loses nothing that it goes on to use, however dead that looks."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.lab import Lab, LabNetwork, Node, cgroups
from tests.servers import await_true
from tests.stack import Stack
from tests.swarm.conftest import clean
from tests.swarm.services import await_packets, await_steady, make_network, make_service, scale
from tests.swarm.stalls import WINDOWS, await_gone, held, shown, slow_disk
from tests.swarm.witness import Deletion, Witness

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(600)]

_GRACE_SECONDS = 0.2
_STARVED_SHARE = 0.05
_REMOVED = ("applied", "uncertain")


@pytest.fixture(scope="module")
def stack(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The operator, one for all of this module, with the shortest grace period."""
    with Stack(lab, tmp_path_factory.mktemp("stalls"), grace=_GRACE_SECONDS) as running:
        yield running


@pytest.fixture
def network(lab: Lab, stack: Stack) -> Iterator[LabNetwork]:
    """A network with a task on the peer, and none on the node; it is named like its services."""
    try:
        made = make_network(lab, "stalled")
        make_service(lab, "peer", made.name, lab.nodes[2])
        make_service(lab, "stalled", made.name, lab.nodes[1], replicas=0)
        lab.wait_tasks("peer", node=lab.nodes[2])
        yield made
    finally:
        clean(lab)


@pytest.fixture
def node(lab: Lab) -> Node:
    """Where dockerd is held up."""
    return lab.nodes[1]


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> float:
    """For how long."""
    chosen: float = request.config.getoption("--stall")
    return chosen


def removals(stack: Stack, node: Node, network: LabNetwork) -> list[dict[str, object]]:
    """What the operator removed of a network on a node, as its worker says."""
    stack.look_now(node, "a test looks")
    return [
        row
        for row in stack.audit(node)
        if row["vni"] == network.vnis[0] and row["stage"] in _REMOVED
    ]


def await_works(lab: Lab, node: Node, network: LabNetwork) -> None:
    """Wait until the task on the node runs, and reaches the one on the peer."""
    await_steady(lab, "stalled", node)
    await_packets((node, "stalled"), (lab.nodes[2], "peer"), network)


@pytest.mark.parametrize("window", [name for name, each in WINDOWS.items() if not each.leaving])
def test_a_dockerd_that_stands_still_in_a_join_keeps_its_device(
    lab: Lab, stack: Stack, node: Node, network: LabNetwork, seconds: float, window: str
) -> None:
    with Witness(node) as witness:
        with held(lab, node, network, "stalled", WINDOWS[window]):
            before = witness.vxlan_deletions()
            time.sleep(seconds)
            after = witness.vxlan_deletions()
        # dockerd stood still: whoever deleted a device then, it was not dockerd.
        assert after == before
        await_works(lab, node, network)
    assert removals(stack, node, network) == []


def test_a_dockerd_that_stands_still_in_a_leave_joins_again(
    lab: Lab, stack: Stack, node: Node, network: LabNetwork, seconds: float
) -> None:
    """What it would have deleted itself may be gone by then; nothing else may."""
    with Witness(node) as witness:
        with held(lab, node, network, "stalled", WINDOWS["device not yet deleted"]) as link:
            before = witness.vxlan_deletions()
            time.sleep(seconds)
            after = witness.vxlan_deletions()
            scale(lab, "stalled", 1)
        assert after[len(before) :] in ([], [Deletion("current", link.ifindex, link.name)])
        await_works(lab, node, network)


def test_a_dockerd_that_waits_for_its_disk_in_a_join_keeps_its_device(
    lab: Lab, stack: Stack, node: Node, network: LabNetwork, seconds: float
) -> None:
    """Unlike one that is stopped it goes on telling the managers that it is alive."""
    version = node.docker("version", "--format", "{{.Server.Version}}")
    if int(version.split(".")[0]) >= 24:
        pytest.skip(f"Docker {version.strip()} writes nothing to disk in the middle of a join")
    window = WINDOWS["endpoint not yet moved"]
    now = None
    # It may have written just before it was stopped, and then waits for nothing.
    for _ in range(3):
        with Witness(node) as witness, ExitStack() as disk:
            with held(lab, node, network, "stalled", window):
                disk.enter_context(slow_disk(node, seconds))
                before = witness.vxlan_deletions()
            time.sleep(seconds - 1.0)
            assert witness.vxlan_deletions() == before
            now = shown(node, network)
        if window.is_open(now):
            break
    else:
        raise AssertionError(f"the disk does not hold dockerd up here: {now}")
    await_works(lab, node, network)
    assert removals(stack, node, network) == []


def test_a_starved_dockerd_keeps_its_device_in_a_join(
    lab: Lab, stack: Stack, node: Node, network: LabNetwork
) -> None:
    await_gone(node, network)
    with (
        Witness(node) as witness,
        cgroups.starved(lab.spec.cgroup, node.dockerd_pid(), _STARVED_SHARE),
    ):
        before = witness.vxlan_deletions()
        scale(lab, "stalled", 1)
        lab.wait_tasks("stalled", node=node, timeout=120.0)
        # Neither does dockerd delete a device in a join.
        assert witness.vxlan_deletions() == before
    await_works(lab, node, network)
    assert removals(stack, node, network) == []


def test_these_tests_can_fail_without_proof_a_living_device_is_removed(
    lab: Lab, stack: Stack, node: Node, network: LabNetwork
) -> None:
    worker = stack.workers[node.name]
    proven = list(worker.command)
    worker.stop()
    worker.command[:1] = [sys.executable, "-m", "tests.swarm.worker_without_proof"]
    worker.start()
    try:
        stack.look_now(node, "another worker is there")
        with (
            Witness(node) as witness,
            held(lab, node, network, "stalled", WINDOWS["sandbox without endpoint"]) as link,
        ):
            alive = Deletion(str(link.nsid), link.ifindex, link.name)
            await_true(lambda: alive in witness.vxlan_deletions(), "the living device is removed")
    finally:
        worker.stop()
        worker.command[:] = proven
        worker.start()
