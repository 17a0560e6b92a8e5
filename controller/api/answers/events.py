"""The answer about an event."""

from datetime import datetime
from uuid import UUID

from pydantic import Field

from controller.api.answers.on_node import OnNode


class EventAnswer(OnNode):
    """Something that happened."""

    id: str = Field(description="unique; `audit/ID` is the audit row with that id")
    at: datetime
    type: str = Field(description="Warning: a problem; Normal: anything else")
    kind: str = Field(
        description="one word: the reason of a condition, the stage of an audit row, `task_rejected`, "
        "`run_lost`, `run_failed` or `run_refused`"
    )
    node_id: str | None = Field(description="null: not about a node")
    node_name: str | None
    network_id: str | None = Field(description="null: not about a network")
    network_name: str | None
    message: str
    actor: str | None = Field(description="who caused it, if that is known")
    run_id: UUID | None
