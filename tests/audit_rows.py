"""Audit rows for tests of questions: any contents, stored as they are."""

import itertools
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import insert

from contract.verdicts import Stage, Urgency, Verdict
from controller.db.audit_models import AuditRow
from controller.db.engine import Database
from tests.fake_clock import START
from tests.fake_swarm import swarm_id

SHOP_VNI = 4097
_positions = itertools.count(1_000_000)
"""Far from those of rows that the program itself appends in the same test."""


def row(at: datetime = START, **others: Any) -> dict[str, Any]:
    """A row about a removal on node `one`, unless told otherwise; `node` and `network` by name."""
    node, network = others.pop("node", "one"), others.pop("network", "shop")
    return {
        "entry_id": uuid4(),
        "at": at,
        "stored_at": at,
        "stage": Stage.APPLIED,
        "actor": "controller",
        "node_id": None if node is None else swarm_id(node),
        "node_name": node,
        "network_id": None if network is None else swarm_id(network),
        "network_name": network,
        "netns": "host",
        "ifindex": 7,
        "name": "vx-001001-shopz",
        "vni": SHOP_VNI,
        "port": 4789,
        "verdict": Verdict.ORPHAN,
        "urgency": Urgency.STALE,
        "reason": "reason",
        "evidence": "what",
        "run_id": None,
        "worker_version": "1.2.3",
        "position": next(_positions),
        "hash": bytes(32),
    } | others


def add(database: Database, *rows: dict[str, Any]) -> Sequence[int]:
    """Store rows in this order; return their numbers."""
    with database.write() as session:
        stored = session.scalars(
            insert(AuditRow).returning(AuditRow.id, sort_by_parameter_order=True), list(rows)
        )
        return list(stored)
