"""The database as the first release made it and wrote to it: its tables, frozen, and rows in each."""

from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid5

from alembic import command
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Connection,
    DateTime,
    Engine,
    TableClause,
    Text,
    Uuid,
    bindparam,
    column,
    delete,
    insert,
    select,
    table,
    update,
)
from sqlalchemy.types import TypeEngine

from controller.db import schema
from tests.fake_clock import START
from tests.fake_swarm import swarm_id

REVISION: Final = "0001"

_KINDS: Final[dict[str, TypeEngine[Any]]] = {
    "i": BigInteger(),
    "t": Text(),
    "b": Boolean(),
    "j": JSON(),
    "u": Uuid(),
    "d": DateTime(timezone=True),
}
_COLUMNS: Final = {
    "cluster": "id/i swarm_id/t data_path_port/i synced_at/d sync_error/t sync_error_at/d",
    "nodes": (
        "id/t hostname/t role/t availability/t state/t address/t gone_at/d generation/i "
        "attempted_generation/i converged_generation/i worker_version/t worker_seen_at/d "
        "journal_id/u journal_through/i last_error/t limitations/j missing/j"
    ),
    "networks": "id/t name/t ingress/b gone_at/d",
    "network_vnis": "network_id/t vni/i",
    "attachments": "node_id/t network_id/t reasons/j running/b",
    "due_nodes": "node_id/t due_at/d priority/i reasons/j failures/i run_id/u run_deadline/d",
    "runs": (
        "id/u node_id/t state/t priority/i reasons/j generation/i requested_at/d deadline/d "
        "started_at/d finished_at/d closed_at/d devices/i orphans/i removed/i error/t"
    ),
    "devices": (
        "node_id/t netns/t ifindex/i name/t vni/i port/i verdict/t urgency/t network_id/t "
        "reason/t evidence/t first_seen_at/d judged_at/d"
    ),
    "audit": (
        "id/i entry_id/u at/d stored_at/d stage/t node_id/t node_name/t network_id/t network_name/t "
        "netns/t ifindex/i name/t vni/i port/i urgency/t reason/t evidence/t run_id/u worker_version/t"
    ),
}
TABLES: Final[dict[str, TableClause]] = {
    name: table(name, *(column(each[:-2], _KINDS[each[-1]]) for each in columns.split()))
    for name, columns in _COLUMNS.items()
}

Row = dict[str, object]


def make(engine: Engine) -> None:
    """Make the tables, as the first release did."""
    config = schema._config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, REVISION)


def fill(engine: Engine) -> None:
    """Put rows into every table."""
    with engine.begin() as connection:
        for name, row in rows("one").items():
            connection.execute(insert(TABLES[name]), row)
        for number in range(1, 4):
            connection.execute(insert(TABLES["audit"]), audit_row(number))


def contents(engine: Engine) -> dict[str, list[Row]]:
    """Every row of every table, as the first release reads them."""
    with engine.connect() as connection:
        return {
            name: sorted(
                (dict(row) for row in connection.execute(select(each)).mappings()), key=str
            )
            for name, each in TABLES.items()
        }


def work(connection: Connection) -> None:
    """What the first release writes while a cluster of it is at work, statement by statement."""
    tables = TABLES
    # sync: a node and a network come, an attachment too; the first node's generation goes up.
    new = rows("two")
    connection.execute(update(tables["cluster"]).values(synced_at=START + timedelta(seconds=5)))
    for name in ("nodes", "networks", "network_vnis", "attachments", "due_nodes"):
        connection.execute(insert(tables[name]), new[name])
    nodes, due, runs = tables["nodes"], tables["due_nodes"], tables["runs"]
    one = swarm_id("one")
    connection.execute(update(nodes).where(nodes.c.id == one).values(generation=3, state="down"))
    connection.execute(update(tables["networks"]).values(gone_at=START))
    connection.execute(delete(tables["attachments"]).where(tables["attachments"].c.node_id == one))
    # claim, and giving one back
    claimed = connection.execute(
        select(due.c.node_id, nodes.c.generation)
        .join(nodes, nodes.c.id == due.c.node_id)
        .where(due.c.run_id.is_(None), nodes.c.gone_at.is_(None))
        .order_by(due.c.priority.desc(), due.c.due_at)
        .with_for_update(of=due, skip_locked=True)
    ).all()
    assert [row.node_id for row in claimed] == [swarm_id("two")]
    run = new["runs"] | {"state": "running", "closed_at": None}
    connection.execute(insert(runs), run)
    connection.execute(
        update(due)
        .where(due.c.node_id == bindparam("node"))
        .values(run_id=run["id"], run_deadline=START, due_at=None, priority=0, reasons=[]),
        {"node": swarm_id("two")},
    )
    other = run | {"id": uuid("another run")}
    connection.execute(insert(runs), other)
    connection.execute(delete(runs).where(runs.c.id == other["id"]))
    # intake: devices replaced, audit rows added, the run closed
    connection.execute(delete(tables["devices"]))
    connection.execute(insert(tables["devices"]), new["devices"])
    connection.execute(insert(tables["audit"]), audit_row(4))
    connection.execute(update(nodes).values(journal_id=uuid("journal"), journal_through=7))
    connection.execute(
        update(runs).where(runs.c.id == run["id"]).values(state="succeeded", closed_at=START)
    )
    connection.execute(update(due).values(run_id=None, run_deadline=None, due_at=START, failures=0))


def rows(node: str) -> dict[str, Row]:
    """A row of each table but the audit's, about a node and a network of its own."""
    id_, network = swarm_id(node), swarm_id(f"net{node}")
    return {
        "cluster": {
            "id": 1, "swarm_id": swarm_id("swarm"), "data_path_port": 4789, "synced_at": START,
            "sync_error": "no quorum", "sync_error_at": START,
        },
        "nodes": {
            "id": id_, "hostname": node, "role": "worker", "availability": "active",
            "state": "ready", "address": "192.0.2.1", "gone_at": None, "generation": 2,
            "attempted_generation": 2, "converged_generation": 1, "worker_version": "0.1.0",
            "worker_seen_at": START, "journal_id": uuid("journal"), "journal_through": 2**40,
            "last_error": "it's \"broken\"", "limitations": ["old kernel"], "missing": ["shop"],
        },
        "networks": {"id": network, "name": "shöp", "ingress": False, "gone_at": None},
        "network_vnis": {"network_id": network, "vni": 4097},
        "attachments": {
            "node_id": id_, "network_id": network, "reasons": ["task x"], "running": True,
        },
        "due_nodes": {
            "node_id": id_, "due_at": START, "priority": 3, "reasons": ["drift"], "failures": 2,
            "run_id": uuid("run") if node == "one" else None,
            "run_deadline": START if node == "one" else None,
        },
        "runs": {
            "id": uuid(f"run of {node}"), "node_id": id_, "state": "succeeded", "priority": 3,
            "reasons": ["drift"], "generation": 2, "requested_at": START, "deadline": START,
            "started_at": START, "finished_at": START, "closed_at": START, "devices": 3,
            "orphans": 1, "removed": 1, "error": None,
        },
        "devices": {
            "node_id": id_, "netns": "nsid:4", "ifindex": 7, "name": "vxlan0", "vni": 4097,
            "port": 4789, "verdict": "orphan", "urgency": "blocking", "network_id": network,
            "reason": "reason", "evidence": "what", "first_seen_at": START, "judged_at": START,
        },
    }  # fmt: skip


def audit_row(number: int) -> Row:
    """An audit row; the database gives it its number."""
    return {
        "entry_id": uuid(f"entry {number}"), "at": START, "stored_at": START,
        "stage": "applied", "node_id": swarm_id("one"), "node_name": "one",
        "network_id": swarm_id("netone") if number > 1 else None, "network_name": "shöp",
        "netns": "host", "ifindex": 7, "name": "vx-001001-netto", "vni": 4097, "port": 4789,
        "urgency": "stale", "reason": "reason", "evidence": "what", "run_id": uuid("run of one"),
        "worker_version": "0.1.0",
    }  # fmt: skip


def uuid(name: str) -> UUID:
    """Always the same one for a name."""
    return uuid5(UUID(int=0), name)
