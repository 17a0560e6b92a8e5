"""What is read out of one node, network or task of the Docker API."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from contract.verdicts import Mode
from controller.swarm.model import (
    Subnet,
    SwarmNetwork,
    SwarmNode,
    SwarmTask,
)
from controller.swarm.parsing import MAX_ERROR
from controller.swarm.parsing import parse_network as _network
from controller.swarm.parsing import parse_node as _node
from controller.swarm.parsing import parse_task as _task
from tests.fake_clock import START
from tests.fake_docker import VNI_OPTION, raw_network, raw_node, raw_task
from tests.fake_swarm import SHOP, network, node, swarm_id, task

# As Docker 20.10 lists the task of a node whose label was removed.
BY_CONSTRAINTS: Final = {
    "Message": "task rejected by constraint enforcer",
    "Err": "assigned node no longer meets constraints",
}


def without(raw: dict[str, Any], *path: str) -> dict[str, Any]:
    """The same JSON without what is at this path."""
    *outer, last = path
    inner = raw
    for key in outer:
        inner = inner[key]
    del inner[last]
    return raw


def running(**changes: Any) -> dict[str, Any]:
    """A running task as Docker shows it, with changes."""
    return raw_task(task("t1", "one", "shop")) | changes


@pytest.mark.parametrize(
    ("raw", "parsed"),
    [
        pytest.param(raw_node(node("one")), node("one"), id="ready"),
        pytest.param(raw_node(node("one", state="down")), node("one", state="down"), id="down"),
        pytest.param(
            without(raw_node(node("one")), "Status", "Addr"),
            node("one", address=""),
            id="no address",
        ),
        pytest.param(
            without(raw_node(node("one")), "Description", "Hostname"),
            SwarmNode(swarm_id("one"), swarm_id("one"), "worker", "active", "ready", "192.0.2.1"),
            id="never joined, so without a name",
        ),
    ],
)
def test_a_node(raw: dict[str, Any], parsed: SwarmNode) -> None:
    assert _node(raw) == parsed


@pytest.mark.parametrize(
    ("changes", "parsed"),
    [
        pytest.param({}, SHOP, id="one subnet"),
        pytest.param(
            {
                "Options": {VNI_OPTION: "4100,4097"},
                "IPAM": {
                    "Config": [
                        {"Subnet": "10.0.4.0/24"},
                        {"Subnet": "fd00::/64"},
                        {"Subnet": "10.0.1.77/24"},
                    ]
                },
            },
            network("shop", 4100, 4097),
            id="two subnets, in the order of their VNIs, and one of IPv6",
        ),
        pytest.param(
            {"Options": {VNI_OPTION: "4100,4097"}},
            replace(SHOP, subnets=(Subnet(4100), Subnet(4097))),
            id="not as many subnets as VNIs",
        ),
        pytest.param(
            {"IPAM": {"Config": [{"Subnet": "no subnet"}, {}]}},
            replace(SHOP, subnets=(Subnet(4097),)),
            id="a subnet that is none",
        ),
        pytest.param({"IPAM": None}, replace(SHOP, subnets=(Subnet(4097),)), id="null IPAM"),
        pytest.param(
            {"Name": "shop\0" + "x" * 999},
            replace(SHOP, name="shop\ufffd" + "x" * 250),
            id="a name that cannot be stored",
        ),
        pytest.param({"Options": {VNI_OPTION: ""}}, network("shop"), id="none yet, empty"),
        pytest.param({"Options": {}}, network("shop"), id="none yet"),
        pytest.param({"Options": None}, network("shop"), id="null options"),
        pytest.param({"Ingress": True}, network("shop", 4097, ingress=True), id="ingress"),
    ],
)
def test_a_network(changes: dict[str, Any], parsed: SwarmNetwork) -> None:
    assert _network(raw_network(SHOP) | changes) == parsed


@pytest.mark.parametrize("vnis", ["4096,x", "0x1000", "-1", "16777216", "4096 4097"])
def test_a_network_with_vnis_that_make_no_sense_is_refused(vnis: str) -> None:
    with pytest.raises(ValueError, match=r"invalid|VNI"):
        _network(raw_network(SHOP) | {"Options": {VNI_OPTION: vnis}})


@pytest.mark.parametrize(
    ("raw", "parsed"),
    [
        pytest.param(running(), task("t1", "one", "shop"), id="of a service"),
        pytest.param(
            running(Spec={"NetworkAttachmentSpec": {"ContainerID": "c0ffee"}}),
            task("t1", "one", "shop", attachment=True),
            id="of docker run",
        ),
        pytest.param(running(NetworksAttachments=None), task("t1", "one"), id="null attachments"),
        pytest.param(
            without(running(), "NetworksAttachments"), task("t1", "one"), id="no networks"
        ),
        pytest.param(running(NodeID=""), None, id="waits for a node"),
        pytest.param(without(running(), "NodeID"), None, id="has no node yet"),
        pytest.param(
            running(Status={"State": "running"}),
            task("t1", "one", "shop", since=None),
            id="without an error and a time",
        ),
        *(
            pytest.param(
                running(Status={"State": "running", "Timestamp": timestamp}),
                task("t1", "one", "shop", since=since),
                id=f"of {timestamp}",
            )
            for timestamp, since in (
                ("2030-01-01T12:00:00.123456789Z", START + timedelta(microseconds=123456)),
                ("2030-01-01T13:00:00+01:00", START),
                ("0001-01-01T00:00:00Z", None),
                ("0001-01-01T00:00:00+14:00", None),
                ("9999-12-31T23:59:59-14:00", None),
                ("yesterday", None),
                (17, None),
            )
        ),
        pytest.param(
            running(
                NetworksAttachments=[
                    {"Network": {"ID": swarm_id("host"), "DriverState": {"Name": "host"}}},
                    {"Network": {"ID": swarm_id("shop"), "DriverState": None}},
                ]
            ),
            task("t1", "one", "shop"),
            id="on a network that is no overlay, too",
        ),
    ],
)
def test_a_task(raw: dict[str, Any], parsed: SwarmTask | None) -> None:
    assert _task(raw) == parsed


@pytest.mark.parametrize(
    ("desired", "state", "wanted"),
    [
        pytest.param("running", "running", True, id="runs"),
        pytest.param("running", "assigned", True, id="is about to run"),
        pytest.param("ready", "ready", True, id="waits for its predecessor's end"),
        pytest.param("shutdown", "running", True, id="is to end"),
        pytest.param("running", "rejected", True, id="was rejected just now"),
        pytest.param("ready", "failed", True, id="failed just now"),
        pytest.param("complete", "complete", False, id="is complete"),
        pytest.param("complete", "running", True, id="runs, of a job"),
        pytest.param("complete", "failed", False, id="failed, of a job"),
        pytest.param("shutdown", "rejected", False, id="was rejected, and has a successor"),
        pytest.param("running", "complete", False, id="has ended by itself"),
        pytest.param("remove", "starting", True, id="is to be removed"),
        pytest.param("running", "orphaned", True, id="is on a lost node"),
        pytest.param("shutdown", "shutdown", False, id="has ended"),
    ],
)
def test_a_task_counts_while_swarm_wants_it_there(desired: str, state: str, wanted: bool) -> None:
    parsed = _task(running(DesiredState=desired, Status={"State": state, "Err": "reason"}))
    assert parsed is not None
    assert parsed.wanted is wanted
    assert parsed.running is (state == "running")
    assert parsed.error == "reason"
    assert parsed.ending is (wanted and desired in ("shutdown", "remove"))


@pytest.mark.parametrize(
    ("status", "updated", "wanted"),
    [
        (BY_CONSTRAINTS, START.isoformat(), True),
        ({"Message": "assigned node no longer meets constraints"}, START.isoformat(), True),
        ({"Message": "task rejected by volume enforcer"}, START.isoformat(), True),
        (BY_CONSTRAINTS, None, True),
        (BY_CONSTRAINTS, (START - timedelta(minutes=14)).isoformat(), True),
        (BY_CONSTRAINTS, (START - timedelta(minutes=16)).isoformat(), False),
        ({"Message": "preparing", "Err": "No such image: shop:2"}, START.isoformat(), False),
    ],
)
def test_a_task_that_a_manager_calls_rejected_may_live_on_its_node(
    status: dict[str, str], updated: str | None, wanted: bool
) -> None:
    """Its dockerd may be joining a network for it just then."""
    raw = running(DesiredState="shutdown", Status={"State": "rejected"} | status, UpdatedAt=updated)
    parsed = _task(raw, lambda: START)
    assert parsed is not None
    assert (parsed.wanted, parsed.ending, parsed.running) == (wanted, wanted, False)


def test_only_so_much_of_an_error_is_kept() -> None:
    """Its node writes it, and it is searched for the fault's words again and again."""
    parsed = _task(running(Status={"State": "rejected", "Err": "\0x" * 1_000_000}))
    assert parsed is not None
    assert len(parsed.error) == MAX_ERROR
    assert "\0" not in parsed.error


@pytest.mark.parametrize(
    ("labels", "mode", "ignore"),
    [
        pytest.param(None, None, False, id="null"),
        pytest.param({}, None, False, id="none"),
        pytest.param({"vxlan-operator.mode": "observe"}, Mode.OBSERVE, False, id="observe"),
        pytest.param({"vxlan-operator.mode": "enforce"}, Mode.ENFORCE, False, id="enforce"),
        pytest.param({"vxlan-operator.mode": "enforced"}, Mode.OBSERVE, False, id="a wrong mode"),
        pytest.param({"vxlan-operator.mode": ""}, Mode.OBSERVE, False, id="an empty mode"),
        pytest.param({"vxlan-operator.ignore": ""}, None, True, id="ignored"),
        pytest.param({"vxlan-operator.ignore": "True"}, None, True, id="ignored: true"),
        pytest.param({"vxlan-operator.ignore": "1"}, None, True, id="ignored: 1"),
        pytest.param({"vxlan-operator.ignore": "yes"}, None, True, id="ignored: yes"),
        pytest.param({"vxlan-operator.ignore": "false"}, None, False, id="not ignored"),
        pytest.param({"vxlan-operator.ignore": "0"}, None, False, id="not ignored: 0"),
        pytest.param({"vxlan-operator.ignore": "plaese"}, None, True, id="a wrong wish"),
        pytest.param({"vxlan-operator": "observe"}, None, False, id="another label"),
    ],
)
def test_labels_of_nodes_and_networks(
    labels: dict[str, str] | None, mode: Mode | None, ignore: bool
) -> None:
    raw = raw_node(node("one"))
    raw["Spec"]["Labels"] = labels
    assert _node(raw) == node("one", mode=mode, ignore=ignore)
    parsed = _network(raw_network(SHOP) | {"Labels": labels})
    assert parsed == network("shop", 4097, mode=mode, ignore=ignore)
