"""Every form of the fault, on a real Swarm: found where it hides, judged by evidence, healed or spared."""

import json
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from contract.queues import node_queue
from tests.lab import Lab, Node, sandbox, wait_until
from tests.servers import await_true
from tests.stack import Stack
from tests.swarm.services import await_packets, failures, make_network, make_service, scale
from tests.trace_collector import PROGRAM_URL, ShownSpan, written

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(600)]

_FAULT = "file exists"


def devices(stack: Stack, node: Node, vni: int) -> list[dict[str, Any]]:
    """What a fresh run finds of a VNI on a node."""
    stack.look_now(node, "a test looks")
    return [each for each in stack.items(f"/api/v1/devices?node={node.name}") if each["vni"] == vni]


def applied(stack: Stack, node: Node, vni: int) -> list[dict[str, Any]]:
    """The removals of devices of a VNI."""
    return [row for row in stack.audit(node) if row["stage"] == "applied" and row["vni"] == vni]


def await_applied(stack: Stack, node: Node, vni: int) -> None:
    """Wait until a device of a VNI was removed."""
    await_true(lambda: applied(stack, node, vni), f"the orphan of VNI {vni} is removed")


def scanned(node: Node) -> list[dict[str, Any]]:
    """What `vxlan-worker scan` tells by itself, without controller or Docker."""
    program = Path(sys.executable).parent / "vxlan-worker"
    options = ["--grace-seconds", "0.5", "--output", "json", "--docker-socket", "/nonexistent"]
    done = node.run([program, "scan", *options], check=False, timeout=30)
    assert done.returncode in (0, 3), done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["devices"]
    return found


def stopped(lab: Lab, service: str) -> bool:
    """Whether no task of a service runs."""
    return all(task.state != "running" for task in lab.tasks(service))


def test_an_orphan_in_a_namespace_without_a_name_is_found_and_removed(
    lab: Lab, stack: Stack, tmp_path: Path
) -> None:
    """And all of it is one trace, which ends when the task runs again."""
    traces = tmp_path / "traces"
    traces.mkdir()
    collector = lab.hub_popen([sys.executable, "-m", "tests.trace_collector", traces])
    stack.controller.stop()
    stack.controller.command += ["--traces-endpoint", PROGRAM_URL]
    stack.controller.start()
    node = lab.nodes[1]
    network = make_network(lab, "hidden")
    make_service(lab, "hidden", network.name, node)
    lab.wait_tasks("hidden", node=node)
    stack.workers[node.name].stop()

    hidden = lab.plant_hidden(node, network)
    try:
        lab.wait_ready()
        await_true(
            lambda: any(_FAULT in error for error in lab.task_errors("hidden")),
            "Swarm rejects the tasks",
        )
        shown = node.run(["ip", "-json", "link", "show", "type", "vxlan"]).stdout
        assert network.vnis[0] not in {
            int(link["ifname"][3:9], 16) for link in json.loads(shown) if link
        }

        told = [each for each in scanned(node) if each["vni"] == network.vnis[0]]
        assert [each["verdict"] for each in told] == ["orphan"]
        assert told[0]["netns"].startswith("nsid:")

        stack.workers[node.name].start()
        await_applied(stack, node, network.vnis[0])
        (row,) = applied(stack, node, network.vnis[0])
        assert row["netns"].startswith("nsid:")
        lab.wait_tasks("hidden", node=node)

        def spans() -> dict[str, ShownSpan]:
            return {span.name: span for span in written(traces).of(row["run_id"])}

        await_true(lambda: "task runs again" in spans(), "the trace has its end")
        found = spans()
        assert found.keys() == {
            *("run", "task rejected", "due", "sent", "look", "removal", "verified", "report"),
            "task runs again",
        }
        # One machine, one clock: nothing had to be shifted.
        assert found["run"].attributes["node_clock.shift_seconds"] == 0
        assert found["removal"].end == datetime.fromisoformat(row["at"])
        assert found["task runs again"].start == found["removal"].end
        (again,) = (task for task in lab.tasks("hidden") if task.state == "running")
        assert found["task runs again"].end == again.since
        assert found["run"].start <= found["task rejected"].start < found["look"].start
    finally:
        hidden.release()
        collector.terminate()


_WITHOUT_BROADCAST = ["setpriv", "--bounding-set", "-net_broadcast", "--inh-caps", "-net_broadcast"]


@pytest.mark.parametrize(
    ("under", "attempts"),
    [([], 1), (_WITHOUT_BROADCAST, 2)],
    ids=["hearing all namespaces", "with NET_ADMIN alone"],
)
def test_a_hidden_orphan_goes_by_the_first_rejected_task_that_came_after_it_was_known(
    lab: Lab, stack: Stack, under: list[str], attempts: int
) -> None:
    """Without CAP_NET_BROADCAST nobody hears of a sandbox: the first rejection leads to the look."""
    node = lab.nodes[1]
    worker = stack.workers[node.name]
    worker.stop()
    worker.command = [*under, *worker.command]
    worker.start()
    network = make_network(lab, "unheard")
    make_service(lab, "unheard", network.name, node)
    lab.wait_tasks("unheard", node=node)
    stack.look_now(node, "a test looks")

    hidden = lab.plant_hidden(node, network)
    try:
        lab.wait_ready()
        await_applied(stack, node, network.vnis[0])
        lab.wait_tasks("unheard", node=node)
        (row,) = applied(stack, node, network.vnis[0])
        assert "proved dead (rejected)" in row["reason"]
        removed = datetime.fromisoformat(row["at"])
        rejected = sorted(
            (task.since, task.id) for task in lab.tasks("unheard") if task.state == "rejected"
        )
        before = [id_ for since, id_ in rejected if since <= removed]
        # Swarm tries again after 0.3 s, and then each second: on a loaded machine some are first. Without
        # the proof it would be minutes.
        assert len(before) <= attempts + 6
        assert any(task_id in row["reason"] for task_id in before)
    finally:
        hidden.release()


def test_a_sandbox_left_by_a_killed_dockerd_does_not_stay(lab: Lab, stack: Stack) -> None:
    """And the sandbox that dockerd then makes carries packets: it does not rely on what we removed."""
    node, peer = lab.nodes[2], lab.nodes[1]
    network = make_network(lab, "stale")
    make_service(lab, "stale", network.name, node)
    make_service(lab, "peer", network.name, peer)
    lab.wait_tasks("stale", node=node)
    lab.wait_tasks("peer", node=peer)
    await_packets((peer, "peer"), (node, "stale"), network)
    scale(lab, "stale", 0)
    node.kill_dockerd()
    node.start_dockerd()
    lab.wait_ready()
    await_true(lambda: not devices(stack, node, network.vnis[0]), "the sandbox's device is gone")
    scale(lab, "stale", 1)
    lab.wait_tasks("stale", node=node, timeout=60.0)
    await_packets((peer, "peer"), (node, "stale"), network)


def test_a_leak_of_each_of_twenty_networks_goes_at_once(lab: Lab, stack: Stack) -> None:
    node = lab.nodes[1]
    networks = [make_network(lab, f"leak{number}") for number in range(20)]
    # Planting takes longer than the grace period; the worker is to see them all at one time.
    stack.workers[node.name].stop()
    planted = [lab.plant_orphan(node, network) for network in networks]
    stack.workers[node.name].start()
    for network in networks:
        await_applied(stack, node, network.vnis[0])
    rows = [applied(stack, node, network.vnis[0])[0] for network in networks]
    assert all("link group" in row["reason"] for row in rows)
    assert {row["urgency"] for row in rows} == {"stale"}
    assert not any(each.exists() for each in planted)


def test_a_foreign_device_on_a_networks_vni_is_named_and_left_alone(lab: Lab, stack: Stack) -> None:
    node = lab.nodes[1]
    network = make_network(lab, "claimed")
    node.run(
        ["ip", "link", "add", "vxlan.calico", "type", "vxlan", "id", str(network.vnis[0]),
         "dstport", "4789", "nolearning"]
    )  # fmt: skip
    try:
        make_service(lab, "claimed", network.name, node)
        await_true(lambda: lab.task_errors("claimed"), "Swarm rejects the task")

        def conflicts() -> list[str]:
            found = devices(stack, node, network.vnis[0])
            return [each["reason"] for each in found if each["verdict"] == "conflict"]

        # It goes and comes with the tasks that Swarm tries: what was seen counts.
        seen = wait_until(conflicts, 60.0, "the conflict is reported")
        assert "claimed" in seen[0]
        assert applied(stack, node, network.vnis[0]) == []
        node.run(["ip", "link", "show", "vxlan.calico"])
    finally:
        node.run(["ip", "link", "delete", "vxlan.calico"])


def test_a_second_subnet_that_has_only_peers_on_other_nodes_is_in_use(
    lab: Lab, stack: Stack
) -> None:
    """Docker makes its device for packets to them, without any endpoint on its bridge (peerdb.go)."""
    node, peer = lab.nodes[1], lab.nodes[2]
    # The Swarm takes each address from either subnet, by chance. The second one has a single address (and
    # the gateway's), which the peer gets: whatever comes later, on the node too, gets one of the first.
    only = "10.60.1.2"
    subnets = ["--subnet=10.60.0.0/24", "--subnet=10.60.1.0/30"]
    lab.manager.docker(
        *("network", "create", "--driver", "overlay", "--attachable", "--label", "test"),
        *(*subnets, "two"),
    )
    network = lab.network("two")
    run = ("run", "--detach", "--network", network.name, "--stop-timeout", "1")
    containers = [peer.docker(*run, "--ip", "10.60.0.99", "bb:1", "sleep", "100000").strip()]
    try:
        # Docker's own endpoint on the peer, the load balancer's, may have taken it.
        if only not in _addresses(peer, network.name):
            containers.append(peer.docker(*run, "--ip", only, "bb:1", "sleep", "100000").strip())
        assert only in _addresses(peer, network.name)
        make_service(lab, "here", network.name, node)
        lab.wait_tasks("here", node=node)
        here = _addresses(node, network.name)
        assert all(address.startswith("10.60.0.") for address in here), here

        def found() -> list[dict[str, Any]]:
            return [device for vni in network.vnis for device in devices(stack, node, vni)]

        await_true(lambda: len(found()) == 2, "the node has a device of each subnet")
        assert {device["verdict"] for device in found()} == {"in_use"}
        alone = sandbox(node, network)
        shown = node.run(
            ["nsenter", f"--net={alone}", "--", "ip", "-json", "link", "show"], inside=True
        ).stdout
        ports = {link["master"] for link in json.loads(shown) if link["ifname"].startswith("veth")}
        assert len(ports) == 1, f"endpoints on both bridges; addresses on the node: {here}"
    finally:
        peer.docker("rm", "--force", *containers)


def _addresses(node: Node, network: str) -> list[str]:
    """The addresses that a node's own endpoints have on a network, the load balancer's among them."""
    (inspected,) = json.loads(node.docker("network", "inspect", network))
    return [each["IPv4Address"].partition("/")[0] for each in inspected["Containers"].values()]


@pytest.mark.timeout(900)  # `--churn` says how many rounds
def test_service_churn_at_the_shortest_grace_harms_no_task(
    lab: Lab, stack: Stack, request: pytest.FixtureRequest
) -> None:
    """A real node takes up or drops a network every few minutes; here it is every other second."""
    networks = [make_network(lab, f"hurry{number}") for number in range(6)]
    names = [f"hurry{number}" for number in range(12)]
    for number, name in enumerate(names):
        make_service(lab, name, networks[number // 2].name, lab.nodes[number % 3], 0)
    for worker in stack.workers.values():
        worker.stop()
        worker.command += ["--grace-seconds", "0.2"]
        worker.start()
    ran: list[tuple[Node, int, datetime, datetime]] = []
    for _ in range(request.config.getoption("--churn")):
        for name in names:
            scale(lab, name, 1)
        began = [lab.wait_tasks(name, timeout=60.0)[0].since for name in names]
        # A task whose network's device was taken away runs on, and is cut off: packets must pass.
        for number in range(0, len(names), 2):
            one, other = (lab.nodes[each % 3] for each in (number, number + 1))
            ends = (one, names[number]), (other, names[number + 1])
            await_packets(*ends, networks[number // 2])
        ended = datetime.now(UTC)
        ran += [
            (lab.nodes[number % 3], networks[number // 2].vnis[0], since, ended)
            for number, since in enumerate(began)
        ]
        for name in names:
            scale(lab, name, 0)
        for name in names:
            await_true(partial(stopped, lab, name), f"{name} stops")
    assert failures(lab, names) == {}
    for node in lab.nodes:
        # With its report comes whatever the worker has not told yet.
        stack.look_now(node, "a test looks")
    harm = [
        row
        for node, vni, since, until in ran
        for row in applied(stack, node, vni)
        if since <= datetime.fromisoformat(row["at"]) <= until
    ]
    assert harm == []


def test_a_queue_of_a_node_does_not_grow_while_its_worker_is_away(lab: Lab, stack: Stack) -> None:
    node = lab.nodes[2]
    stack.workers[node.name].stop()
    for _ in range(5):
        stack.vxctl("requeue", node.name)
    queued = lab.hub_run(["redis-cli", "llen", node_queue(node.swarm_id)]).stdout
    assert int(queued) <= 1
    stack.workers[node.name].start()
    await_true(stack.converged, "it is looked at again")
