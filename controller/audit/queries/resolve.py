"""Ids of nodes and networks by what a person typed; also of those that only the audit trail knows."""

import difflib
from collections.abc import Iterator
from typing import Final, NamedTuple

from sqlalchemy import Select, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from controller.db.audit_models import AuditRow
from controller.db.lookup import NETWORK, NODE, Kind, Model, candidates, check_unique, is_searchable

_MAX_NAMES: Final = 5_000
"""Names to search where no index helps."""

_MAX_BEARERS: Final = 20
"""Nodes or networks of one name that are searched."""

_Column = InstrumentedAttribute[str | None]


class Bearer(NamedTuple):
    """A node or network that has or had a name."""

    id: str
    present: bool


def nodes_named(session: Session, given: str) -> list[Bearer]:
    """The nodes that are meant by an id, name, or unique id prefix, the present ones first.

    By a name all that have it, or had it when a row of theirs was written.

    Raises:
        UnknownError, AmbiguousError: none has it, or it is the id prefix of several.
    """
    return _bearers(session, NODE, AuditRow.node_id, AuditRow.node_name, given)


def networks_named(session: Session, given: str) -> list[Bearer]:
    """The same of networks."""
    return _bearers(session, NETWORK, AuditRow.network_id, AuditRow.network_name, given)


def _bearers(
    session: Session, kind: Kind[Model], id_: _Column, name: _Column, given: str
) -> list[Bearer]:
    if is_searchable(given) and session.get(kind.model, given) is None:
        model = kind.model
        rows = session.execute(
            select(model.id, model.gone_at)
            .where(kind.name == given)
            .order_by(model.gone_at.is_not(None), model.gone_at.desc(), model.id)
            .limit(_MAX_BEARERS)
        )
        bearers = {row.id: Bearer(row.id, row.gone_at is None) for row in rows}
        recorded = _recorded_under(session, id_, name, given)
        present = set(
            session.scalars(select(model.id).where(model.id.in_(recorded), model.gone_at.is_(None)))
        )
        for other in recorded:
            bearers.setdefault(other, Bearer(other, other in present))
        if bearers:
            return list(bearers.values())[:_MAX_BEARERS]
    found = _find(session, kind, id_, name, given)
    row = session.get(kind.model, found)
    return [Bearer(found, row is not None and row.gone_at is None)]


def _recorded_under(session: Session, id_: _Column, name: _Column, given: str) -> list[str]:
    """The ids in the audit trail that had a name when a row was written.

    Goes from one id of the index to the next: a read per id, however many rows there are.
    """
    first = select(func.min(id_).label("id")).where(name == given).cte("bearers", recursive=True)
    following = select(func.min(id_)).where(name == given, id_ > first.c.id).scalar_subquery()
    ids = first.union_all(select(following).where(first.c.id.is_not(None)))
    query = select(ids.c.id).where(ids.c.id.is_not(None)).limit(_MAX_BEARERS)
    return [*session.scalars(query)]


def node_id(session: Session, given: str) -> str:
    """The id of the node with this id, name, or unique id prefix; a present node before a gone one.

    Raises:
        UnknownError, AmbiguousError: none or several have it.
    """
    return _find(session, NODE, AuditRow.node_id, AuditRow.node_name, given)


def network_id(session: Session, given: str) -> str:
    """The same of a network."""
    return _find(session, NETWORK, AuditRow.network_id, AuditRow.network_name, given)


def _find(session: Session, kind: Kind[Model], id_: _Column, name: _Column, given: str) -> str:
    known = " that is or was known"
    if not is_searchable(given):
        raise kind.unknown(given, known)
    recorded = select(id_).where(id_ == given).limit(1)
    if session.get(kind.model, given) is not None or session.scalar(recorded) is not None:
        return given
    for found in _matches(session, kind, id_, name, given):
        if found:
            check_unique(given, found)
            return found[0][0]
    query: Select[str] = (
        select(kind.name).order_by(kind.model.gone_at.is_not(None)).limit(_MAX_NAMES)
    )
    names: list[str] = [*session.scalars(query)]
    names += [recorded_name for _, recorded_name in _recorded(session, id_, name)]
    near = difflib.get_close_matches(given, dict.fromkeys(names))
    raise kind.unknown(given, known, near)


def _matches(
    session: Session, kind: Kind[Model], id_: _Column, name: _Column, given: str
) -> Iterator[list[tuple[str, str]]]:
    """Ids and names that are meant: present, then gone, then only recorded."""
    for gone in (False, True):
        rows = candidates(session, kind, given, gone=gone)
        yield [(row.id, getattr(row, kind.name.key)) for row in rows]
    recorded = _recorded(session, id_, name)
    yield [pair for pair in recorded if given == pair[1] or pair[0].startswith(given)]


def _recorded(session: Session, id_: _Column, name: _Column) -> list[tuple[str, str]]:
    """Ids in the audit trail, with the first name of each.

    Goes from one id of the index to the next: a few reads per id, however many rows there are.
    """
    first = select(func.min(id_).label("id")).cte("recorded", recursive=True)
    following = select(func.min(id_)).where(id_ > first.c.id).scalar_subquery()
    ids = first.union_all(select(following).where(first.c.id.is_not(None)))
    first_name = (
        select(name)
        .where(id_ == ids.c.id)
        .order_by(AuditRow.at, AuditRow.id)
        .limit(1)
        .scalar_subquery()
    )
    query = select(ids.c.id, first_name).where(ids.c.id.is_not(None)).limit(_MAX_NAMES)
    return [(row_id, row_name or row_id) for row_id, row_name in session.execute(query)]
