"""The audit trail: adding rows to it, each linked to the one before.

Rows are only ever added, and whoever adds holds the end of the chain (`AuditHead`) until its commit:
so positions have no gaps, and rows stand in the order in which they were stored. A row's hash covers
the hash before it and everything that the row says, so that an edit shows (`controller.verify`).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from contract.messages import DeviceIdentity
from contract.verdicts import Stage, Urgency, Verdict
from controller.models import AuditHead, AuditRow, Network, Node

START: Final = bytes(32)
"""The hash before the first row."""

CHAINED: Final = (
    "entry_id", "at", "stored_at", "stage", "actor", "node_id", "node_name", "network_id",
    "network_name", "place", "ifindex", "name", "vni", "port", "verdict", "urgency", "reason",
    "evidence", "run_id", "worker_version", "position",
)  # fmt: skip
"""What a hash covers, in this order: all but the row's number, which each database gives by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is to be recorded; what does not apply is None.

    Attributes:
        id: what comes twice under one id is recorded once.
        at: when it happened, by the clock of where it happened.
        actor: on whose word.
        node, network: as they are called now; the row keeps the names.
    """

    id: UUID
    stage: Stage
    at: datetime
    reason: str
    actor: str
    node: Node | None = None
    network: Network | None = None
    network_id: str | None = None
    identity: DeviceIdentity | None = None
    verdict: Verdict | None = None
    urgency: Urgency | None = None
    evidence: str | None = None
    run_id: UUID | None = None
    worker_version: str | None = None


def append(session: Session, entries: Sequence[Entry], now: datetime) -> int:
    """Record what is not recorded yet, in this order; return how many rows that made.

    Locks the end of the chain until the session commits: do it last, or at least briefly before.
    """
    if not entries:
        return 0
    head = _locked_head(session)
    ids = {entry.id for entry in entries}
    known = set(session.scalars(select(AuditRow.entry_id).where(AuditRow.entry_id.in_(ids))))
    rows = []
    for entry in entries:
        if entry.id in known:
            continue
        known.add(entry.id)
        row = _values(entry, now)
        row["position"] = head.position + 1
        row["hash"] = link(head.hash, row)
        head.position, head.hash = row["position"], row["hash"]
        rows.append(row)
    if rows:
        session.execute(insert(AuditRow), rows)
    return len(rows)


def link(before: bytes, row: dict[str, Any]) -> bytes:
    """The hash of a row that follows one with the hash `before`."""
    says = json.dumps([_plain(row[name]) for name in CHAINED], separators=(",", ":"))
    return hashlib.sha256(before + says.encode()).digest()


def _plain(value: Any) -> Any:
    """As JSON can say it, the same from every database."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    return value


def _locked_head(session: Session) -> AuditHead:
    dialect = session.get_bind().dialect.name
    into = postgresql.insert if dialect == "postgresql" else sqlite.insert
    locked = (
        select(AuditHead)
        .where(AuditHead.id == 1)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    head = session.scalar(locked)
    if head is None:
        first = into(AuditHead).values(id=1, position=0, hash=START)
        session.execute(first.on_conflict_do_nothing(index_elements=["id"]))
        head = session.scalars(locked).one()
    return head


def _values(entry: Entry, now: datetime) -> dict[str, Any]:
    node, network, identity = entry.node, entry.network, entry.identity
    return {
        "entry_id": entry.id,
        "at": entry.at,
        "stored_at": now,
        "stage": entry.stage,
        "actor": entry.actor,
        "node_id": None if node is None else node.id,
        "node_name": None if node is None else node.hostname,
        "network_id": entry.network_id if network is None else network.id,
        "network_name": None if network is None else network.name,
        "place": None if identity is None else identity.place,
        "ifindex": None if identity is None else identity.ifindex,
        "name": None if identity is None else identity.name,
        "vni": None if identity is None else identity.vni,
        "port": None if identity is None else identity.port,
        "verdict": entry.verdict,
        "urgency": entry.urgency,
        "reason": entry.reason,
        "evidence": entry.evidence,
        "run_id": entry.run_id,
        "worker_version": entry.worker_version,
    }
