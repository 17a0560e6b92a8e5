"""What the API's answers look like; the field names are a promise to those who script against it."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from contract.verdicts import Mode, Stage, Urgency, Verdict
from controller.audit.chain import Fault
from controller.audit.counts import Counts
from controller.audit.stories import Story
from controller.audit.verify import Progress
from controller.breaker import Limits, State
from controller.conditions.words import Status
from controller.decisions import describe
from controller.models import Attachment, AuditRow, Cluster, Device, Network, Node, Run
from controller.modes import Effective
from controller.states import RunState


class _Answer(BaseModel):
    model_config = ConfigDict(from_attributes=True)


def _columns(answer: type[_Answer], row: Node | Network) -> dict[str, Any]:
    """What an answer has from the row itself."""
    return {
        name: getattr(row, name) for name in answer.model_fields if name in row.__table__.columns
    }


class ConditionAnswer(_Answer):
    """One condition; docs/conditions.md says what each means."""

    type: str
    status: Status
    reason: str
    message: str
    since: datetime
    """When the status last changed."""


class ClusterAnswer(_Answer):
    """The Swarm, and how fresh what is known of it is."""

    swarm_id: str
    data_path_port: int
    synced_at: datetime
    sync_error: str | None
    sync_error_at: datetime | None
    sync_reason: str | None
    sync_seconds: float | None
    sync_share: float | None
    mode: Mode | None
    """Set by a person, over the settings; null: as the settings say."""
    paused_at: datetime | None
    paused_by: str | None
    paused_why: str | None
    breaker_tripped_at: datetime | None
    breaker_reason: str | None
    conditions: list[ConditionAnswer]


class LastRunAnswer(_Answer):
    """How the last run of a node ended."""

    id: UUID
    state: RunState
    at: datetime
    error: str | None


class NodeAnswer(_Answer):
    """A node of the Swarm."""

    id: str
    hostname: str
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
    limits: list[str]
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
    paused_at: datetime | None
    paused_by: str | None
    paused_why: str | None
    breaker_tripped_at: datetime | None
    breaker_reason: str | None
    conditions: list[ConditionAnswer]
    devices: dict[str, int]
    """How many of its devices have which verdict."""

    @classmethod
    def of(cls, node: Node, devices: dict[str, int], errors: Mapping[UUID, str | None]) -> Self:
        """From the row, its devices' verdicts, and the errors of last runs."""
        last = None
        if node.last_run_id and node.last_run_state and node.last_run_at:
            last = LastRunAnswer(
                id=node.last_run_id,
                state=node.last_run_state,
                at=node.last_run_at,
                error=errors.get(node.last_run_id),
            )
        return cls(
            **_columns(cls, node),
            last_run=last,
            failures=node.due.failures,
            running=node.due.run_id,
            due_at=node.due.due_at,
            due_reasons=node.due.reasons,
            devices=devices,
        )


class AttachmentAnswer(_Answer):
    """A network that a node should carry."""

    network_id: str
    network_name: str
    reasons: list[str]
    running: bool
    """Whether a task of it runs there, as the Swarm knows."""


class StatusAnswer(_Answer):
    """Everything at a glance."""

    version: str
    mode: str
    """As the settings say."""
    leader: str | None
    """The controller that leads, HOST:PID:random; None: there was none yet."""
    leading: bool
    """Whether it is the one that answers."""
    cluster: ClusterAnswer | None
    readiness: dict[str, dict[str, int]]
    """How many nodes have which status of `Ready`, and for which reason."""
    nodes: list[NodeAnswer]
    """Some of the nodes, those that are not ready first."""


class NetworkAnswer(_Answer):
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
    paused_why: str | None
    nodes: int
    """How many nodes should carry it."""

    @classmethod
    def of(cls, network: Network, nodes: int) -> Self:
        """From the row."""
        return cls(**_columns(cls, network), vnis=[row.vni for row in network.vnis], nodes=nodes)


class CarrierAnswer(_Answer):
    """A node that should carry a network."""

    node_id: str
    node_name: str
    reasons: list[str]
    running: bool


class DeviceAnswer(_Answer):
    """A VXLAN device of a node."""

    node_id: str
    node_name: str
    place: str
    ifindex: int
    name: str
    vni: int
    port: int
    verdict: Verdict
    urgency: Urgency | None
    network_id: str | None
    reason: str
    evidence: str
    first_seen_at: datetime
    judged_at: datetime

    @classmethod
    def of(cls, device: Device, node: Node) -> "DeviceAnswer":
        """From the rows."""
        columns = {name: getattr(device, name) for name in cls.model_fields if name != "node_name"}
        return cls(**columns, node_name=node.hostname)


class NodeDetailAnswer(NodeAnswer):
    """A node, with what it should carry and what was seen there."""

    attachments: list[AttachmentAnswer]
    seen: list[DeviceAnswer]
    """Its devices, at most a thousand."""

    @classmethod
    def with_details(
        cls,
        answer: NodeAnswer,
        attachments: Iterable[tuple[Attachment, Network]],
        seen: Iterable[tuple[Device, Node]],
    ) -> Self:
        """From what a list says of it, and the rows beside it."""
        return cls(
            **dict(answer),
            attachments=[
                AttachmentAnswer(
                    network_id=network.id,
                    network_name=network.name,
                    reasons=attachment.reasons,
                    running=attachment.running,
                )
                for attachment, network in attachments
            ],
            seen=[DeviceAnswer.of(*each) for each in seen],
        )


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


class RunAnswer(_Answer):
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


class AuditAnswer(_Answer):
    """One audit row."""

    id: int
    entry_id: UUID
    at: datetime
    stored_at: datetime
    stage: Stage
    actor: str | None
    node_id: str | None
    node_name: str | None
    network_id: str | None
    network_name: str | None
    place: str | None
    ifindex: int | None
    name: str | None
    vni: int | None
    port: int | None
    verdict: Verdict | None
    urgency: Urgency | None
    reason: str
    evidence: str | None
    run_id: UUID | None
    worker_version: str | None
    position: int | None

    @classmethod
    def of(cls, row: AuditRow) -> "AuditAnswer":
        """From the row."""
        return cls.model_validate(row)


class AuditPage(_Answer):
    """Audit rows, the newest first."""

    items: list[AuditAnswer]
    next: str | None
    """Give it as `cursor` for the rows behind these; None: there are no more."""
    searched_to: datetime | None
    """Set where a page ended before it was full, because what is asked for is so rare: rows later than
    this are all told, `next` goes on searching."""
    after: int
    """Give it as `after` for what is stored from now on."""

    @classmethod
    def of(
        cls,
        rows: Sequence[AuditRow],
        after: int,
        next_: str | None = None,
        searched_to: datetime | None = None,
    ) -> "AuditPage":
        """From the rows."""
        items = [AuditAnswer.of(row) for row in rows]
        return cls(items=items, next=next_, searched_to=searched_to, after=after)


class StoryAnswer(_Answer):
    """All that is recorded of one run, or of something that happened without one."""

    run: RunAnswer | None
    """None: there was none, or the run history no longer has it."""
    rows: list[AuditAnswer]
    """In the order in which they were stored."""

    @classmethod
    def of(cls, story: Story) -> "StoryAnswer":
        """From what was found."""
        run = None
        if story.run is not None and story.node is not None:
            run = RunAnswer.of(story.run, story.node)
        return cls(run=run, rows=[AuditAnswer.of(row) for row in story.rows])


class CountAnswer(_Answer):
    """How many devices were removed on a node, or of a network."""

    id: str | None
    """None: of no network that was known."""
    name: str | None
    removals: int


class DayAnswer(_Answer):
    """How many devices were removed in a day."""

    day: date
    """In UTC."""
    removals: int


class AuditStats(_Answer):
    """Removals by node, network and day."""

    since: datetime
    """Later than asked for where there were more than can be counted at once."""
    until: datetime
    whole: bool
    """Whether all were counted that were asked for."""
    removals: int
    nodes: list[CountAnswer]
    """The hundred with the most, the most first; networks likewise."""
    networks: list[CountAnswer]
    days: list[DayAnswer]
    """The newest first; a day without removals is left out."""

    @classmethod
    def of(cls, counts: Counts) -> "AuditStats":
        """From what was counted."""
        return cls.model_validate(counts)


class FindingAnswer(_Answer):
    """What is wrong with the hash chain."""

    fault: Fault
    position: int
    id: int | None
    detail: str


class VerifyAnswer(_Answer):
    """How far a check of the hash chain has come; places are `POSITION:HASH`."""

    began: str
    reached: str
    checked: int
    head: str
    done: bool
    finding: FindingAnswer | None

    @classmethod
    def of(cls, progress: Progress) -> "VerifyAnswer":
        """From the step."""
        return cls(
            began=str(progress.began),
            reached=str(progress.mark),
            checked=progress.checked,
            head=str(progress.head),
            done=progress.done,
            finding=None
            if progress.finding is None
            else FindingAnswer.model_validate(progress.finding),
        )


class RequeueAnswer(_Answer):
    """A person's request for a run of a node, and what became of it."""

    token: str
    """What `GET /api/v1/requeues/{token}` follows it by."""
    node_id: str
    node_name: str
    node_state: str
    """What the Swarm says: a node that is down is run when it is up again."""
    actor: str
    why: str | None
    requested_at: datetime
    waits_for_run: UUID | None
    """The run that is under way, after which the node is run again; None: nothing is in the way."""
    run: RunAnswer | None
    """The run that answers the request; None: it has not begun."""


class DecisionAnswer(_Answer):
    """What holds for a node, a network or the cluster after somebody decided."""

    id: str
    name: str
    """With its kind, as people say it: `node one`."""
    changed: bool
    """False: it was so before; nothing was changed or recorded."""
    paused_at: datetime | None
    paused_by: str | None
    paused_why: str | None
    mode: Mode | None
    """Set by hand; null: as the others say."""
    effective_mode: Mode
    """All considered; of a network, on a node that says nothing itself."""
    paused: bool
    """Paused, it itself or the cluster, or ignored by a Swarm label."""
    reasons: list[str]
    """Who says so."""

    @classmethod
    def of(cls, target: Cluster | Node | Network, effective: Effective, *, changed: bool) -> Self:
        """From the row, and what holds for it."""
        return cls(
            id=target.swarm_id if isinstance(target, Cluster) else target.id,
            name=describe(target),
            changed=changed,
            paused_at=target.paused_at,
            paused_by=target.paused_by,
            paused_why=target.paused_why,
            mode=target.mode,
            effective_mode=effective.mode,
            paused=effective.paused,
            reasons=list(effective.reasons),
        )


class BreakerNodeAnswer(_Answer):
    """A node that removed something lately, or whose breaker has tripped."""

    id: str
    hostname: str
    removals: int
    """In the window, and since the last reset."""
    tripped_at: datetime | None
    reason: str | None


class BreakerAnswer(_Answer):
    """The breaker: what counts against which limit, and what has tripped."""

    window_seconds: float
    node_removals: int
    """So many removals of one node are allowed in the window."""
    nodes_removing: int
    """How many nodes removed something in the window."""
    nodes_allowed: int
    """How many may."""
    tripped_at: datetime | None
    """Of the cluster: then nothing is removed anywhere."""
    reason: str | None
    reset_at: datetime | None
    nodes: list[BreakerNodeAnswer]
    """The most removals first; at most a thousand."""

    @classmethod
    def of(cls, cluster: Cluster | None, state: State, limits: Limits) -> Self:
        """From the rows."""
        return cls(
            window_seconds=limits.window.total_seconds(),
            node_removals=limits.node_removals,
            nodes_removing=state.removing,
            nodes_allowed=state.allowed,
            tripped_at=None if cluster is None else cluster.breaker_tripped_at,
            reason=None if cluster is None else cluster.breaker_reason,
            reset_at=None if cluster is None else cluster.breaker_reset_at,
            nodes=[
                BreakerNodeAnswer(
                    id=node.id,
                    hostname=node.hostname,
                    removals=removals,
                    tripped_at=node.breaker_tripped_at,
                    reason=node.breaker_reason,
                )
                for node, removals in state.nodes
            ],
        )


class BreakerResetAnswer(_Answer):
    """What a reset did."""

    reset: list[str]
    """What had tripped, and has been reset; empty: nothing had."""
    breaker: BreakerAnswer
    """As it is now."""
