"""Reads from the rows what conditions say of nodes' keys."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.conditions.instant import Instant
from controller.conditions.node_facts import Unreplaced
from controller.db.key_models import NodeKey
from controller.db.models import Node
from controller.db.states import NodeKeyState

REPLACED_WITHIN: Final = timedelta(minutes=10)
"""A key that its worker was asked to replace longer ago is a finding; most are replaced within seconds."""
_UNTRUSTED: Final = (
    select(NodeKey.node_id, NodeKey.id, NodeKey.state)
    .where(NodeKey.state != NodeKeyState.TRUSTED)
    .order_by(NodeKey.state, NodeKey.created_at.desc(), NodeKey.id)
)
_ASKED: Final = (
    select(NodeKey.node_id, NodeKey.id, NodeKey.rotation_asked_at, Node.worker_seen_at)
    .join(Node, Node.id == NodeKey.node_id)
    .where(NodeKey.state == NodeKeyState.TRUSTED, NodeKey.rotation_asked_at.is_not(None))
)


def untrusted(session: Session) -> Mapping[str, list[tuple[str, bool]]]:
    """Return the keys of nodes of which none is believed, pending ones first, and whether each is revoked."""
    rows = session.execute(_UNTRUSTED).all()
    found: defaultdict[str, list[tuple[str, bool]]] = defaultdict(list)
    for node_id, key_id, state in rows:
        found[node_id].append((key_id, state is NodeKeyState.REVOKED))
    trusted = (
        session.scalars(
            select(NodeKey.node_id).where(
                NodeKey.state == NodeKeyState.TRUSTED, NodeKey.node_id.in_(found)
            )
        ).all()
        if found
        else ()
    )
    for node_id in trusted:
        # A key that was shown since may be that of a worker that was set up again.
        found[node_id] = [key for key in found[node_id] if not key[1]]
    return found


def unreplaced(session: Session, instant: Instant) -> Mapping[str, Unreplaced]:
    """Return the keys that workers were asked to replace and kept for too long, by node id.

    A worker that was not seen since says nothing of it.
    """
    found = {}
    for node_id, key_id, asked_at, seen_at in session.execute(_ASKED):
        if asked_at is None:
            continue
        due = asked_at + REPLACED_WITHIN
        if instant.is_past(due) and seen_at is not None and seen_at > due:
            found[node_id] = Unreplaced(key_id, asked_at)
    return found
