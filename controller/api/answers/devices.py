"""The answer about a device."""

from datetime import datetime
from typing import Self

from contract.verdicts import Proof, Urgency, Verdict
from controller.api.answers.base import Answer
from controller.db.models import Device, Node


class DeviceAnswer(Answer):
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
    reason: str
    evidence: str
    proof: Proof | None
    netns_file: str | None
    """The file of its netns, if the worker can see one."""
    first_seen_at: datetime
    judged_at: datetime

    @classmethod
    def of(cls, device: Device, node: Node) -> Self:
        return cls.from_row(device, node_name=node.hostname)
