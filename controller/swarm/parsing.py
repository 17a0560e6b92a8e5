"""What a node, a network and a task are in the Docker API's JSON. Pure, but for warnings about labels."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import structlog

from contract.verdicts import Mode
from controller.safety.labels import IGNORE_LABEL, MODE_LABEL
from controller.swarm.model import Subnet, SwarmNetwork, SwarmNode, SwarmTask, normal_cidr

log = structlog.get_logger(__name__)

_VNI_OPTION: Final = "com.docker.network.driver.overlay.vxlanid_list"
"""Decimal VNIs, comma separated, one per subnet (moby libnetwork/drivers/overlay/ovmanager)."""

_TRUE: Final = frozenset({"", "1", "true", "yes"})
_FALSE: Final = frozenset({"0", "false", "no"})
_ENDED: Final = frozenset({"complete", "shutdown", "failed", "rejected"})
"""Final task states, written by the task's own node (swarmkit api/types.proto), but for `_ENFORCERS`. Not
`remove`, which is only desired, and not `orphaned`, which a manager writes after a day without contact: such
a task may run."""

_ENFORCERS: Final = ("task rejected by ", "assigned node no longer meets constraints")
"""Words of the managers' enforcers. They call a task rejected when its node lost a label or its volume is
drained, whatever the node's dockerd is doing with it, and no state that the node reports later is taken
(swarmkit manager/orchestrator: constraintenforcer, volumeenforcer)."""
_ENFORCED_FOR: Final = timedelta(minutes=15)
"""So long such a task may live on its node: no join takes ten minutes, and clocks may be five apart."""

_REFUSED: Final = frozenset({"failed", "rejected"})
_TO_END: Final = frozenset({"shutdown", "remove"})
"""Desired states of a task that is to end (`complete` is a job's: it ends by itself)."""

MAX_ERROR: Final = 4_000
"""Characters of a task's error, which its node writes; Docker's have a few hundred."""


def _labels(labels: Mapping[str, str] | None, owner: str) -> tuple[Mode | None, bool]:
    """The mode and the ignore label; an unknown value errs on the side of no removal."""
    labels = labels or {}
    mode = labels.get(MODE_LABEL)
    if mode not in (None, *Mode):
        _warn(owner, MODE_LABEL, mode, "counts as observe")
        mode = Mode.OBSERVE
    ignore = labels.get(IGNORE_LABEL, "no").strip().lower()
    if ignore not in _TRUE | _FALSE:
        _warn(owner, IGNORE_LABEL, ignore, "counts as yes")
    return Mode(mode) if mode else None, ignore not in _FALSE


@lru_cache(maxsize=1000)  # labels are read again and again
def _warn(owner: str, label: str, value: str, meaning: str) -> None:
    log.warning("a label's value is not known", owner=owner, label=label, value=value, so=meaning)


def stored_text(raw: Any, max_length: int = 255) -> str:
    """Return text that any database can store (PostgreSQL takes no NUL)."""
    return str(raw)[:max_length].replace("\0", "\ufffd")


def parse_node(raw: Mapping[str, Any]) -> SwarmNode:
    """Parse a node of `GET /nodes`; KeyError and the like: it is none."""
    hostname = stored_text(raw["Description"].get("Hostname") or raw["ID"])
    mode, ignore = _labels(raw["Spec"].get("Labels"), f"node {hostname}")
    return SwarmNode(
        id=raw["ID"],
        hostname=hostname,
        role=raw["Spec"]["Role"],
        availability=raw["Spec"]["Availability"],
        state=raw["Status"]["State"],
        address=stored_text(raw["Status"].get("Addr") or ""),
        label_mode=mode,
        label_ignore=ignore,
    )


def parse_network(raw: Mapping[str, Any]) -> SwarmNetwork:
    """Parse an overlay network of `GET /networks`; KeyError, ValueError and the like: it is none."""
    name = stored_text(raw["Name"])
    listed = (raw.get("Options") or {}).get(_VNI_OPTION) or ""
    vnis = dict.fromkeys(int(vni) for vni in listed.split(",") if vni)
    if not all(0 <= vni < 2**24 for vni in vnis):
        raise ValueError(f"network {name} has a VNI of more than 24 bits: {listed[:100]}")
    subnets = _subnets(list(vnis), (raw.get("IPAM") or {}).get("Config") or ())
    labels = _labels(raw.get("Labels"), f"network {name}")
    return SwarmNetwork(raw["Id"], name, bool(raw.get("Ingress")), subnets, *labels)


def _subnets(vnis: Sequence[int], configs: Sequence[Mapping[str, Any]]) -> tuple[Subnet, ...]:
    """A network's VNIs with their subnets.

    VNIs are given to the IPv4 subnets, in their order (swarmkit networkallocator, allocateDriverState; moby
    ovmanager, NetworkAllocate). Where the counts differ, the subnets stay unknown.
    """
    cidrs = [normal_cidr(config.get("Subnet")) for config in configs]
    ipv4 = [cidr for cidr in cidrs if cidr and ":" not in cidr]
    return tuple(map(Subnet, vnis, ipv4 if len(ipv4) == len(vnis) else [None] * len(vnis)))


def parse_task(
    raw: Mapping[str, Any], utcnow: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> SwarmTask | None:
    """Parse a task of `GET /tasks`; None: it has no node yet; KeyError and the like: it is none."""
    node_id = raw.get("NodeID")
    if not node_id:
        return None
    networks = [
        network["ID"]
        for network in (item["Network"] for item in raw.get("NetworksAttachments") or ())
        # `--network host` and the like are listed too.
        if (network.get("DriverState") or {}).get("Name") in (None, "", "overlay")
    ]
    status = raw["Status"]
    desired, state = raw["DesiredState"], status["State"]
    # Wanted until the node reports the end: dockerd may be held up while it starts a task. And a refused task
    # keeps its desired state until its successor's turn, for the whole restart delay: were it not wanted, the
    # network would seem unwanted just when the fault is there.
    refused = state in _REFUSED
    ended = state in _ENDED and not _may_live(raw, utcnow)
    wanted = not ended or (refused and desired not in _ENDED | _TO_END)
    return SwarmTask(
        id=raw["ID"],
        node_id=node_id,
        networks=tuple(networks),
        attachment="NetworkAttachmentSpec" in raw["Spec"],
        wanted=wanted,
        running=state == "running",
        error=stored_text(status.get("Err") or "", MAX_ERROR),
        service_id=raw.get("ServiceID") or "",
        since=_since(status.get("Timestamp")),
        ending=desired in _TO_END and not ended,
        refused=refused,
        slot=_slot(raw.get("Slot")),
    )


def _may_live(raw: Mapping[str, Any], utcnow: Callable[[], datetime]) -> bool:
    """Whether a manager, not the task's node, has called it rejected, and not long ago."""
    status = raw["Status"]
    words = f"{status.get('Message')} {status.get('Err')}"
    if status["State"] != "rejected" or not any(known in words for known in _ENFORCERS):
        return False
    # Not the status' own time: not every enforcer sets it.
    at = _since(raw.get("UpdatedAt"))
    return at is None or utcnow() - at < _ENFORCED_FOR


def _slot(number: object) -> int:
    """A replica's number; 0: none that a database could store."""
    return number if isinstance(number, int) and 0 < number < 2**31 else 0


def _since(timestamp: object) -> datetime | None:
    """A time of a node's clock; None if it is not plausible."""
    try:
        at = datetime.fromisoformat(str(timestamp)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return at if 1970 <= at.year < 9000 else None
