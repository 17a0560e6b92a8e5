"""Lookup of nodes and networks by id, unique id prefix, or name; and the errors of all lookups."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from controller.db.models import Network, Node

MAX_LISTED: Final = 5
"""Candidates that an ambiguity names."""

Model = TypeVar("Model", Node, Network)


class UnknownError(Exception):
    """Nothing has this id, id prefix or name; `hint` says where to look."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class AmbiguousError(Exception):
    """Several things have this id prefix or name."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[Model]):
    """Nodes or networks."""

    model: type[Model]
    noun: str
    name_noun: str
    name: InstrumentedAttribute[str]

    def unknown(self, given: str, known: str = "", near: Sequence[str] = ()) -> UnknownError:
        """The error that nothing has this name; `near` are similar names."""
        return UnknownError(
            f"no {self.noun}{known} has the id, id prefix or {self.name_noun} {given!r}"
            + (f"; near it are {', '.join(near)}" if near else ""),
            f"`vxctl get {self.noun}s` lists the {self.noun}s",
        )


NODE: Final = Kind(Node, "node", "hostname", Node.hostname)
NETWORK: Final = Kind(Network, "network", "name", Network.name)


def is_searchable(given: str) -> bool:
    """Whether anything can have this name: PostgreSQL cannot even compare with NUL."""
    return bool(given) and given.isprintable()


def candidates(
    session: Session, kind: Kind[Model], given: str, *, gone: bool = False
) -> Sequence[Model]:
    """The row with this id, or else the first `MAX_LISTED` with this id prefix or name."""
    model = kind.model
    rows = select(model).where(model.gone_at.is_not(None) if gone else model.gone_at.is_(None))
    exact = session.scalar(rows.where(model.id == given))
    if exact is not None:
        return [exact]
    # Not LIKE, which ignores case on SQLite.
    meant = (kind.name == given) | (func.substr(model.id, 1, len(given)) == given)
    return session.scalars(rows.where(meant).order_by(model.id).limit(MAX_LISTED)).all()


def check_unique(given: str, ids_and_names: Sequence[tuple[str, str]]) -> None:
    """Check that one thing is meant.

    Raises:
        AmbiguousError: several are.
    """
    if len(ids_and_names) > 1:
        names = ", ".join(f"{name} ({id_})" for id_, name in ids_and_names[:MAX_LISTED])
        raise AmbiguousError(f"{given!r} could mean {names}")


def find_node(session: Session, given: str) -> Node:
    """The node with this id, unique id prefix or hostname.

    Raises:
        UnknownError, AmbiguousError: none or several have it.
    """
    return _find(session, NODE, given)


def maybe_node(session: Session, given: str | None) -> Node | None:
    """As `find_node`; None for None."""
    return None if given is None else find_node(session, given)


def find_network(session: Session, given: str) -> Network:
    """The network with this id, unique id prefix or name; Swarm lets networks share a name.

    Raises:
        UnknownError, AmbiguousError: none or several have it.
    """
    return _find(session, NETWORK, given)


def maybe_network(session: Session, given: str | None) -> Network | None:
    """As `find_network`; None for None."""
    return None if given is None else find_network(session, given)


def _find(session: Session, kind: Kind[Model], given: str) -> Model:
    found = candidates(session, kind, given) if is_searchable(given) else []
    if not found:
        raise kind.unknown(given)
    check_unique(given, [(row.id, getattr(row, kind.name.key)) for row in found])
    return found[0]
