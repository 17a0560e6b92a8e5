"""Answers about devices, and about what holds their removal back."""

from collections.abc import Sequence
from datetime import datetime
from typing import Self

from contract.verdicts import HeldBack, Proof, Urgency, Verdict
from controller.api.answers.base import Answer
from controller.api.answers.on_node import OnNode
from controller.conditions.holds import Hold
from controller.db.models import Device, Node


class HoldAnswer(Answer):
    """Something that holds the removal of a device back."""

    reason: HeldBack
    where: str
    """What it was set on: `the cluster`, `node node3`, `network shop`."""
    by: str | None
    """The person, or what else set it; null: unknown."""
    set_at: datetime | None
    """When it was set; null: unknown (labels and settings have no time)."""
    since: datetime
    """Since when it holds this device back: since it was set or the device was judged so, the later."""
    why: str | None
    """In the person's words, or those of the breaker or worker; null: no reason was given."""
    command: str | None
    """Ends it, as it can be typed; null: no command does."""
    until: str
    """What ends it, as a phrase."""
    text: str
    """All of this but what ends it, as a phrase."""

    @classmethod
    def of(cls, hold: Hold, device: Device) -> Self:
        return cls(
            reason=hold.reason,
            where=hold.where,
            by=hold.by,
            set_at=hold.since,
            since=device.verdict_at if hold.since is None else max(hold.since, device.verdict_at),
            why=hold.why,
            command=hold.command,
            until=hold.until,
            text=str(hold),
        )


class DeviceAnswer(OnNode):
    """A VXLAN device of a node."""

    node_id: str
    node_name: str
    netns: str
    ifindex: int
    name: str
    vni: int
    port: int
    verdict: Verdict
    urgency: Urgency | None
    network_id: str | None
    network_name: str | None
    """null: no known network has its VNI."""
    reason: str
    evidence: str
    proof: Proof | None
    netns_file: str | None
    """The file of its netns, if the worker can see one."""
    held_back: list[HoldAnswer]
    """What holds its removal back; empty: it is not to be removed, or the next run removes it."""
    first_seen_at: datetime
    judged_at: datetime
    """When the answer's words about it last changed."""
    verdict_at: datetime
    """Since when the verdict stands."""
    looked_at: datetime | None
    """When its node was last looked at: the age of all that is said here; null: by the link watch alone."""

    @classmethod
    def of(cls, device: Device, node: Node, holds: Sequence[Hold]) -> Self:
        return cls.from_row(
            device,
            node_name=node.hostname,
            network_name=device.network_name,
            held_back=[HoldAnswer.of(hold, device) for hold in holds],
            looked_at=node.looked_at,
        )
