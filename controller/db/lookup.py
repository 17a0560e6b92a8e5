"""Finding a node or network by id, unique id prefix or name."""

from typing import Final

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from controller.db.models import (
    Network,
    Node,
)

_NODES: Final = select(Node).where(Node.gone_at.is_(None))


_NODE_BY_ID: Final = _NODES.where(Node.id == bindparam("id"))


class UnknownNodeError(Exception):
    """No node of the Swarm is meant by what was given."""


class AmbiguousNodeError(Exception):
    """Several nodes could be meant by what was given."""


class UnknownNetworkError(Exception):
    """No network of the Swarm is meant by what was given."""


class AmbiguousNetworkError(Exception):
    """Several networks could be meant by what was given."""


def find_node(session: Session, given: str) -> Node:
    """The node with this id, unique id prefix or hostname.

    Raises:
        UnknownNodeError: there is none.
        AmbiguousNodeError: there are several.
    """
    unknown = UnknownNodeError(f"no node has the id, id prefix or hostname {given!r}")
    if not given or "\0" in given:  # which PostgreSQL cannot even compare with
        raise unknown
    exact = session.scalar(_NODE_BY_ID, {"id": given})
    if exact is not None:
        return exact
    matches = session.scalars(
        # Not LIKE, which ignores case on SQLite.
        _NODES.where((Node.hostname == given) | (func.substr(Node.id, 1, len(given)) == given))
        .order_by(Node.id)
        .limit(5)
    ).all()
    if not matches:
        raise unknown
    if len(matches) > 1:
        names = ", ".join(f"{node.hostname} ({node.id})" for node in matches)
        raise AmbiguousNodeError(f"{given!r} could mean {names}")
    return matches[0]


def maybe_node(session: Session, given: str | None) -> Node | None:
    """The node that is meant, or None where none is given; raises as `find_node` does."""
    return None if given is None else find_node(session, given)


def find_network(session: Session, given: str) -> Network:
    """The network with this id, unique id prefix or name.

    Raises:
        UnknownNetworkError: there is none.
        AmbiguousNetworkError: there are several: Swarm lets networks share a name.
    """
    unknown = UnknownNetworkError(f"no network has the id, id prefix or name {given!r}")
    if not given or "\0" in given:
        raise unknown
    networks = select(Network).where(Network.gone_at.is_(None))
    exact = session.scalar(networks.where(Network.id == given))
    if exact is not None:
        return exact
    matches = session.scalars(
        networks.where((Network.name == given) | (func.substr(Network.id, 1, len(given)) == given))
        .order_by(Network.id)
        .limit(5)
    ).all()
    if not matches:
        raise unknown
    if len(matches) > 1:
        names = ", ".join(f"{network.name} ({network.id})" for network in matches)
        raise AmbiguousNetworkError(f"{given!r} could mean {names}")
    return matches[0]
