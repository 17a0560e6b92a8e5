"""Answers about nodes, and about conditions."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import BeforeValidator

from contract.verdicts import Mode
from controller.api.answers.base import Answer
from controller.api.answers.devices import DeviceAnswer
from controller.conditions.model import Status, Stored, listed
from controller.db.models import Attachment, Network, Node
from controller.db.states import RunState


class ConditionAnswer(Answer):
    """A condition; docs/conditions.md explains all."""

    type: str
    status: Status
    reason: str
    message: str
    since: datetime
    """When the status last changed."""
    looked_at: datetime | None = None
    """When the answering process last tested it; null: it is stored, see `conditions_at` of the status."""


Conditions = Annotated[
    list[ConditionAnswer],
    BeforeValidator(lambda found: listed(found) if isinstance(found, dict) else found),
]
"""A list in the order of the types; made from conditions as a row stores them."""


class LastRunAnswer(Answer):
    """The last closed run of a node."""

    id: UUID
    state: RunState
    at: datetime
    error: str | None


class NodeAnswer(Answer):
    """A node of the Swarm."""

    id: str
    hostname: str
    hostname_is_shared: bool
    """Whether another node of the Swarm has this hostname, as after a node left and joined again."""
    role: str
    availability: str
    state: str
    address: str
    generation: int
    attempted_generation: int
    converged_generation: int
    worker_version: str | None
    worker_seen_at: datetime | None
    last_error: str | None
    last_run: LastRunAnswer | None
    limitations: list[str]
    missing: list[str]
    """Names of the networks that should have a device there, and have none."""
    failures: int
    running: UUID | None
    due_at: datetime | None
    due_reasons: list[str]
    label_mode: Mode | None
    label_ignore: bool
    mode: Mode | None
    """Set by a person."""
    mode_at: datetime | None
    """When a person last set or removed it."""
    mode_by: str | None
    mode_reason: str | None
    paused_at: datetime | None
    paused_by: str | None
    paused_reason: str | None
    paused_until: datetime | None
    """When the pause ends by itself; null: when it is resumed."""
    breaker_tripped_at: datetime | None
    breaker_reason: str | None
    conditions: Conditions
    devices: dict[str, int]
    """The number of its devices by verdict."""

    @classmethod
    def of(
        cls,
        node: Node,
        conditions: Stored,
        shared: bool,
        devices: dict[str, int],
        errors: Mapping[UUID, str | None],
    ) -> Self:
        """Build the answer.

        Args:
            conditions: as of now.
            shared: whether another node has its hostname.
            devices: counts by verdict.
            errors: of last runs.
        """
        last = None
        if node.last_run_id and node.last_run_state and node.last_run_at:
            last = LastRunAnswer(
                id=node.last_run_id,
                state=node.last_run_state,
                at=node.last_run_at,
                error=errors.get(node.last_run_id),
            )
        return cls.from_row(
            node,
            conditions=conditions,
            hostname_is_shared=shared,
            last_run=last,
            failures=node.due.failures,
            running=node.due.run_id,
            due_at=node.due.due_at,
            due_reasons=node.due.reasons,
            devices=devices,
        )


class AttachmentAnswer(Answer):
    """A network that a node should have."""

    network_id: str
    network_name: str
    reasons: list[str]
    running: bool
    """Whether the Swarm reports a running task of it there."""


class NodeDetailAnswer(NodeAnswer):
    """A node with its networks and devices."""

    attachments: list[AttachmentAnswer]
    seen: list[DeviceAnswer]
    """The devices of its last report, at most a thousand."""

    @classmethod
    def with_details(
        cls,
        answer: NodeAnswer,
        attachments: Iterable[tuple[Attachment, Network]],
        seen: list[DeviceAnswer],
    ) -> Self:
        return cls(
            **dict(answer),
            attachments=[
                AttachmentAnswer.from_row(attachment, network_name=network.name)
                for attachment, network in attachments
            ],
            seen=seen,
        )
