"""Answers about runs and requeues."""

from datetime import datetime
from typing import Self
from uuid import UUID

from controller.api.answers.base import Answer
from controller.api.answers.on_node import OnNode
from controller.db.models import Node, Run
from controller.db.states import RunState


class RunAnswer(OnNode):
    """A run: one reconcile of a node."""

    id: UUID
    node_id: str
    node_name: str
    state: RunState
    reasons: list[str]
    actor: str
    """The person or program that requested it, or `controller`."""
    generation: int
    due_at: datetime | None
    """Since when its node was due; null: a run of version 0.1.0."""
    requested_at: datetime
    deadline: datetime
    started_at: datetime | None
    finished_at: datetime | None
    closed_at: datetime | None
    devices: int
    orphans: int
    removed: int
    error: str | None

    @classmethod
    def of(cls, run: Run, node: Node) -> Self:
        return cls.from_row(run, node_name=node.hostname)


class RequeueAnswer(Answer):
    """A requeue: a person's request for a run of a node, and the run that answers it."""

    token: str
    """`GET /api/v1/requeues/{token}` follows the request."""
    node_id: str
    node_name: str
    node_state: str
    """In the Swarm; a node that is down gets its run when it is up again."""
    actor: str
    """Name of the token that was used."""
    claimed_name: str | None
    """For whom the actor said to act."""
    reason: str | None
    requested_at: datetime
    waits_for_run: UUID | None
    """A run under way that must end first; null: none."""
    run: RunAnswer | None
    """The run that answers the request; null: it has not started."""
    not_sent_because: str | None
    """Why the request is stored and not sent, and when it is; null: it was sent, or is in a moment."""
