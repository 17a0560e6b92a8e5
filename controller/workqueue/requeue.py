"""A person's requests for runs: stored once per token; the claim links each to the run that answers it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, exists, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from contract.verdicts import Stage
from controller.audit.append import Entry
from controller.db import lookup
from controller.db.models import Cluster, Requeue
from controller.db.pauses import describe_pause
from controller.db.states import with_claim
from controller.workqueue import queue
from controller.workqueue.priorities import Priority

_GIVEN: Final = ("token", "node_id", "requested_at", "actor", "claimed_name", "reason")
_PAUSED: Final = exists().where(Cluster.paused_at.is_not(None))
_ADD: Final = {
    name: into(Requeue)
    .from_select(
        _GIVEN,
        select(*(bindparam(name, type_=getattr(Requeue, name).type) for name in _GIVEN)).where(
            ~_PAUSED
        ),
    )
    .on_conflict_do_nothing(index_elements=["token"])
    .returning(Requeue)
    .execution_options(dml_strategy="orm")
    for name, into in (("postgresql", postgresql.insert), ("sqlite", sqlite.insert))
}
"""By dialect. Adds nothing where the whole cluster is paused, or the token is known."""


@dataclass(frozen=True, slots=True)
class RequeueRequest:
    """A person's request for a run; the same token asks only once."""

    node: str
    """Id, unique id prefix or hostname."""
    token: str
    actor: str
    reason: str | None
    claimed_name: str | None = None


class PausedError(Exception):
    """The node is paused, so it would not be run; `hint` says how to end the pause."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.hint = hint


class TokenTakenError(Exception):
    """The token stands for a request about another node."""


def store(session: Session, request: RequeueRequest, now: datetime) -> Sequence[Entry]:
    """Store a request and make its node due, before others; a known token does nothing.

    A person waits for this, so it takes few statements.

    Returns:
        Entries for the audit trail, to be appended when the transaction has nothing else left to lock.

    Raises:
        UnknownError, AmbiguousError: no or several nodes have this name.
        PausedError: the node is paused; the transaction must be rolled back.
        TokenTakenError: the token was used for another node.
    """
    node = lookup.find_node(session, request.node)
    added = session.scalar(
        _ADD[session.get_bind().dialect.name],
        {
            "token": request.token,
            "node_id": node.id,
            "requested_at": now,
            "actor": request.actor,
            "claimed_name": request.claimed_name,
            "reason": request.reason,
        },
    )
    known = session.get(Requeue, request.token) if added is None else None
    if known is not None:
        if known.node_id != node.id:
            raise TokenTakenError(
                f"the token {request.token!r} stands for a request about node {known.node_id}"
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
    because = "" if request.reason is None else f": {request.reason}"
    due = f"requeued by {with_claim(request.actor, request.claimed_name)}{because}"
    queue.request(session, [node.id], at=now, priority=Priority.MANUAL, reason=due)
    reason = request.reason or "no reason was given"
    return [
        Entry(
            stage=Stage.REQUEUED,
            at=now,
            reason=reason,
            actor=request.actor,
            claimed_name=request.claimed_name,
            node=node,
        )
    ]
