"""Nodes and networks for which a person or a label says something else than for the cluster."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from controller.db.models import Network, Node


def restricted_nodes(session: Session, limit: int) -> Sequence[Node]:
    """Return nodes that are paused, have a mode or label of their own, or a tripped breaker, by hostname."""
    query = select(Node).where(
        Node.gone_at.is_(None), or_(*_decided(Node), Node.breaker_tripped_at.is_not(None))
    )
    return session.scalars(query.order_by(Node.hostname, Node.id).limit(limit)).all()


def restricted_networks(session: Session, limit: int) -> Sequence[Network]:
    """Return networks that are paused, or have a mode or label of their own, by name."""
    query = select(Network).where(Network.gone_at.is_(None), or_(*_decided(Network)))
    return session.scalars(query.order_by(Network.name, Network.id).limit(limit)).all()


def _decided(of: type[Node | Network]) -> Sequence[ColumnElement[bool]]:
    return (
        of.paused_at.is_not(None),
        of.mode.is_not(None),
        of.label_mode.is_not(None),
        of.label_ignore.is_(True),
    )
