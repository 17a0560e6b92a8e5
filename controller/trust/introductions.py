"""Decides about a key that a node's worker introduces: believe it, or let a person decide.

A node's first key is believed with a valid join token, a later one with its key before. Any other waits for
`vxctl node trust`, and so does a second key with a join token: with that token alone anybody could
otherwise speak for every node.
"""

from datetime import datetime
from typing import Final

import structlog
from sqlalchemy.orm import Session

from contract.messages import Hello, Introduction
from contract.signing.dates import MAX_SKEW
from contract.signing.envelope import Opened
from contract.signing.join import changes_key, joins
from contract.signing.keys import PublicKey
from contract.verdicts import Stage
from controller.access.store import By
from controller.audit import budget
from controller.audit.append import append
from controller.db.key_models import JoinToken, NodeKey
from controller.db.models import Node
from controller.db.states import CONTROLLER, NodeKeyState
from controller.trust import node_rotation, store

log = structlog.get_logger(__name__)

_INTRODUCED: Final = "introduced by the worker; nobody vouches for it"


def introduce(session: Session, opened: Opened[Hello], now: datetime) -> NodeKeyState | None:
    """Store the key that a Hello introduces; return its state.

    Returns:
        None: the node is not in the Swarm, shows the key of another, or has too many pending ones: nothing
        was stored.
    """
    hello = opened.payload
    introduction = hello.introduction
    # Locked: of two keys that are introduced together one is the first.
    node = session.get(Node, hello.node_id, with_for_update={"key_share": True})
    if introduction is None or node is None or node.gone_at is not None:
        return None
    key = PublicKey.from_text(introduction.key)
    row = session.get(NodeKey, key.id)
    if row is not None and row.node_id != node.id:
        row = _moved(session, row, node)
        if row is None:
            return None
    if row is not None and row.state is not NodeKeyState.PENDING:
        return row.state
    others = [other for other in store.node_keys(session, node.id) if other is not row]
    token = _token(session, node, introduction, key, now)
    why = _vouched(node, introduction, key, others, token, now)
    if row is None:
        pending = [other for other in others if other.state is NodeKeyState.PENDING]
        if why is None and len(pending) >= store.MAX_PENDING:
            # Anybody who writes to the broker can make these up, and not one with a join token.
            made_up = [other for other in pending if other.origin == _INTRODUCED]
            if token is None or not made_up:
                return None
            session.delete(made_up[-1])
        row = NodeKey(
            id=key.id,
            node_id=node.id,
            public_key=key.text,
            state=NodeKeyState.PENDING,
            origin=_INTRODUCED,
            created_at=now,
        )
        session.add(row)
        log.info("a node's key is new", node=node.hostname, key=key.id, vouched_by=why)
    if token is not None:
        row.origin = f"introduced with join token {token.id}; the node has, or had, another key"
    take_password(row, opened, now)
    if why is None:
        return NodeKeyState.PENDING
    by = By(CONTROLLER, None, now)
    entries = []
    for other in others:
        if other.state is NodeKeyState.TRUSTED:
            store.retire(other, now, f"replaced by {key.id}")
            entries.append(store.entry(Stage.KEY_REVOKED, node, other, by, other.origin))
    row.state, row.decided_at, row.origin = NodeKeyState.TRUSTED, now, why
    entries.append(store.entry(Stage.KEY_TRUSTED, node, row, by, why))
    budget.charge(node, len(entries), now)
    append(session, entries, now)
    return NodeKeyState.TRUSTED


def take_password(row: NodeKey, opened: Opened[Hello], now: datetime) -> None:
    """Store the password at the broker that a Hello tells, unless one that was signed later told another.

    Who writes to the broker can repeat a Hello to a leader that does not remember it.
    """
    password, before = opened.payload.broker_password, row.broker_password_at
    if password is None or password == row.broker_password:
        return
    # A date further ahead than clocks may differ is by a clock of ours that was put right.
    if before is None or before > now + MAX_SKEW or opened.issued > before:
        row.broker_password, row.broker_password_at = password, opened.issued


def _moved(session: Session, row: NodeKey, node: Node) -> NodeKey | None:
    """Give a key to the id that its node has since it left and joined the Swarm again; None: it is another's.

    It counts no more than one that is shown for the first time: a node that is told to leave could otherwise
    come back as another.
    """
    former = session.get(Node, row.node_id)
    # Docker lists the former id as down until a person removes it.
    lives = former is not None and former.gone_at is None and former.state != "down"
    # A former id is never ready again: a Hello that was kept since then takes no key back to it.
    if row.state is NodeKeyState.REVOKED or lives or node.state != "ready":
        return None
    row.node_id, row.state, row.decided_at = node.id, NodeKeyState.PENDING, None
    row.origin = _INTRODUCED
    return row


def _vouched(
    node: Node,
    introduction: Introduction,
    key: PublicKey,
    others: list[NodeKey],
    token: JoinToken | None,
    now: datetime,
) -> str | None:
    """Return who vouches for a key; None: nobody whose word counts."""
    change = introduction.change
    if any(node_rotation.too_new_to_replace(other, now) for other in others):
        # The worker introduces its key again every minute.
        change = None
    if change is not None:
        for other in others:
            previous = PublicKey.from_text(other.public_key)
            if other.state is NodeKeyState.TRUSTED and changes_key(change, previous, node.id, key):
                return f"its key before, {other.id}, vouches for it"
    # Also where a key was revoked: then a person decides.
    if token is None or any(other.state is not NodeKeyState.PENDING for other in others):
        return None
    token.last_used_at = now
    return f"the first of the node, by join token {token.id}"


def _token(
    session: Session, node: Node, introduction: Introduction, key: PublicKey, now: datetime
) -> JoinToken | None:
    """Return the valid join token whose holder vouches for a key; None: there is none."""
    join = introduction.join
    if join is None:
        return None
    token = session.get(JoinToken, join.token, with_for_update=True)
    if token is None or not joins(join, PublicKey.from_text(token.public_key), node.id, key):
        return None
    ended = token.expires_at is not None and token.expires_at <= now
    return None if ended or token.revoked_at is not None else token
