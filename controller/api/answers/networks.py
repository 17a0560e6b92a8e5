"""What is said of networks."""

from collections.abc import Iterable
from datetime import datetime
from typing import Self

from contract.verdicts import Mode
from controller.api.answers.base import Answer, columns
from controller.api.answers.devices import DeviceAnswer
from controller.db.models import (
    Attachment,
    Device,
    Network,
    Node,
)


class NetworkAnswer(Answer):
    """An overlay network."""

    id: str
    name: str
    ingress: bool
    vnis: list[int]
    label_mode: Mode | None
    label_ignore: bool
    mode: Mode | None
    """Set by a person."""
    paused_at: datetime | None
    paused_by: str | None
    paused_reason: str | None
    nodes: int
    """How many nodes should carry it."""

    @classmethod
    def of(cls, network: Network, nodes: int) -> Self:
        """From the row."""
        return cls(**columns(cls, network), vnis=[row.vni for row in network.vnis], nodes=nodes)


class CarrierAnswer(Answer):
    """A node that should carry a network."""

    node_id: str
    node_name: str
    reasons: list[str]
    running: bool


class NetworkDetailAnswer(NetworkAnswer):
    """A network, with who should carry it and what was seen of it."""

    carriers: list[CarrierAnswer]
    """At most a thousand."""
    seen: list[DeviceAnswer]
    """Devices with a VNI of it, at most a thousand."""

    @classmethod
    def with_details(
        cls,
        answer: NetworkAnswer,
        carriers: Iterable[tuple[Attachment, Node]],
        seen: Iterable[tuple[Device, Node]],
    ) -> Self:
        """From what a list says of it, and the rows beside it."""
        return cls(
            **dict(answer),
            carriers=[
                CarrierAnswer(
                    node_id=node.id,
                    node_name=node.hostname,
                    reasons=attachment.reasons,
                    running=attachment.running,
                )
                for attachment, node in carriers
            ],
            seen=[DeviceAnswer.of(*each) for each in seen],
        )
