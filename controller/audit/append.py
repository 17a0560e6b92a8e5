"""Appending to the audit trail, and reading its chain.

An append locks the end of the chain (`AuditHead`) until the commit: positions have no gaps, and rows stand in
the order of storing. The end is the last lock of a transaction, after any node, run or due row: its holder
waits for no other lock, and holds it no longer than a commit takes.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import reduce
from typing import Any, Final
from uuid import UUID, uuid4, uuid5

from sqlalchemy import (
    ColumnElement,
    Enum,
    Row,
    Text,
    Uuid,
    bindparam,
    cast,
    func,
    insert,
    select,
    type_coerce,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from contract.messages import DeviceIdentity
from contract.verdicts import Stage, Urgency, Verdict
from controller.audit.chain import CHAINED, START, ChainPosition, ChainRow, link, plain
from controller.db.audit_models import AuditHead, AuditRow
from controller.db.models import Network, Node
from controller.db.types import Base, UtcDateTime

_TABLE: Final = Base.metadata.tables[AuditRow.__tablename__]
_UUID_PARTS: Final = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
_HEAD: Final = Base.metadata.tables[AuditHead.__tablename__]
_LOCK: Final = select(_HEAD).where(_HEAD.c.id == 1).with_for_update()
_KNOWN: Final = select(_TABLE.c.entry_id, _TABLE.c.node_id).where(
    _TABLE.c.entry_id.in_(bindparam("ids", expanding=True))
)
_MOVE: Final = (
    update(_HEAD)
    .where(_HEAD.c.id == 1)
    .values(position=bindparam("to"), hash=bindparam("digest"), stored_at=bindparam("at"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An event to record; attributes that do not apply are None.

    Attributes:
        id: two entries with one id make one row; None: this entry comes once.
        at: the time of the event, by the clock of its node.
        actor: the person or program behind it.
        claimed_name: for whom the actor said to act.
        node, network: the row keeps their present names.
        key_id: of the node's key that vouches for it.
    """

    id: UUID | None = None
    stage: Stage
    at: datetime
    reason: str
    actor: str
    claimed_name: str | None = None
    node: Node | None = None
    network: Network | None = None
    network_id: str | None = None
    identity: DeviceIdentity | None = None
    verdict: Verdict | None = None
    urgency: Urgency | None = None
    evidence: str | None = None
    run_id: UUID | None = None
    worker_version: str | None = None
    key_id: str | None = None


_OWN_COLUMNS: Final = [field.name for field in fields(Entry) if field.name in CHAINED]


def append(session: Session, entries: Sequence[Entry], now: datetime) -> int:
    """Record the entries that are not recorded yet, in this order; return the number of new rows.

    Locks the end of the chain until the session commits: call it last.
    """
    if not entries:
        return 0
    # Pending writes wait for their locks now, not while the end of the chain is locked.
    session.flush()
    rows = _rows(entries)
    head = _locked_head(session)
    # A clock that was set back must not put a row before its predecessor.
    stored_at = now if head.stored_at is None else max(now, head.stored_at)
    if any(entry.id is not None for entry in entries):
        for entry_id in _stored(session, rows):
            del rows[entry_id]
    position, digest = head.position, head.hash
    for entry_id, row in rows.items():
        position += 1
        row |= {"entry_id": entry_id, "stored_at": stored_at, "position": position}
        digest = row["hash"] = link(digest, [plain(row[name]) for name in CHAINED])
    if rows:
        session.execute(_MOVE, {"to": position, "digest": digest, "at": stored_at})
        session.execute(insert(_TABLE), list(rows.values()))
    return len(rows)


def recorded(session: Session, node_id: str, ids: Sequence[UUID]) -> Collection[UUID]:
    """Return which of these ids of a node's entries have a row already."""
    if not ids:
        return ()
    by_row = {id_: id_ for id_ in ids} | {uuid5(id_, node_id): id_ for id_ in ids}
    known = _known(session, by_row)
    return {by_row[id_] for id_, of_node in known.items() if of_node == node_id}


def head_of(session: Session) -> ChainPosition:
    """The end of the chain."""
    head = session.execute(select(AuditHead.position, AuditHead.hash)).one_or_none()
    return START if head is None else ChainPosition(head.position, head.hash)


def links(session: Session, after: int, limit: int) -> list[ChainRow]:
    """Rows of the chain in its order, exactly as stored, even if edited by hand."""
    dialect = session.get_bind().dialect.name
    columns = [_raw(_TABLE.c[name], dialect) for name in CHAINED]
    rows = session.execute(
        select(AuditRow.id, AuditRow.hash, *columns)
        .where(AuditRow.position > after)
        .order_by(AuditRow.position)
        .limit(limit)
    )
    return [ChainRow(id_, digest, values) for id_, digest, *values in rows]


def _raw(column: ColumnElement[Any], dialect: str) -> ColumnElement[Any]:
    """A column as `chain.plain` returns it, converted by the database: edited values can be read too."""
    if dialect == "postgresql":
        if isinstance(column.type, UtcDateTime):
            form = 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'
            return func.to_char(func.timezone("UTC", column), form)
        return cast(column, Text) if isinstance(column.type, Uuid | Enum) else column
    raw = type_coerce(column, Text)
    if isinstance(column.type, UtcDateTime):
        return func.replace(raw, " ", "T") + "+00:00"
    if isinstance(column.type, Uuid):
        parts = [func.substr(raw, begin, size) for begin, size in _UUID_PARTS]
        return reduce(lambda left, right: left + "-" + right, parts[1:], parts[0])
    return raw if isinstance(column.type, Enum) else column


def _rows(entries: Sequence[Entry]) -> dict[UUID, dict[str, Any]]:
    """Return the values of entries by id, each node's apart."""
    rows: dict[UUID, dict[str, Any]] = {}
    for entry in entries:
        id_, values = entry.id or uuid4(), _values(entry)
        if rows.get(id_, values)["node_id"] != values["node_id"]:
            id_ = _apart(id_, values)
        rows[id_] = values
    return rows


def _stored(session: Session, rows: dict[UUID, dict[str, Any]]) -> Collection[UUID]:
    """Return the ids of rows that are stored; those that another node has taken get ids of their own.

    Otherwise a node that lies could keep out the rows of another, with entries of the same ids.
    """
    known = _known(session, rows)
    taken = [id_ for id_, node_id in known.items() if rows[id_]["node_id"] != node_id]
    if not taken:
        return known
    for id_ in taken:
        values = rows.pop(id_)
        rows[_apart(id_, values)] = values
    return _known(session, rows)


def _known(session: Session, ids: Collection[UUID]) -> Mapping[UUID, str | None]:
    return {row.entry_id: row.node_id for row in session.execute(_KNOWN, {"ids": list(ids)})}


def _apart(id_: UUID, values: Mapping[str, Any]) -> UUID:
    return uuid5(id_, values["node_id"] or "")


def _locked_head(session: Session) -> Row[int, int, bytes, datetime | None]:
    head = session.execute(_LOCK).first()
    if head is None:
        dialect = session.get_bind().dialect.name
        into = postgresql.insert if dialect == "postgresql" else sqlite.insert
        first = into(_HEAD).values(id=1, position=START.position, hash=START.hash)
        session.execute(first.on_conflict_do_nothing(index_elements=["id"]))
        head = session.execute(_LOCK).one()
    return head


def _values(entry: Entry) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(CHAINED)
    values |= {name: getattr(entry, name) for name in _OWN_COLUMNS}
    if entry.identity is not None:
        values |= dict(entry.identity)
    if entry.node is not None:
        values |= {"node_id": entry.node.id, "node_name": entry.node.hostname}
    if entry.network is not None:
        values |= {"network_id": entry.network.id, "network_name": entry.network.name}
    return values
