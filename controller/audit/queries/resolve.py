"""Who is meant: nodes and networks that the audit trail knows, by what a person typed.

The trail is kept for years, so what is gone from the Swarm counts too, after what is there.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from controller.db.audit_models import AuditRow
from controller.db.lookup import (
    AmbiguousNetworkError,
    AmbiguousNodeError,
    UnknownNetworkError,
    UnknownNodeError,
)
from controller.db.models import Network, Node

_MAX_NAMES: Final = 5_000
"""So many names are looked through, where no index helps."""
_LISTED: Final = 5


@dataclass(frozen=True, slots=True)
class _Kind:
    """Nodes or networks."""

    word: str
    id: InstrumentedAttribute[str]
    name: InstrumentedAttribute[str]
    gone_at: InstrumentedAttribute[Any]
    row_id: InstrumentedAttribute[str | None]
    row_name: InstrumentedAttribute[str | None]
    unknown: type[Exception]
    ambiguous: type[Exception]


_NODES: Final = _Kind(
    "node", Node.id, Node.hostname, Node.gone_at, AuditRow.node_id, AuditRow.node_name,
    UnknownNodeError, AmbiguousNodeError,
)  # fmt: skip
_NETWORKS: Final = _Kind(
    "network", Network.id, Network.name, Network.gone_at, AuditRow.network_id,
    AuditRow.network_name, UnknownNetworkError, AmbiguousNetworkError,
)  # fmt: skip


def node_id(session: Session, given: str) -> str:
    """The id of the node with this id, name, or unique beginning of an id.

    Raises:
        UnknownNodeError, AmbiguousNodeError: it is not one.
    """
    return _find(session, _NODES, given)


def network_id(session: Session, given: str) -> str:
    """The same of a network.

    Raises:
        UnknownNetworkError, AmbiguousNetworkError: it is not one.
    """
    return _find(session, _NETWORKS, given)


def _find(session: Session, kind: _Kind, given: str) -> str:
    if not given or not given.isprintable():  # NUL PostgreSQL cannot even compare with.
        raise kind.unknown(f"{given!r} is no name and no id of a {kind.word}")
    if session.scalar(select(kind.id).where(kind.id == given)) is not None or _is_recorded(
        session, kind, given
    ):
        return given
    begins = func.substr(kind.id, 1, len(given)) == given  # Not LIKE, which ignores case on SQLite.
    meant = select(kind.id, kind.name).where((kind.name == given) | begins)
    for where in (kind.gone_at.is_(None), kind.gone_at.is_not(None)):
        rows = [
            (id_, name)
            for id_, name in session.execute(meant.where(where).order_by(kind.id).limit(_LISTED))
        ]
        if rows:
            return _only(kind, given, rows)
    recorded = _recorded(session, kind)
    rows = [each for each in recorded if given == each[1] or each[0].startswith(given)]
    if rows:
        return _only(kind, given, rows)
    names = list(
        session.scalars(select(kind.name).order_by(kind.gone_at.is_not(None)).limit(_MAX_NAMES))
    )
    near = difflib.get_close_matches(given, dict.fromkeys(names + [name for _, name in recorded]))
    raise kind.unknown(
        f"no {kind.word} that is or was known has the id, id prefix or name {given!r}"
        + (f"; near it are {', '.join(near)}" if near else "")
    )


def _only(kind: _Kind, given: str, rows: Sequence[tuple[str, str]]) -> str:
    if len(rows) > 1:
        names = ", ".join(f"{name} ({id_})" for id_, name in rows[:_LISTED])
        raise kind.ambiguous(f"{given!r} could mean {names}")
    return rows[0][0]


def _is_recorded(session: Session, kind: _Kind, given: str) -> bool:
    found = session.scalar(select(kind.row_id).where(kind.row_id == given).limit(1))
    return found is not None


def _recorded(session: Session, kind: _Kind) -> list[tuple[str, str]]:
    """Ids in the audit trail, each with the name that it had first.

    From one id of the index to the next: a few looks each, however many rows there are.
    """
    first = select(func.min(kind.row_id).label("id")).cte("recorded", recursive=True)
    following = select(func.min(kind.row_id)).where(kind.row_id > first.c.id).scalar_subquery()
    ids = first.union_all(select(following).where(first.c.id.is_not(None)))
    name = (
        select(kind.row_name)
        .where(kind.row_id == ids.c.id)
        .order_by(AuditRow.at, AuditRow.id)
        .limit(1)
        .scalar_subquery()
    )
    rows = session.execute(select(ids.c.id, name).where(ids.c.id.is_not(None)).limit(_MAX_NAMES))
    return [(id_, name_ or id_) for id_, name_ in rows]
