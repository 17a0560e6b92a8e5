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
from controller.db.pauses import describe_pause
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
    """The node is paused, so it would not be run.

    Attributes:
        hint: how to end the pause.
    """

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.hint = hint


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
    if added is None:
        # Where it was resumed a moment ago, who had paused it is unknown.
        pause = describe_pause(session.get_one(Cluster, 1)) or "paused"
        raise PausedError(f"the cluster is {pause}", "resume it: `vxctl resume --cluster`")
    if node.paused_at is not None:
        raise PausedError(
            f"node {node.hostname} is {describe_pause(node)}",
            f"resume it: `vxctl resume {node.id}`",
        )
    if node.label_ignore:
        raise PausedError(
            f"node {node.hostname} has the Swarm label vxlan-operator.ignore",
            f"remove it: `docker node update --label-rm vxlan-operator.ignore {node.id}`",
        )
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
