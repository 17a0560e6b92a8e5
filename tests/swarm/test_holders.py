"""What holds a VNI that dockerd found taken, on a real Swarm: named whatever it is, removed or spared."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Lab, Node
from tests.servers import await_true
from tests.stack import Stack
from tests.swarm.services import make_network, make_service

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(600)]


def ready(stack: Stack, node: Node) -> dict[str, Any]:
    """The condition Ready of a node."""
    found: dict[str, Any] = stack.ask(f"/api/v1/nodes/{node.name}")
    return next(each for each in found["conditions"] if each["type"] == "Ready")


def stages(stack: Stack, node: Node, vni: int) -> list[str]:
    """What the node's worker did with devices of a VNI."""
    rows = stack.audit(node)
    return [row["stage"] for row in rows if row["vni"] == vni and row["stage"] != "verdict_changed"]


def test_a_leaked_device_that_other_software_set_up_is_named_and_goes_by_a_rejected_task(
    lab: Lab, stack: Stack
) -> None:
    """As NetworkManager (`unmanaged-devices=none`) and systemd-networkd do."""
    node = lab.nodes[1]
    network = make_network(lab, "managed")
    planted = lab.plant_orphan(node, network)
    node.run(["ip", "link", "set", planted.name, "up"])
    await_true(lambda: "fe80::" in shown(node, planted.name), "it has a link-local address")
    await_true(
        lambda: network.name in {each["name"] for each in stack.items("/api/v1/networks")},
        "the network is known",
    )
    stack.look_now(node, "a test looks")
    (told,) = stack.items(f"/api/v1/devices?node={node.name}&network=managed")
    assert told["verdict"] == "settling"
    assert "set up by other software than Docker" in told["reason"]
    assert planted.exists(), "nobody has shown that it is dead"

    make_service(lab, "managed", network.name, node)
    await_true(lambda: not planted.exists(), "it goes when a task is rejected")
    lab.wait_tasks("managed", node=node)
    assert stages(stack, node, network.vnis[0]) == ["detected", "planned", "applied", "verified"]
    assert all("was rejected because of it" in row["reason"] for row in applied(stack, node))


def shown(node: Node, device: str) -> str:
    """A device as `ip` shows it, with its addresses."""
    return node.run(["ip", "address", "show", device]).stdout


def applied(stack: Stack, node: Node) -> list[dict[str, Any]]:
    """The removals on a node."""
    return [row for row in stack.audit(node) if row["stage"] == "applied"]


def test_a_leaked_sandbox_with_a_stale_endpoint_is_named_with_what_to_do_and_spared(
    lab: Lab, stack: Stack
) -> None:
    node = lab.nodes[1]
    network = make_network(lab, "held")
    make_service(lab, "held", network.name, node)
    lab.wait_tasks("held", node=node)
    hidden = lab.plant_hidden(node, network)
    try:
        inside = ["nsenter", f"--net={hidden.held.path}", "--", "ip", "link"]
        node.run([*inside, "add", "vethstale", "type", "veth", "peer", "name", "vethgone"])
        node.run([*inside, "set", "vethstale", "master", "br0"])
        lab.wait_ready()
        await_true(
            # The command comes with the report of the run that the rejection led to.
            lambda: "scan --remove" in ready(stack, node)["message"],
            "the node says what holds it",
        )
        condition = ready(stack, node)
        assert (condition["status"], condition["reason"]) == ("False", "VniHeld")
        for words in ("tasks of network held are rejected here", "vethstale"):
            assert words in condition["message"]
        (command,) = re.findall(
            r"`vxlan-worker (scan --remove nsid:\d+#\d+)`", condition["message"]
        )
        (task,) = [each for each in lab.tasks("held") if each.state == "rejected"][:1]
        explained = stack.vxctl("explain", f"node2 {task.error}")
        assert f"holds VNI {network.vnis[0]}" in explained
        status = stack.vxctl("status")
        assert "VniHeld" in status
        assert "vxlan0" in hidden.interfaces(), "an endpoint is an endpoint"
        assert applied(stack, node) == []

        node.run([Path(sys.executable).parent / "vxlan-worker", *command.split()], timeout=60)
        assert "vxlan0" not in hidden.interfaces()
        lab.wait_tasks("held", node=node, timeout=60.0)
        await_true(lambda: ready(stack, node)["status"] == "True", "the node is ready again")
    finally:
        hidden.release()


@pytest.mark.timeout(600)
def test_an_ingress_network_that_nobody_takes_up_is_healed_in_the_end(
    lab: Lab, tmp_path: Any
) -> None:
    """It has no task that could be rejected: a minute without anybody is what proves it dead."""
    node = lab.nodes[2]
    ingress = lab.network("ingress")
    with Stack(lab, tmp_path, grace=1.0, worker_options=["--unclaimed-seconds", "60"]) as stack:
        node.stop_dockerd()
        for device in vxlans(node):
            node.run(["ip", "link", "delete", device])
        planted = lab.plant_orphan(node, ingress)
        node.start_dockerd()
        lab.wait_ready()
        await_true(
            lambda: any(
                each["verdict"] == "settling" and "network ingress is wanted here" in each["reason"]
                for each in stack.items(f"/api/v1/devices?node={node.name}")
            ),
            "it looks dead, and what is waited for is said",
        )
        await_true(lambda: not planted.exists(), "it is removed", 150.0)

        def removals() -> list[dict[str, Any]]:
            return [row for row in applied(stack, node) if row["name"] == planted.name]

        await_true(removals, "the audit trail says so")
        rows = removals()
        assert [row["vni"] for row in rows] == [ingress.vnis[0]]
        assert "nobody took it up for 60 s" in rows[0]["reason"]
    node.restart_dockerd()
    lab.wait_ready()


def vxlans(node: Node) -> list[str]:
    """The VXLAN devices in a node's own namespace."""
    shown = node.run(["ip", "-o", "link", "show", "type", "vxlan"]).stdout
    return [line.split(": ")[1].split("@")[0] for line in shown.splitlines()]
