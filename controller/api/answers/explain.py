"""The answer that explains error texts."""

from datetime import datetime
from typing import Literal, Self

from pydantic import Field

from controller.api.answers.audit import AuditAnswer
from controller.api.answers.base import Answer
from controller.api.answers.devices import DeviceAnswer
from controller.explain.sentences import NO_FAULT
from controller.views.explain import Explained, Explanation
from controller.views.outlook import NodeOutlook, State


class NamedAnswer(Answer):
    """A node or network."""

    id: str
    name: str


class NodeOutlookAnswer(Answer):
    """What is known of the fault on one node."""

    node: NamedAnswer
    state: State = Field(
        description="what the last look at the node says of the VNI: `held` by a device that is in the way, "
        "`free` or `in_use` by Docker's own (both in a look after the error), `unseen` (that look was "
        "not after the error, or the error has no time), or `unknown`"
    )
    verdict: str = Field(description="who holds the VNI and by which proof, in sentences")
    devices: list[DeviceAnswer] = Field(description="devices with the VNI in the last look")
    looked_at: datetime | None = Field(
        description="when that look was stored; null: there was none"
    )
    error_at: datetime | None = Field(
        description="when the error last occurred, by the text and by rejected tasks; null: unknown"
    )
    done: list[AuditAnswer] = Field(
        description="what the operator did about the VNI there, the newest first"
    )
    outlook: list[str] = Field(
        description="what the operator will do, or what holds it back, in sentences"
    )
    by_hand: list[str] = Field(description="commands that a person can type on the node, as root")
    look_for: list[str] = Field(description="devices to look for on the node")

    @classmethod
    def of(cls, on_node: NodeOutlook) -> Self:
        return cls(
            node=NamedAnswer(id=on_node.node.id, name=on_node.node.hostname),
            state=on_node.state,
            verdict=on_node.verdict,
            devices=[
                DeviceAnswer.of(device, on_node.node, held)
                for device, held in zip(on_node.devices, on_node.held, strict=True)
            ],
            looked_at=on_node.looked_at,
            error_at=on_node.error_at,
            done=[AuditAnswer.model_validate(row) for row in on_node.done],
            outlook=list(on_node.outlook),
            by_hand=list(on_node.by_hand),
            look_for=list(on_node.look_for),
        )


class FindingAnswer(Answer):
    """A fault or device in the text, with all lines that say the same."""

    id: str = Field(description="of the catalogue's entry: docs/explain.md")
    kind: Literal["fault", "device"]
    title: str
    certain: bool = Field(
        description="false: the message is cut off, and only a part is this fault's"
    )
    cause: str
    cure: list[str] = Field(
        description="what to do; names in capitals (NODE, SERVICE) are to be filled in"
    )
    links: list[str]
    count: int = Field(description="lines that say the same")
    first_at: datetime | None = Field(
        description="earliest time of those lines; null: none has one"
    )
    last_at: datetime | None
    exact: bool = Field(
        description="whether all lines with a time say its zone; false: `first_at` and `last_at` are the "
        "latest that they can mean"
    )
    line: int = Field(description="number of the last of those lines, from 1")
    quote: str = Field(description="that line")
    subnet: str | None
    device: str | None = Field(description="the device that the text asks about")
    vnis: list[int]
    nodes: list[NamedAnswer]
    networks: list[NamedAnswer]
    on_nodes: list[NodeOutlookAnswer]
    look_for: list[str]
    missing: list[str] = Field(description="what to add to the text for a better answer")

    @classmethod
    def of(cls, explained: Explained) -> Self:
        found, group = explained.finding, explained.group
        return cls(
            id=found.about.id,
            kind="fault" if found.device is None else "device",
            title=explained.title,
            certain=found.certain,
            cause=explained.cause,
            cure=list(explained.cure),
            links=list(found.about.links),
            count=group.count,
            first_at=group.first,
            last_at=group.last,
            exact=group.exact,
            line=found.line,
            quote=found.quote,
            subnet=found.subnet,
            device=None if found.device is None else found.device.name,
            vnis=list(explained.vnis),
            nodes=[NamedAnswer(id=node.id, name=node.hostname) for node in explained.nodes],
            networks=[NamedAnswer.model_validate(network) for network in explained.networks],
            on_nodes=[NodeOutlookAnswer.of(on_node) for on_node in explained.on_nodes],
            look_for=list(explained.look_for),
            missing=list(explained.missing),
        )


class ExplanationAnswer(Answer):
    """The meaning of an error text, and what to do."""

    recognised: bool = Field(description="whether a fault of the catalogue, or a device, is in it")
    meaning: str
    lines: int = Field(description="lines that are not empty")
    findings: list[FindingAnswer] = Field(description="the certain ones first")
    more_findings: int = Field(description="findings beyond the first fifty")
    nodes: list[NamedAnswer] = Field(description="all that the text is about")
    networks: list[NamedAnswer]
    lately: list[AuditAnswer] = Field(description="`done` of all on_nodes")
    now: list[DeviceAnswer] = Field(description="`devices` of all on_nodes")
    advice: list[str] = Field(description="what to do, in sentences, of all findings")

    @classmethod
    def of(cls, explanation: Explanation) -> Self:
        findings = [FindingAnswer.of(found) for found in explanation.findings]
        on_nodes = [on_node for found in findings for on_node in found.on_nodes]
        nodes = [node for found in findings for node in found.nodes]
        nodes += [NamedAnswer(id=node.id, name=node.hostname) for node in explanation.nodes]
        networks = [network for found in findings for network in found.networks]
        networks += [NamedAnswer.model_validate(network) for network in explanation.networks]
        advice = [sentence for on_node in on_nodes for sentence in on_node.outlook]
        advice += [sentence for found in findings for sentence in found.missing]
        return cls(
            recognised=bool(findings),
            meaning=findings[0].cause if findings else NO_FAULT,
            lines=explanation.lines,
            findings=findings,
            more_findings=explanation.more,
            nodes=list({node.id: node for node in nodes}.values()),
            networks=list({network.id: network for network in networks}.values()),
            lately=[row for on_node in on_nodes for row in on_node.done],
            now=[device for on_node in on_nodes for device in on_node.devices],
            advice=list(dict.fromkeys([*advice, *explanation.advice])),
        )
