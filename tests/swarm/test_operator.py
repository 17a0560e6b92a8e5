"""The operator on a real Swarm: it heals the fault, harms nothing, and survives the loss of its parts."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.verdicts import DEVICE_STAGES
from tests.lab import Lab, Node, OrphanDevice
from tests.servers import await_true
from tests.stack import Program, Stack
from tests.swarm.services import await_packets, failures, make_network, make_service, scale
from tests.swarm.witness import Witness

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(600)]

HEALED = ["detected", "planned", "applied", "verified"]
_FAULT = "error creating vxlan interface: file exists"


def await_healed(stack: Stack, left: OrphanDevice) -> None:
    """Wait until the device is gone, and the audit trail says so."""
    await_true(
        # By its number too: a device of the same name may have gone before it.
        lambda: any(
            (row["stage"], row["ifindex"]) == ("verified", left.ifindex)
            for row in stack.audit(left.node, left.name)
        ),
        f"{left.name} is removed and verified",
        # Redis may have taken the request or the report with it: then the run is lost first.
        150.0,
    )
    assert not left.exists()


def test_what_docker_leaked_is_removed_recorded_and_its_tasks_run(lab: Lab, stack: Stack) -> None:
    """Nothing is planted: dockerd is killed while it takes its device away, as in a crash."""
    node = lab.nodes[1]
    network = make_network(lab, "healed")
    make_service(lab, "healed", network.name, node)
    leaked = lab.leak(node, network, "healed", replicas=1).device
    await_true(
        lambda: any(_FAULT in error for error in lab.task_errors("healed")),
        "Swarm rejects the task",
    )

    await_healed(stack, leaked)
    lab.wait_tasks("healed", node=node)

    rows = stack.audit(node, leaked.name)
    assert [row["stage"] for row in rows] == HEALED
    for row in rows:
        assert (row["ifindex"], row["vni"]) == (leaked.ifindex, leaked.vni)
        assert (row["network_id"], row["network_name"]) == (network.id, "healed")
        assert row["netns"] == "host"
    # What is alive was told apart from what is dead, and is still there.
    devices = stack.items(f"/api/v1/devices?node={node.name}")
    assert leaked.name not in {device["name"] for device in devices}


def test_the_verdict_on_a_live_sandbox_is_in_use_and_nothing_is_removed(
    lab: Lab, stack: Stack
) -> None:
    node = lab.nodes[2]
    network = make_network(lab, "alive")
    make_service(lab, "alive", network.name, node, replicas=2)
    lab.wait_tasks("alive", count=2, node=node)

    def judged() -> bool:
        stack.look_now(node, "a test looks")
        devices = stack.items(f"/api/v1/devices?node={node.name}")
        return any(
            device["vni"] == network.vnis[0]
            and device["verdict"] == "in_use"
            and "endpoint" in device["reason"]
            for device in devices
        )

    await_true(judged, "the sandbox's device is judged in_use")
    assert DEVICE_STAGES.isdisjoint(row["stage"] for row in stack.audit(node))


def test_no_task_fails_because_of_the_operator(lab: Lab, stack: Stack) -> None:
    """Fifty services start and stop, at a grace period of one second."""
    networks = [make_network(lab, f"churn{number}") for number in range(5)]
    services = [f"churn{number}" for number in range(50)]
    for number, service in enumerate(services):
        make_service(
            lab, service, networks[number % 5].name, lab.nodes[number % 3], replicas=number % 2
        )
    for ones in (0, 1):
        # Those that run stop, and the others start: networks come to nodes and go.
        for number, service in enumerate(services):
            scale(lab, service, (number + ones + 1) % 2)
        for number, service in enumerate(services):
            if (number + ones + 1) % 2:
                lab.wait_tasks(service, timeout=90.0)
        # A task whose network's device was taken away runs on, and is cut off: packets must pass.
        for first in range(ones, 10, 2):
            one, other = (lab.nodes[each % 3] for each in (first, first + 10))
            ends = (one, services[first]), (other, services[first + 10])
            await_packets(*ends, networks[first % 5])

    assert failures(lab, services) == {}
    for node in lab.nodes:
        trouble = [row for row in stack.audit(node) if row["stage"] in ("failed", "lingering")]
        assert trouble == []


def test_what_is_held_back_is_left_alone_until_it_is_let_go(lab: Lab, stack: Stack) -> None:
    """A network in observe, and then a paused node: each keeps its orphan, and others go meanwhile."""
    node = lab.nodes[1]
    kept, other = make_network(lab, "kept"), make_network(lab, "other")
    await_true(lambda: knows(stack, "kept"), "the controller has read of the network")
    stack.vxctl("mode", "observe", "--network", "kept", "--reason", "a test")
    spared, removed = lab.plant_orphan(node, kept), lab.plant_orphan(node, other)
    await_healed(stack, removed)
    await_true(
        lambda: any("network is observe (kept)" in limit for limit in limitations(stack, node)),
        "the node says what it leaves alone, and why",
    )
    assert spared.exists()
    assert stack.stages(node, spared.name) == ["detected"]
    stack.vxctl("mode", "default", "--network", "kept")
    await_healed(stack, spared)

    stack.vxctl("pause", node.name, "--reason", "a test")
    await_true(lambda: not running(stack, node), "the run under way is over")
    runs = len(stack.items(f"/api/v1/runs?node={node.name}"))
    spared, removed = lab.plant_orphan(node, other), lab.plant_orphan(lab.nodes[2], other)
    await_healed(stack, removed)
    assert spared.exists()
    assert len(stack.items(f"/api/v1/runs?node={node.name}")) == runs
    stack.vxctl("resume", node.name)
    await_healed(stack, spared)


def knows(stack: Stack, network: str) -> bool:
    """Whether the controller knows a network."""
    return network in known(stack)


def known(stack: Stack) -> set[str]:
    """The names of the networks that the controller knows."""
    return {each["name"] for each in stack.items("/api/v1/networks")}


def of_docker(lab: Lab) -> set[str]:
    """The names of the overlay networks that the manager has."""
    command = ("network", "ls", "--filter", "driver=overlay", "--format", "{{.Name}}")
    return set(lab.manager.docker(*command).split())


def limitations(stack: Stack, node: Node) -> list[str]:
    """What a node's last report says that it could not do."""
    told: list[str] = stack.ask(f"/api/v1/nodes/{node.name}")["limitations"]
    return told


def running(stack: Stack, node: Node) -> bool:
    """Whether a run of a node is under way."""
    return stack.ask(f"/api/v1/nodes/{node.name}")["running"] is not None


def _restart(program: Program) -> None:
    program.kill()
    program.start()


@pytest.mark.parametrize(
    "restart",
    [lambda stack: _restart(stack.redis), lambda stack: _restart(stack.controller)],
    ids=["redis", "controller"],
)
def test_what_dies_during_a_run_and_comes_back_costs_no_removal_and_no_record(
    lab: Lab, stack: Stack, restart: Callable[[Stack], None]
) -> None:
    """Twenty orphans at once make a run long enough to lose Redis or the controller in its middle."""
    node = lab.nodes[1]
    networks = [make_network(lab, f"lost{number}") for number in range(20)]
    with Witness(node) as witness:
        planted = [lab.plant_orphan(node, network) for network in networks]
        await_true(
            lambda: any(witness.deletions(each.name) for each in planted), "the first is deleted"
        )
        restart(stack)
        for each in planted:
            await_healed(stack, each)
        for each in planted:
            assert witness.deletions(each.name) == [each.ifindex]
            assert stack.stages(node, each.name) == HEALED


def test_a_manager_that_is_away_changes_no_desired_state(lab: Lab, stack: Stack) -> None:
    def nodes() -> dict[str, int]:
        return {node["hostname"]: node["generation"] for node in stack.items("/api/v1/nodes")}

    make_network(lab, "kept")
    make_service(lab, "kept", "kept", lab.nodes[1])
    lab.wait_tasks("kept")
    await_true(lambda: nodes()["node2"] >= 2, "the network is desired on node2")
    # Those of the tests before are gone for Docker already.
    await_true(lambda: known(stack) == of_docker(lab), "no network is still to be forgotten")
    before = nodes()
    networks = stack.items("/api/v1/networks")
    lab.manager.kill_dockerd()
    try:
        await_true(
            lambda: stack.ask("/api/v1/status")["cluster"]["sync_error"],
            "the failure is told",
        )
        assert nodes() == before
        assert stack.items("/api/v1/networks") == networks
    finally:
        lab.manager.start_dockerd()
        lab.wait_ready()
    await_true(lambda: not stack.ask("/api/v1/status")["cluster"]["sync_error"], "it is read again")


def test_all_in_one_process_heals_one_node(lab: Lab, tmp_path: Path) -> None:
    """`vxctl up`, with SQLite, its own broker, and the worker in the same process."""
    network = make_network(lab, "local")
    command = [
        str(Path(sys.executable).parent / "vxctl"), "up",
        "--docker-host", lab.manager.docker_host,
        "--database-url", f"sqlite:///{tmp_path / 'local.db'}",
        "--journal", str(tmp_path / "journal.jsonl"),
        "--grace-seconds", "1",
    ]  # fmt: skip
    program = Program("up", lab.manager.entry(), command, tmp_path)
    program.start()
    try:
        token = ["--token-file", str(tmp_path / "api-token")]
        vxctl = [command[0], "audit", *token, "--output", "json"]

        def audit() -> subprocess.CompletedProcess[str]:
            return lab.manager.run(vxctl, check=False)

        await_true(lambda: audit().returncode == 0, "it answers")
        planted = lab.plant_orphan(lab.manager, network)
        await_true(lambda: '"verified"' in audit().stdout, "the orphan is removed and recorded")
        assert not planted.exists()
        assert program.stop() == 0, program.said()
    finally:
        program.kill()
        lab.manager.docker("network", "rm", "local")
