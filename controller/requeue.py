"""Asking for a run by hand: who, why, once for each token, and which run answers it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID, uuid5

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from contract.verdicts import Stage
from controller import due
from controller.audit.append import Entry, append
from controller.models import Cluster, Node, Requeue
from controller.states import Priority

_ENTRIES: Final = UUID("5f0a2c3e-0d0b-4f57-9d0a-3c6f0f1d7a11")
"""The name space of the audit entries' ids: one a token."""


class PausedError(Exception):
    """The node would not be run; says why, and what to do."""


class TokenTakenError(Exception):
    """The token stands for a request about another node."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and whether it is a new one."""

    requeue: Requeue
    new: bool


def ask(
    session: Session, node: Node, *, token: str, actor: str, why: str | None, now: datetime
) -> Asked:
    """Ask for a run of a node, at once and before others; a token that was told before asks for nothing.

    Raises:
        PausedError: the node is paused, and nothing was asked for.
        TokenTakenError: the token was used for another node.
    """
    known = session.get(Requeue, token)
    if known is None:
        paused = _paused(session, node)
        if paused is not None:
            raise PausedError(paused)
        into = (
            postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
        )
        added = session.scalar(
            into(Requeue)
            .values(token=token, node_id=node.id, requested_at=now, actor=actor, why=why)
            .on_conflict_do_nothing(index_elements=["token"])  # Somebody told it at this moment.
            .returning(Requeue.token)
        )
        known = session.get_one(Requeue, token)
        if added is not None:
            _ask(session, node, known)
            return Asked(known, new=True)
    if known.node_id != node.id:
        raise TokenTakenError(
            f"the token {token!r} stands for a request about node {known.node_id}"
        )
    return Asked(known, new=False)


def _ask(session: Session, node: Node, requeue: Requeue) -> None:
    because = "" if requeue.why is None else f": {requeue.why}"
    due.request(
        session,
        [node.id],
        at=requeue.requested_at,
        priority=Priority.MANUAL,
        reason=f"requeued by {requeue.actor}{because}",
    )
    entry = Entry(
        id=uuid5(_ENTRIES, requeue.token),
        stage=Stage.REQUEUED,
        at=requeue.requested_at,
        reason=requeue.why or "no reason was given",
        actor=requeue.actor,
        node=node,
    )
    append(session, [entry], requeue.requested_at)


def _paused(session: Session, node: Node) -> str | None:
    """Why a node would not be run although a person asks, and what to do; None: it would."""
    cluster = session.get(Cluster, 1)
    if cluster is not None and cluster.paused_at is not None:
        return f"the whole cluster is paused{_by(cluster)}; resume it first: vxctl resume --cluster"
    if node.paused_at is not None:
        return f"node {node.hostname} is paused{_by(node)}; resume it first: vxctl resume {node.id}"
    if node.label_ignore:
        return (
            f"node {node.hostname} has the Swarm label vxlan-operator.ignore; remove it first: "
            f"docker node update --label-rm vxlan-operator.ignore {node.id}"
        )
    return None


def _by(paused: Cluster | Node) -> str:
    who = "" if paused.paused_by is None else f" by {paused.paused_by}"
    return who if paused.paused_why is None else f"{who} ({paused.paused_why})"
