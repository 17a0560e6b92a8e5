"""Answers about differences from desired state."""

from datetime import datetime
from typing import Self

from pydantic import Field

from controller.api.answers.base import Answer
from controller.api.answers.on_node import OnNode
from controller.views.diff import Kind, NodeDiff, State


class DifferenceAnswer(Answer):
    """A difference between desired state and what was seen."""

    kind: Kind = Field(
        description="missing: a device that tasks need; conflict: a VNI is held by other software; orphan: "
        "proved dead; settling: idle, without proof; unwanted: in use, although not desired here"
    )
    network_id: str | None
    network_name: str | None
    vni: int | None
    device: str | None = Field(description="null: it is missing")
    netns: str | None
    ifindex: int | None
    since: datetime | None = Field(description="since when the device is judged so")
    reason: str


class NodeDiffAnswer(OnNode):
    """A node's desired state against what its last run saw."""

    node_id: str
    node_name: str
    state: State = Field(
        description="same, differs, or unknown: what was seen need not be there now"
    )
    why_unknown: list[str]
    looked_at: datetime | None = Field(description="when a run last looked; null: never")
    read_at: datetime = Field(description="when the Swarm was last read in full")
    differences: list[DifferenceAnswer] = Field(description="as last seen, if `state` is unknown")

    @classmethod
    def of(cls, found: NodeDiff) -> Self:
        return cls(
            node_id=found.node.id,
            node_name=found.node.hostname,
            state=found.state,
            why_unknown=list(found.why_unknown),
            looked_at=found.looked_at,
            read_at=found.read_at,
            differences=[DifferenceAnswer(**row._asdict()) for row in found.differences],
        )
