"""What is said of runs, and of requests for them."""

from datetime import datetime
from uuid import UUID

from controller.api.answers.base import Answer
from controller.db.models import Node, Run
from controller.db.states import RunState


class RunAnswer(Answer):
    """One reconcile of one node."""

    id: UUID
    node_id: str
    node_name: str
    state: RunState
    reasons: list[str]
    actor: str
    """On whose word."""
    generation: int
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
    def of(cls, run: Run, node: Node) -> "RunAnswer":
        """From the rows."""
        columns = {name: getattr(run, name) for name in cls.model_fields if name != "node_name"}
        return cls(**columns, node_name=node.hostname)


class RequeueAnswer(Answer):
    """A person's request for a run of a node, and what became of it."""

    token: str
    """What `GET /api/v1/requeues/{token}` follows it by."""
    node_id: str
    node_name: str
    node_state: str
    """What the Swarm says: a node that is down is run when it is up again."""
    actor: str
    reason: str | None
    requested_at: datetime
    waits_for_run: UUID | None
    """The run that is under way, after which the node is run again; None: nothing is in the way."""
    run: RunAnswer | None
    """The run that answers the request; None: it has not begun."""
