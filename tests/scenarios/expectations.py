"""What can be expected: the tables of devices, reports, audit rows, and what the controller knows."""

from collections.abc import Sequence
from typing import Final

from contract.messages import DeviceIdentity, DeviceReport, JournalEntry, ReconcileReport
from tests.scenarios.errors import ScenarioError
from tests.scenarios.language import expectation
from tests.scenarios.table import Row
from tests.scenarios.world import World

_YES: Final = "yes"


def _report(world: World) -> ReconcileReport:
    if world.report is None:
        raise ScenarioError("there is no report: `run` comes first, and the worker must live")
    return world.report


def _identity(identity: DeviceIdentity) -> dict[str, str]:
    return {
        "DEVICE": identity.name,
        "NETNS": identity.netns,
        "IFINDEX": str(identity.ifindex),
        "VNI": str(identity.vni),
        "PORT": str(identity.port),
    }


@expectation(
    "devices",
    "DEVICE",
    "NETNS",
    "IFINDEX",
    "VNI",
    "PORT",
    "VERDICT",
    "URGENCY",
    "PROOF",
    "NETWORK",
    "REMOVED",
    "REASON",
    "EVIDENCE",
    "FILE",
)
def devices(world: World) -> Sequence[Row]:
    """The devices of the last report, in its order."""

    def row(device: DeviceReport) -> Row:
        return {
            **_identity(device.identity),
            "VERDICT": device.verdict,
            "URGENCY": device.urgency or "",
            "PROOF": device.proof or "",
            "NETWORK": device.network_id or "",
            "REMOVED": _YES if device.removed else "",
            "REASON": device.reason,
            "EVIDENCE": device.evidence,
            "FILE": device.netns_file or "",
        }

    return [row(each) for each in _report(world).devices]


@expectation(
    "report", "OUTCOME", "ERROR", "LIMITS", "MISSING", "RECHECK", "WANTS-READING", "WANTS-REJECTION"
)
def report(world: World) -> Sequence[Row]:
    """What else the last report says, in one row."""
    told = _report(world)
    return [
        {
            "OUTCOME": told.outcome,
            "ERROR": told.error or "",
            "LIMITS": "; ".join(told.limitations),
            "MISSING": ", ".join(told.missing),
            "RECHECK": "" if told.recheck_after is None else f"{told.recheck_after:.1f} s",
            "WANTS-READING": _YES if told.wants_reading else "",
            "WANTS-REJECTION": _YES if told.expects_rejection else "",
        }
    ]


_ENTRY: Final = (
    "STAGE",
    "DEVICE",
    "NETNS",
    "IFINDEX",
    "VNI",
    "PORT",
    "URGENCY",
    "NETWORK",
    "REASON",
)


def _entry(entry: JournalEntry) -> Row:
    return {
        **_identity(entry.identity),
        "STAGE": entry.stage,
        "URGENCY": entry.urgency,
        "NETWORK": entry.network_id or "",
        "REASON": entry.reason,
    }


@expectation("audit", *_ENTRY)
def audit(world: World) -> Sequence[Row]:
    """What the controller has stored of the worker's journal since the last `expect audit`."""
    told = [each for each in world.controller.entries if each.run_id != world.node.padding]
    new, world.entries_seen = told[world.entries_seen :], len(told)
    return [_entry(each) for each in new]


@expectation("journal", *_ENTRY)
def journal(world: World) -> Sequence[Row]:
    """What the worker's journal holds: what the controller has not acknowledged."""
    return [_entry(each) for each in world.node.journal()]


@expectation("kernel", "DEVICE", "NETNS", "IFINDEX", "VNI", "PORT", "STATE")
def kernel(world: World) -> Sequence[Row]:
    """The VXLAN devices that are there."""
    return [
        {
            **_identity(each.identity.message()),
            "STATE": "UP" if each.up else "DOWN",
        }
        for each in world.node.kernel.devices()
    ]


@expectation("desired", "NODE", "NETWORK", "RUNNING", "REASONS")
def desired(world: World) -> Sequence[Row]:
    """Which networks the controller wants on which nodes, as the Swarm was read last."""
    return [
        {
            "NODE": node_id,
            "NETWORK": network_id,
            "RUNNING": _YES if want.running else "",
            "REASONS": "; ".join(want.reasons),
        }
        for node_id, wants in world.controller.wants.items()
        for network_id, want in wants.items()
    ]


@expectation("rejections", "NODE", "TASK", "VNI", "SUBNET", "DOUBT")
def rejections(world: World) -> Sequence[Row]:
    """The rejected tasks that requests tell of, the newest first."""
    return [
        {
            "NODE": node_id,
            "TASK": each.task_id,
            "VNI": "" if each.vni is None else str(each.vni),
            "SUBNET": each.subnet or "",
            "DOUBT": each.doubt or "",
        }
        for node_id, each in world.controller.rejections
    ]


@expectation("reading", "ERROR")
def reading(world: World) -> Sequence[Row]:
    """Why the Swarm could not be read last; `-` if it could."""
    return [{"ERROR": world.controller.unreadable or ""}]


@expectation("scan", "DEVICE", "NETNS", "VNI", "STATE", "VERDICT", "REMOVED", "REASON")
def scan(world: World) -> Sequence[Row]:
    """What the last `scan` told."""
    if world.scanned is None:
        raise ScenarioError("there was no `scan` yet")
    return [
        {
            "DEVICE": each["device"],
            "NETNS": each["netns"],
            "VNI": str(each["vni"]),
            "STATE": each["state"],
            "VERDICT": each["verdict"],
            "REMOVED": _YES if each["removed"] else "",
            "REASON": each["reason"],
        }
        for each in world.scanned
    ]
