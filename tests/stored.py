"""What is in a database of the controller, and putting a Swarm there."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, event, select, text
from sqlalchemy.orm import Session

from controller.db.audit_models import AuditRow
from controller.db.engine import Database
from controller.db.models import Device, DueNode, Node, Run
from controller.db.states import RunState
from controller.db.types import Base
from controller.swarm.desired import PackedAttachments, desired_state
from controller.swarm.store import store_attachments, store_cluster, store_networks, store_nodes
from controller.workqueue import queue, under_way
from controller.workqueue.priorities import Priority
from tests.fake_clock import START
from tests.fake_swarm import Snapshot, snapshot, swarm_id

RESYNC = timedelta(seconds=60)
TIMEOUT = timedelta(seconds=30)
ALLOWED = 1_000
"""Removals that a request allows."""


def wipe(database: Database, *, keep: Collection[str] = ()) -> None:
    """Empty all tables but these, also those from which the program itself can delete nothing."""
    with database.engine.begin() as connection, without_triggers(connection):
        for table in reversed(Base.metadata.sorted_tables):
            if table.name not in keep:
                connection.execute(table.delete())


@contextmanager
def without_triggers(connection: Connection) -> Iterator[None]:
    """What somebody can do who owns the database: past the triggers that keep the audit trail."""
    tables = ("audit", "audit_anchors")
    if connection.dialect.name == "postgresql":
        for table in tables:
            connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
        yield
        for table in tables:
            connection.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER USER"))
        return
    triggers = connection.execute(
        text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
    ).all()
    for name, _ in triggers:
        connection.execute(text(f"DROP TRIGGER {name}"))
    yield
    for _, sql in triggers:
        connection.execute(text(sql))


def contents(database: Database) -> dict[str, list[Row[tuple[object, ...]]]]:
    """Every row of every table."""
    with database.read() as session:
        return {
            table.name: sorted(session.execute(select(table)).all(), key=repr)
            for table in Base.metadata.sorted_tables
        }


def put(database: Database, state: Snapshot | None = None, now: datetime = START) -> frozenset[str]:
    """Store what a Swarm says; return the nodes whose desired state changed."""
    state = state or snapshot()
    wanted = desired_state([each.id for each in state.nodes], state.networks, state.tasks)
    with database.write() as session:
        store_cluster(session, state.identity, now)
        store_nodes(session, state.nodes, now, whole=True)
        store_networks(session, state.networks, now, whole=True)
        known = session.scalars(select(Node.id)).all()
        return store_attachments(
            session, {node: PackedAttachments.of(wanted.get(node, {})) for node in known}, now
        )


def node_row(database: Database, name: str = "one") -> Node:
    """A node, by name."""
    with database.read() as session:
        return session.get_one(Node, swarm_id(name))


def due_row(database: Database, name: str = "one") -> DueNode:
    """When a node is next to be looked at, by the node's name."""
    with database.read() as session:
        return session.get_one(DueNode, swarm_id(name))


def run_row(database: Database, run_id: UUID) -> Run:
    """A run."""
    with database.read() as session:
        return session.get_one(Run, run_id)


def devices(database: Database) -> list[Device]:
    """All devices, in the order of their numbers."""
    with database.read() as session:
        return list(session.scalars(select(Device).order_by(Device.node_id, Device.ifindex)))


def audit(database: Database) -> list[AuditRow]:
    """All audit rows, the oldest first."""
    with database.read() as session:
        return list(session.scalars(select(AuditRow).order_by(AuditRow.id)))


def ask(
    database: Database,
    *names: str,
    at: datetime = START,
    priority: Priority = Priority.CHANGE,
    reason: str = "reason",
) -> int:
    """Ask for runs of nodes, by their names (of node `one` unless told)."""
    nodes = [swarm_id(name) for name in names or ("one",)]
    with database.write() as session:
        return queue.request(session, nodes, at=at, priority=priority, reason=reason)


def claim(database: Database, *, now: datetime = START, limit: int = 100) -> dict[str, queue.Claim]:
    """Claim what is due, as for requests that allow removals; node id to claim."""
    with database.write() as session:
        claims = queue.claim(session, now=now, limit=limit, timeout=TIMEOUT)
        for each in claims:
            session.get_one(Run, each.run_id).max_removals = ALLOWED
    return {each.node_id: each for each in claims}


def finish(
    session: Session,
    run_id: UUID,
    state: RunState,
    *,
    now: datetime,
    resync: timedelta,
    recheck: timedelta | None = None,
    error: str | None = None,
) -> Run | None:
    """Close a run, as a report or its deadline does; None if it is not under way (any more)."""
    found = under_way.open_runs(session, [run_id]).get(run_id)
    if found is None:
        return None
    under_way.close(found, state, now=now, resync=resync, recheck=recheck, error=error)
    return found.run


def plans(database: Database, act: Callable[[Session], object]) -> str:
    """How the database carries out what is asked for in there, all together; nothing of it stays."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, given: Any, *_: object) -> None:
        asked.append((statement, given))

    how = "EXPLAIN" if database.engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")
    with Session(database.engine) as session:
        event.listen(database.engine, "before_cursor_execute", note)
        try:
            act(session)
        finally:
            event.remove(database.engine, "before_cursor_execute", note)
        session.rollback()
        connection = session.connection()
        found = [connection.exec_driver_sql(f"{how} {text}", given).all() for text, given in asked]
    return "\n".join(str(row) for rows in found for row in rows)
