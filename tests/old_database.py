"""A database as version 0.1.0 left it (schema 0001), filled; its audit chain is hashed as 0.1.0 did."""

import hashlib
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid5

from alembic import command
from alembic.config import Config
from sqlalchemy import ColumnDefault, Connection, column, create_engine, insert, inspect, table

import migrations
from contract.verdicts import Stage, Verdict
from controller.db.audit_models import AuditHead, AuditRow
from controller.db.models import (
    Attachment,
    Cluster,
    Device,
    DueNode,
    Network,
    NetworkVni,
    Node,
    Run,
)
from controller.db.states import RunState
from controller.db.types import Base
from tests.fake_clock import START
from tests.fake_swarm import cidr, swarm_id

_CHAINED: Final = (
    "entry_id", "at", "stored_at", "stage", "actor", "node_id", "node_name", "network_id",
    "network_name", "netns", "ifindex", "name", "vni", "port", "verdict", "urgency", "reason",
    "evidence", "run_id", "worker_version", "position",
)  # fmt: skip
"""What a hash of 0.1.0 covers: not what later versions added."""
_NAMESPACE: Final = UUID(int=1)
_BATCH: Final = 5_000
DEVICES: Final = 10
"""On each node."""


def make(url: str, *, nodes: int, networks: int, runs: int, audit_rows: int) -> None:
    """Make the schema of 0.1.0 in an empty database, and fill it."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            config = Config()
            config.set_main_option("script_location", str(Path(migrations.__file__).parent))
            config.attributes["connection"] = connection
            command.upgrade(config, "0001")
            _fill_swarm(connection, nodes, networks)
            _add(connection, Run, [_run(number, nodes) for number in range(runs)])
            _fill_audit(connection, nodes, networks, audit_rows)
    finally:
        engine.dispose()


def node_name(number: int) -> str:
    """The name of a node."""
    return f"node-{number:04}"


def _add(connection: Connection, kind: type[Base], rows: list[dict[str, Any]]) -> None:
    """Insert rows with the defaults of today's columns, as far as 0.1.0 has these columns."""
    had = {found["name"] for found in inspect(connection).get_columns(kind.__tablename__)}
    columns = [
        found for found in Base.metadata.tables[kind.__tablename__].columns if found.name in had
    ]
    given = {
        found.name: default.arg(None) if default.is_callable else default.arg
        for found in columns
        if isinstance(default := found.default, ColumnDefault)
    }
    old = table(kind.__tablename__, *(column(found.name, found.type) for found in columns))
    for first in range(0, len(rows), _BATCH):
        connection.execute(insert(old), [given | row for row in rows[first : first + _BATCH]])


def _fill_swarm(connection: Connection, nodes: int, networks: int) -> None:
    swarm = {"id": 1, "swarm_id": swarm_id("swarm"), "data_path_port": 4789, "synced_at": START}
    ready = {"status": "True", "reason": "Converged", "message": "ü", "since": START.isoformat()}
    _add(connection, Cluster, [swarm | {"conditions": {"SwarmRead": ready}}])
    names = [node_name(number) for number in range(nodes)]
    _add(connection, Node, [_node(name) | {"conditions": {"Ready": ready}} for name in names])
    due = {"due_at": START, "reasons": ["resync"]}
    _add(connection, DueNode, [{"node_id": swarm_id(name)} | due for name in names])
    every = [(swarm_id(f"net{number}x"), 4096 + number) for number in range(networks)]
    _add(
        connection,
        Network,
        [{"id": id_, "name": f"net{vni - 4096}", "ingress": False} for id_, vni in every],
    )
    _add(
        connection,
        NetworkVni,
        [{"network_id": id_, "vni": vni, "cidr": cidr(vni)} for id_, vni in every],
    )
    on = [
        (name, *every[(number + step) % networks], step)
        for number, name in enumerate(names)
        for step in range(min(DEVICES, networks))
    ]
    _add(
        connection,
        Attachment,
        [
            {"node_id": swarm_id(name), "network_id": id_, "reasons": ["task"], "running": True}
            for name, id_, _, _ in on
        ],
    )
    _add(connection, Device, [_device(*each) for each in on])


def _node(name: str) -> dict[str, Any]:
    return {
        "id": swarm_id(name), "hostname": name, "role": "worker", "availability": "active",
        "state": "ready", "address": "192.0.2.1", "generation": 2, "attempted_generation": 2,
        "converged_generation": 2, "worker_version": "0.1.0", "worker_seen_at": START,
        "last_run_state": RunState.SUCCEEDED, "last_run_at": START,
    }  # fmt: skip


def _device(name: str, network_id: str, vni: int, index: int) -> dict[str, Any]:
    return {
        "node_id": swarm_id(name), "netns": f"nsid:{index}", "ifindex": index + 1,
        "name": f"vx-{vni:06x}-{network_id[:5]}", "vni": vni, "port": 4789, "verdict": Verdict.IN_USE,
        "network_id": network_id, "reason": "its sandbox has 2 endpoint(s)", "evidence": "UP",
        "first_seen_at": START, "judged_at": START, "verdict_at": START,
    }  # fmt: skip


def _run(number: int, nodes: int) -> dict[str, Any]:
    at = START + timedelta(seconds=number)
    return {
        "id": uuid5(_NAMESPACE, f"run {number}"), "node_id": swarm_id(node_name(number % nodes)),
        "state": RunState.SUCCEEDED, "priority": 0, "reasons": ["resync"], "generation": 2,
        "requested_at": at, "deadline": at, "closed_at": at, "devices": DEVICES, "removed": number % 2,
    }  # fmt: skip


def _fill_audit(connection: Connection, nodes: int, networks: int, count: int) -> None:
    digest, rows = bytes(32), []
    for position in range(1, count + 1):
        row = _audit_row(position, nodes, networks)
        values = [_plain(row.get(name)) for name in _CHAINED]
        covered = json.dumps(values, separators=(",", ":")).encode()
        digest = row["hash"] = hashlib.sha256(digest + covered).digest()
        rows.append(row)
    _add(connection, AuditRow, rows)
    head = {"id": 1, "position": count, "hash": digest, "stored_at": rows[-1]["stored_at"]}
    _add(connection, AuditHead, [head])


def _audit_row(position: int, nodes: int, networks: int) -> dict[str, Any]:
    at = START + timedelta(seconds=position)
    node, net = node_name(position % nodes), position % networks
    return {
        "entry_id": uuid5(_NAMESPACE, f"entry {position}"), "at": at, "stored_at": at,
        "stage": Stage.APPLIED, "actor": "controller", "node_id": swarm_id(node), "node_name": node,
        "network_id": swarm_id(f"net{net}x"), "network_name": f"net{net}", "netns": "host",
        "ifindex": position % 1_000, "name": f"vx-{4096 + net:06x}-net{net}", "vni": 4096 + net,
        "port": 4789, "verdict": Verdict.ORPHAN, "reason": f"removed, ü {position}",
        "evidence": "DOWN, no sandbox", "run_id": uuid5(_NAMESPACE, f"run {position}"),
        "worker_version": "0.1.0", "position": position,
    }  # fmt: skip


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    return str(value) if isinstance(value, UUID) else value
