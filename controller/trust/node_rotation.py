"""A person's wish that a node's worker replaces its key: asked for, withdrawn, and when it is too early."""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from contract.verdicts import Stage
from controller.access.store import By
from controller.audit.append import append
from controller.db.key_models import NodeKey
from controller.db.models import Node
from controller.db.states import NodeKeyState
from controller.trust import store
from controller.workqueue import queue
from controller.workqueue.priorities import Priority

BETWEEN_ROTATIONS: Final = timedelta(minutes=10)
"""Minimum time for which a node's key is believed before it may name the next: each is a row for ever, and
two of the audit trail."""


def ask(session: Session, node: Node, reason: str | None, by: By) -> NodeKey:
    """Ask the worker of a node to replace its key, and make the node due; return the key that is to go.

    The wish stays until another key is trusted, or none, or it is withdrawn. Asked again, nothing changes.

    Raises:
        KeyStateError: no key of the node is trusted, or it is too new.
    """
    row = _trusted(session, node)
    if row is None:
        raise store.KeyStateError(
            f"no key of {node.hostname} is trusted, so there is none to rotate",
            "`vxctl node keys` shows all keys; `vxctl node trust` believes one",
        )
    if row.rotation_asked_at is not None:
        return row
    if too_new_to_replace(row, by.at):
        after = (row.decided_at or by.at) + BETWEEN_ROTATIONS
        raise store.KeyStateError(
            f"the key {row.id} of {node.hostname} is trusted for less than ten minutes",
            f"ask again after {after:%Y-%m-%dT%H:%M:%SZ}",
        )
    row.rotation_asked_at = by.at
    words = f"its replacement is asked for by {by.actor}"
    queue.request(session, [node.id], at=by.at, priority=Priority.MANUAL, reason=f"key: {words}")
    noted = store.entry(Stage.ROTATION_ASKED, node, row, by, _noted(words, reason))
    append(session, [noted], by.at)
    return row


def withdraw(session: Session, node: Node, reason: str | None, by: By) -> NodeKey:
    """Ask the worker of a node no more to replace its key; return the key, which stays trusted.

    A request that is under way may still have it replaced.

    Raises:
        KeyStateError: the worker is not asked to.
    """
    row = _trusted(session, node)
    if row is None or row.rotation_asked_at is None:
        raise store.KeyStateError(
            f"the worker of {node.hostname} is not asked to replace its key",
            "`vxctl node keys` shows all keys: it may have replaced it already",
        )
    row.rotation_asked_at = None
    words = f"its replacement is withdrawn by {by.actor}"
    noted = store.entry(Stage.ROTATION_DROPPED, node, row, by, _noted(words, reason))
    append(session, [noted], by.at)
    return row


def _trusted(session: Session, node: Node) -> NodeKey | None:
    query = select(NodeKey).where(NodeKey.node_id == node.id, NodeKey.state == NodeKeyState.TRUSTED)
    return session.scalar(query.with_for_update())


def _noted(words: str, reason: str | None) -> str:
    return words if reason is None else f"{words}: {reason}"


def too_new_to_replace(row: NodeKey, now: datetime) -> bool:
    """Whether a key is trusted, and for too short a time to name the next."""
    # A date ahead of ours is by a clock that was put right.
    return (
        row.state is NodeKeyState.TRUSTED
        and row.decided_at is not None
        and timedelta(0) <= now - row.decided_at < BETWEEN_ROTATIONS
    )
