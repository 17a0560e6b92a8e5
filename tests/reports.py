"""What a worker says, each good unless a test says otherwise."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4, uuid5

from pydantic import BaseModel

from contract.messages import (
    MAX_ENTRIES,
    DeviceIdentity,
    DeviceReport,
    Drift,
    JournalEntry,
    ReconcileReport,
    Stamp,
)
from contract.signing.envelope import Opened, node_address
from contract.verdicts import Outcome, Stage, Urgency, Verdict
from tests.fake_clock import START
from tests.fake_swarm import swarm_id
from tests.signed import key_of

_M = TypeVar("_M", bound=BaseModel)

SHOP_VNI = 4097
STAMP = Stamp(session=UUID(int=1), seconds=0)


def identity(ifindex: int = 7, *, vni: int = SHOP_VNI, netns: str = "host") -> DeviceIdentity:
    """A device as Docker names it."""
    return DeviceIdentity(
        netns=netns, ifindex=ifindex, name=f"vx-{vni:06x}-shopz", vni=vni, port=4789
    )


def device(
    ifindex: int = 7,
    verdict: Verdict = Verdict.IN_USE,
    *,
    removed: bool = False,
    vni: int = SHOP_VNI,
) -> DeviceReport:
    """A device as it was judged."""
    return DeviceReport(
        identity=identity(ifindex, vni=vni),
        verdict=verdict,
        urgency=Urgency.BLOCKING if verdict is Verdict.ORPHAN else None,
        network_id=swarm_id("shop"),
        reason="reason",
        evidence="what",
        removed=removed,
    )


def entry(
    sequence: int,
    *,
    stage: Stage = Stage.APPLIED,
    vni: int = SHOP_VNI,
    network: str | None = "shop",
    at: datetime = START,
) -> JournalEntry:
    """A line of a worker's journal."""
    return JournalEntry(
        id=uuid4(),
        sequence=sequence,
        at=at,
        run_id=uuid4(),
        stage=stage,
        identity=identity(vni=vni),
        urgency=Urgency.BLOCKING,
        network_id=None if network is None else swarm_id(network),
        reason="reason",
        evidence="what",
    )


def removal(run_id: UUID, sequence: int, removed: DeviceIdentity) -> JournalEntry:
    """A journal's line of a removal in this run."""
    told = {"id": uuid5(run_id, f"applied {removed}"), "run_id": run_id, "identity": removed}
    return entry(sequence).model_copy(update=told)


def report(
    run_id: UUID | None = None,
    *,
    node: str = "one",
    outcome: Outcome = Outcome.DONE,
    error: str | None = None,
    devices: Sequence[DeviceReport] = (),
    entries: Sequence[JournalEntry] = (),
    journal_id: UUID | None = None,
    **others: Any,
) -> ReconcileReport:
    """A report of a run (unknown unless told) of node `one`, with a journal entry of each removal."""
    run_id = run_id or uuid4()
    if not entries:
        removed = [each for each in devices if each.removed][:MAX_ENTRIES]
        entries = [
            removal(run_id, number, each.identity) for number, each in enumerate(removed, start=1)
        ]
    return ReconcileReport(
        run_id=run_id,
        node_id=swarm_id(node),
        worker_version="1.2.3",
        started_at=START,
        finished_at=START + timedelta(seconds=1),
        outcome=outcome,
        error=error,
        devices=tuple(devices),
        entries=tuple(entries),
        journal_id=journal_id,
        **({"generation": 2, "stamp": STAMP} | others),
    )


def drift(*ifindexes: int, node: str = "one") -> Drift:
    """A hint that these devices have outstayed the grace period."""
    return Drift(
        node_id=swarm_id(node),
        at=START,
        devices=tuple(identity(each) for each in ifindexes),
        stamp=STAMP,
    )


def believed(message: _M) -> Opened[_M]:
    """A message as it is handed on once it was opened."""
    node_id = str(message.node_id)  # type: ignore[attr-defined]
    return Opened(message, key_of(node_id).public.id, node_address(node_id), START)
