"""Asking for a run by hand: who, why, once for each token, and which run answers it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, exists, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from contract.verdicts import Stage
from controller.audit.append import Entry
from controller.db.models import Cluster, Node, Requeue
from controller.workqueue import queue
from controller.workqueue.priorities import Priority

_GIVEN: Final = ("token", "node_id", "requested_at", "actor", "reason")
_PAUSED: Final = exists().where(Cluster.paused_at.is_not(None))
_ADD: Final = {
    name: into(Requeue)
    .from_select(
        _GIVEN,
        select(*(bindparam(each, type_=getattr(Requeue, each).type) for each in _GIVEN)).where(
            ~_PAUSED
        ),
    )
    .on_conflict_do_nothing(index_elements=["token"])
    .returning(Requeue)
    .execution_options(dml_strategy="orm")
    for name, into in (("postgresql", postgresql.insert), ("sqlite", sqlite.insert))
}
"""By the names of the databases. Adds nothing where the whole cluster is paused, or the token is known:
also since a moment ago."""


class PausedError(Exception):
    """The node would not be run; says why, and what to do."""


class TokenTakenError(Exception):
    """The token stands for a request about another node."""


def ask(
    session: Session, node: Node, *, token: str, actor: str, reason: str | None, now: datetime
) -> Sequence[Entry]:
    """Ask for a run of a node, at once and before others; a token that was told before asks for nothing.

    A person waits for this: so it asks the database as little as can be.

    Returns:
        What is to be appended to the audit trail, when the transaction has nothing else left to lock.

    Raises:
        PausedError: the node is paused; the transaction must be rolled back.
        TokenTakenError: the token was used for another node.
    """
    added = session.scalar(
        _ADD[session.get_bind().dialect.name],
        {"token": token, "node_id": node.id, "requested_at": now, "actor": actor, "reason": reason},
    )
    known = session.get(Requeue, token) if added is None else None
    if known is not None:
        if known.node_id != node.id:
            raise TokenTakenError(
                f"the token {token!r} stands for a request about node {known.node_id}"
            )
        return []
    paused = _paused(session, node, everywhere=added is None)
    if paused is not None:
        raise PausedError(paused)
    because = "" if reason is None else f": {reason}"
    queue.request(
        session,
        [node.id],
        at=now,
        priority=Priority.MANUAL,
        reason=f"requeued by {actor}{because}",
    )
    entry = Entry(
        stage=Stage.REQUEUED,
        at=now,
        reason=reason or "no reason was given",
        actor=actor,
        node=node,
    )
    return [entry]


def _paused(session: Session, node: Node, *, everywhere: bool) -> str | None:
    """Why a node would not be run although a person asks, and what to do; None: it would."""
    if everywhere:
        cluster = session.get_one(Cluster, 1)
        by = _by(cluster.paused_by, cluster.paused_reason)
        return f"the whole cluster is paused{by}; resume it first: vxctl resume --cluster"
    if node.paused_at is not None:
        by = _by(node.paused_by, node.paused_reason)
        return f"node {node.hostname} is paused{by}; resume it first: vxctl resume {node.id}"
    if node.label_ignore:
        return (
            f"node {node.hostname} has the Swarm label vxlan-operator.ignore; remove it first: "
            f"docker node update --label-rm vxlan-operator.ignore {node.id}"
        )
    return None


def _by(actor: str | None, reason: str | None) -> str:
    who = "" if actor is None else f" by {actor}"
    return who if reason is None else f"{who} ({reason})"
