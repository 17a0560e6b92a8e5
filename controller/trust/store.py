"""Public keys and join tokens in the database: what people decide about them, each with an audit row."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from contract.signing.keys import PublicKey
from contract.verdicts import Stage
from controller.access.store import By
from controller.audit.append import Entry, append
from controller.db.key_models import ControllerKey, JoinToken, NodeKey
from controller.db.models import Cluster, Node
from controller.db.states import CONTROLLER, ControllerKeyState, NodeKeyState

_CONTROLLER_KEYS: Final = select(ControllerKey).order_by(ControllerKey.created_at.desc())
MAX_PENDING: Final = 3
"""Pending keys of a node; further ones are not stored."""
_NOT_NEXT: Final = {
    ControllerKeyState.SIGNING: "keep its file, `vxctl keys` shows that it signs: put it in the place of "
    "every controller's own key (VXLAN_OPERATOR_SIGNING_KEY), then `vxctl keys rotate` makes another",
    ControllerKeyState.RETIRED: "`vxctl keys` shows that another key signs: move this one's file away, "
    "then `vxctl keys rotate` makes another",
}
"""What to do with a key that cannot be the next one: without the file of the one that signs, none can."""


class NoKeyError(Exception):
    """There is no such key or join token; `hint` says where to look."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class KeyStateError(Exception):
    """What was asked for cannot be done with a key as it is; `hint` says what can."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def is_key_id(text: str) -> bool:
    """Whether a text has the form of a key's id."""
    return re.fullmatch("[0-9a-f]{16}", text) is not None


def node_keys(session: Session, node_id: str | None = None) -> Sequence[NodeKey]:
    """Return the keys of a node (None: of all), those that count first, then the newest."""
    rank = func.coalesce(NodeKey.decided_at, NodeKey.created_at)
    query = select(NodeKey).order_by(NodeKey.node_id, rank.desc(), NodeKey.id)
    return session.scalars(
        query if node_id is None else query.where(NodeKey.node_id == node_id)
    ).all()


def pin(session: Session, node_id: str, key: PublicKey, now: datetime) -> None:
    """Believe the key of the worker in the controller's own process."""
    row = session.get(NodeKey, key.id)
    if row is not None and (row.node_id, row.state) == (node_id, NodeKeyState.TRUSTED):
        return
    for other in node_keys(session, node_id):
        if other.state is NodeKeyState.TRUSTED:
            retire(other, now, f"replaced by {key.id}")
    row = row or NodeKey(id=key.id, public_key=key.text, created_at=now)
    row.node_id, row.state, row.decided_at = node_id, NodeKeyState.TRUSTED, now
    row.origin = "of the worker in the controller's own process"
    session.add(row)
    words = f"key {key.id} of node {node_id}: {row.origin}"
    append(session, [_about(Stage.KEY_TRUSTED, words, By(CONTROLLER, None, now))], now)


def trust(session: Session, node: Node, key: str, by: By) -> NodeKey:
    """Believe a key of a node, in place of those before.

    Args:
        key: id of one that the node has shown; or the text of any, which makes it known: who writes to the
            broker can show made-up ones, until there is no room for the node's own.

    Raises:
        NoKeyError: the node has not shown it, or it is another node's.
        KeyStateError: it is believed already.
    """
    row = _of_node(session, node, key if is_key_id(key) else _made_known(session, node, key, by).id)
    key_id = row.id
    if row.state is NodeKeyState.TRUSTED:
        raise KeyStateError(
            f"the key {key_id} of {node.hostname} is trusted already",
            "`vxctl node keys` shows all keys",
        )
    entries = [
        _revoked(node, other, by, f"replaced by {key_id}")
        for other in node_keys(session, node.id)
        if other.state is NodeKeyState.TRUSTED
    ]
    row.state, row.decided_at, row.origin = NodeKeyState.TRUSTED, by.at, f"trusted by {by.actor}"
    entries.append(entry(Stage.KEY_TRUSTED, node, row, by, row.origin))
    append(session, entries, by.at)
    return row


def _made_known(session: Session, node: Node, text: str, by: By) -> PublicKey:
    try:
        public = PublicKey.from_text(text)
    except ValueError:
        raise NoKeyError(
            f"{text!r} is neither the id of a key nor a public key",
            "`vxlan-worker key` on the node shows both: 16 hex digits, and 43 characters",
        ) from None
    row = session.get(NodeKey, public.id)
    if row is None:
        row = NodeKey(id=public.id, node_id=node.id, public_key=public.text, created_at=by.at)
        row.state, row.origin = NodeKeyState.PENDING, f"given by {by.actor}"
        session.add(row)
        session.flush()
    if row.public_key != public.text:
        raise NoKeyError(f"another key has the id {public.id}", "make the node another key")
    return public


def revoke(session: Session, node: Node, key_id: str | None, by: By) -> Sequence[NodeKey]:
    """Believe a key of a node no more; without `key_id` all of them.

    Raises:
        NoKeyError: there is no such key, or none that is not revoked.
    """
    rows = node_keys(session, node.id) if key_id is None else [_of_node(session, node, key_id)]
    rows = [row for row in rows if row.state is not NodeKeyState.REVOKED]
    if not rows:
        raise NoKeyError(
            f"{node.hostname} has no key that could be revoked", "`vxctl node keys` shows all keys"
        )
    append(session, [_revoked(node, row, by, f"revoked by {by.actor}") for row in rows], by.at)
    return rows


def retire(row: NodeKey, at: datetime, origin: str) -> None:
    """Let a key be revoked from now on; nobody waits any more for it to be replaced."""
    row.state, row.decided_at, row.origin = NodeKeyState.REVOKED, at, origin
    row.rotation_asked_at = None


def _of_node(session: Session, node: Node, key_id: str) -> NodeKey:
    row = session.get(NodeKey, key_id, with_for_update=True) if is_key_id(key_id) else None
    if row is None or row.node_id != node.id:
        raise NoKeyError(
            f"the worker of {node.hostname} has shown no key {key_id!r}",
            "`vxctl node keys` shows all keys; `vxlan-worker key` on the node shows its own",
        )
    return row


def _revoked(node: Node, row: NodeKey, by: By, origin: str) -> Entry:
    retire(row, by.at, origin)
    return entry(Stage.KEY_REVOKED, node, row, by, origin)


def entry(stage: Stage, node: Node, row: NodeKey, by: By, why: str) -> Entry:
    """Return the audit entry of a decision about a node's key."""
    return Entry(
        stage=stage,
        at=by.at,
        reason=f"key {row.id} of {node.hostname}: {why}",
        actor=by.actor,
        claimed_name=by.claimed_name,
        node=node,
    )


def create_join_token(
    session: Session, public: PublicKey, by: By, expires_at: datetime | None
) -> JoinToken:
    """Store the public key of a join token."""
    row = JoinToken(
        id=public.id,
        public_key=public.text,
        created_at=by.at,
        created_by=by.actor,
        expires_at=expires_at,
    )
    session.add(row)
    until = "" if expires_at is None else f", until {expires_at:%Y-%m-%dT%H:%M:%SZ}"
    append(session, [_about(Stage.JOIN_CREATED, f"join token {row.id}{until}", by)], by.at)
    return row


def join_tokens(session: Session, *, revoked: bool) -> Sequence[JoinToken]:
    """Return the join tokens, the newest first; with `revoked` also those that are revoked."""
    query = select(JoinToken).order_by(JoinToken.created_at.desc(), JoinToken.id)
    return session.scalars(query if revoked else query.where(JoinToken.revoked_at.is_(None))).all()


def revoke_join_token(session: Session, token_id: str, by: By) -> JoinToken:
    """Let a join token pin no more keys; keys that it pinned stay.

    Raises:
        NoKeyError: there is no valid one of this id.
    """
    row = session.get(JoinToken, token_id, with_for_update=True) if is_key_id(token_id) else None
    if row is None or row.revoked_at is not None:
        raise NoKeyError(
            f"there is no valid join token {token_id!r}", "`vxctl node join-token list` shows all"
        )
    row.revoked_at, row.revoked_by = by.at, by.actor
    append(session, [_about(Stage.JOIN_REVOKED, f"join token {row.id}", by)], by.at)
    return row


def controller_keys(session: Session) -> Sequence[ControllerKey]:
    """Return the controllers' keys: the one that signs, the next, and those of before."""
    rows = session.scalars(_CONTROLLER_KEYS).all()
    order = list(ControllerKeyState)
    return sorted(rows, key=lambda row: order.index(row.state))


def signing_key(session: Session) -> ControllerKey:
    """Return the key that signs.

    Raises:
        KeyStateError: there is none: no controller has started with this database.
    """
    query = select(ControllerKey).where(ControllerKey.state == ControllerKeyState.SIGNING)
    found = session.scalar(query)
    if found is None:
        raise KeyStateError(
            "the controllers have no key yet", "start a controller: vxctl controller"
        )
    return found


def announce(session: Session, public: PublicKey, by: By) -> ControllerKey:
    """Make the controllers' next key known to the workers, in place of another next one.

    Raises:
        KeyStateError: it signs already, or is retired; or none signs.
    """
    signing_key(session)
    row = session.get(ControllerKey, public.id)
    if row is not None and row.state is not ControllerKeyState.NEXT:
        raise KeyStateError(f"the key {public.id} is {row.state} already", _NOT_NEXT[row.state])
    for other in controller_keys(session):
        if other.state is ControllerKeyState.NEXT and other is not row:
            other.state, other.retired_at = ControllerKeyState.RETIRED, by.at
    if row is None:
        row = ControllerKey(
            id=public.id,
            public_key=public.text,
            state=ControllerKeyState.NEXT,
            created_at=by.at,
        )
        session.add(row)
    words = f"controllers' key {public.id}: it will sign next"
    append(session, [_about(Stage.KEYS_ROTATED, words, by)], by.at)
    return row


class Unaware(NamedTuple):
    """Who has not said that a key of the controllers is believed.

    Attributes:
        lacking: hostnames of nodes that are asked for runs; their next reports tell.
        later: of those that are not asked: paused, ignored, or not ready. They follow by their next request.
    """

    lacking: Sequence[str]
    later: Sequence[str]


def unaware(session: Session, key_id: str) -> Unaware:
    """Return the Swarm's nodes whose workers have not said that they believe a key of the controllers."""
    paused = session.scalar(select(Cluster.paused_at)) is not None
    rows = session.execute(
        select(Node.hostname, Node.controller_keys, Node.state, Node.paused_at, Node.label_ignore)
        .where(Node.gone_at.is_(None))
        .order_by(Node.hostname, Node.id)
    )
    lacking: list[str] = []
    later: list[str] = []
    for hostname, keys, state, paused_at, ignored in rows:
        if key_id not in (keys or ()):
            asked = state == "ready" and paused_at is None and not ignored and not paused
            (lacking if asked else later).append(hostname)
    return Unaware(lacking, later)


def finish(
    session: Session, by: By, *, force: bool, revoke_join_tokens: bool = False
) -> ControllerKey:
    """Let the next key of the controllers sign, and retire the present one, which is to vouch for it.

    Args:
        revoke_join_tokens: all of them: they name the present key or one before, which a node that joins by
            one believes until the first request.

    Raises:
        KeyStateError: there is none, or nodes that are asked for runs lack it (unless `force`).
    """
    keys = {row.state: row for row in controller_keys(session)[:2]}
    following = keys.get(ControllerKeyState.NEXT)
    if following is None:
        raise KeyStateError("no rotation is under way", "`vxctl keys rotate` begins one")
    without = [] if force else unaware(session, following.id).lacking
    if without:
        more = f" and {len(without) - 5} more" if len(without) > 5 else ""
        raise KeyStateError(
            f"{', '.join(without[:5])}{more}: not known to know the key {following.id} yet",
            "wait for their next runs; or `vxctl keys rotate --finish --force`, and they follow later",
        )
    present = signing_key(session)
    present.state, present.retired_at = ControllerKeyState.RETIRED, by.at
    session.flush()
    following.state, following.previous = ControllerKeyState.SIGNING, present.id
    words = f"controllers' key {following.id} signs in place of {present.id}"
    append(session, [_about(Stage.KEYS_ROTATED, words, by)], by.at)
    if revoke_join_tokens:
        _revoke_join_tokens(session, by)
    return following


def replace(session: Session, by: By) -> ControllerKey:
    """Retire all keys of the controllers: the next start makes another, and knows the former no more.

    Join tokens name the former, which nothing leads from: they are revoked.

    Raises:
        KeyStateError: there is none.
    """
    present = signing_key(session)
    for row in controller_keys(session):
        if row.state is not ControllerKeyState.RETIRED:
            row.state, row.retired_at = ControllerKeyState.RETIRED, by.at
    words = (
        f"controllers' key {present.id} is retired: the next start of a controller brings another"
    )
    append(session, [_about(Stage.KEYS_ROTATED, words, by)], by.at)
    _revoke_join_tokens(session, by)
    return present


def _revoke_join_tokens(session: Session, by: By) -> None:
    for token in join_tokens(session, revoked=False):
        revoke_join_token(session, token.id, by)


def _about(stage: Stage, words: str, by: By) -> Entry:
    return Entry(stage=stage, at=by.at, reason=words, actor=by.actor, claimed_name=by.claimed_name)
