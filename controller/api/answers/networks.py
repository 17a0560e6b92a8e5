"""Answers about networks."""

from collections.abc import Iterable
from datetime import datetime
from typing import Self

from contract.verdicts import Mode
from controller.api.answers.base import Answer
from controller.api.answers.devices import DeviceAnswer
from controller.db.models import Attachment, Network, Node


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
    mode_at: datetime | None
    """When a person last set or removed it."""
    mode_by: str | None
    mode_reason: str | None
    paused_at: datetime | None
    paused_by: str | None
    paused_reason: str | None
    paused_until: datetime | None
    """When the pause ends by itself; null: when it is resumed."""
    nodes: int
    """The number of nodes that should have it."""

    @classmethod
    def of(cls, network: Network, nodes: int) -> Self:
        return cls.from_row(network, vnis=[row.vni for row in network.vnis], nodes=nodes)


class CarrierAnswer(Answer):
    """A node that should have a network."""

    node_id: str
    node_name: str
    reasons: list[str]
    running: bool


class NetworkDetailAnswer(NetworkAnswer):
    """A network with its nodes and devices."""

    carriers: list[CarrierAnswer]
    """At most a thousand."""
    seen: list[DeviceAnswer]
    """Devices with a VNI of the network, at most a thousand."""

    @classmethod
    def with_details(
        cls,
        answer: NetworkAnswer,
        carriers: Iterable[tuple[Attachment, Node]],
        seen: list[DeviceAnswer],
    ) -> Self:
        return cls(
            **dict(answer),
            carriers=[
                CarrierAnswer.from_row(attachment, node_name=node.hostname)
                for attachment, node in carriers
            ],
            seen=seen,
        )
