"""All tables but those of the audit trail, which are in `audit_models`."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Text, false, select
from sqlalchemy.orm import Mapped, MappedColumn, column_property, mapped_column, relationship

from contract.verdicts import HeldBack, Proof, Urgency, Verdict
from controller.db.restrictions import Guarded, Labelled, Restrictable
from controller.db.states import CONTROLLER, RunState
from controller.db.types import BIG_ID, SWARM_ID, Base, partial_index


def _id_of(table: str, *, primary_key: bool = False, index: bool = False) -> MappedColumn[str]:
    """The id of a row of the table; with that row, rows of this id are deleted."""
    key = ForeignKey(f"{table}.id", ondelete="CASCADE")
    return mapped_column(SWARM_ID, key, primary_key=primary_key, index=index or None)


class Cluster(Restrictable, Guarded, Base):
    """The one Swarm that this database is about; a single row, with id 1."""

    __tablename__ = "cluster"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    swarm_id: Mapped[str] = mapped_column(SWARM_ID)
    data_path_port: Mapped[int]
    synced_at: Mapped[datetime]
    """Time of the last full reading of the Swarm."""
    sync_error: Mapped[str | None] = mapped_column(Text)
    """Error of the last reading; None if it succeeded."""
    sync_error_at: Mapped[datetime | None]
    sync_reason: Mapped[str | None] = mapped_column(String(32))
    """`sync_error` as one CamelCase word, for conditions and metrics."""
    sync_seconds: Mapped[float | None]
    """Duration of the requests of the last full reading."""
    sync_share: Mapped[float | None]
    """Recent share of time spent on requests to the manager: 0 to 1."""
    sync_manager: Mapped[str | None] = mapped_column(Text)
    """Docker API of the manager that the last full reading asked; None: there is only one."""
    managers_away: Mapped[str | None] = mapped_column(Text)
    """Why others could not be asked; None: they could, or there are none."""
    conditions: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """By type: `controller.conditions.model.Stored`."""
    conditions_at: Mapped[datetime | None]
    """When the conditions of everything were last derived; None: not by this version."""
    conditions_until: Mapped[datetime | None]
    """Until when they hold unless they are derived again."""


class Node(Restrictable, Labelled, Guarded, Base):
    """A node of the Swarm, with the last report of its worker."""

    __tablename__ = "nodes"

    id: Mapped[str] = mapped_column(SWARM_ID, primary_key=True)
    hostname: Mapped[str] = mapped_column(Text, index=True)
    role: Mapped[str] = mapped_column(String(16))
    availability: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))
    address: Mapped[str] = mapped_column(Text)
    gone_at: Mapped[datetime | None]
    """Since when the Swarm no longer lists it; its history stays."""

    generation: Mapped[int] = mapped_column(default=1)
    """Incremented when the set of networks that the node should carry changes."""
    attempted_generation: Mapped[int] = mapped_column(default=0)
    converged_generation: Mapped[int] = mapped_column(default=0)

    worker_version: Mapped[str | None] = mapped_column(String(64))
    max_removals: Mapped[int | None]
    """Removals that its worker's settings allow a run; None: the worker has not said so."""
    worker_seen_at: Mapped[datetime | None]
    journal_id: Mapped[UUID | None]
    journal_through: Mapped[int] = mapped_column(BigInteger, default=0)
    """Entries of that journal up to this number are stored, by the last report that had any."""
    controller_keys: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    """Ids of the controllers' keys that its worker believes; None: it has not said so."""
    audit_spent: Mapped[float] = mapped_column(default=0, server_default="0")
    """Audit rows that it caused, less what it may by now (`controller.audit.budget`)."""
    audit_spent_at: Mapped[datetime | None]
    audit_left_out: Mapped[int] = mapped_column(default=0, server_default="0")
    """Rows that were left out, and of which no row says so yet."""
    last_error: Mapped[str | None] = mapped_column(Text)
    limitations: Mapped[list[str]] = mapped_column(default=list)
    missing: Mapped[list[str]] = mapped_column(default=list)
    """Names of the networks that should have a device there, and have none."""

    desired_digest: Mapped[str | None] = mapped_column(String(64))
    """Of the attachments: equal digests save a comparison."""
    last_run_id: Mapped[UUID | None]
    last_run_state: Mapped[RunState | None]
    last_run_at: Mapped[datetime | None]
    """When the last run was closed."""
    looked_at: Mapped[datetime | None]
    """When the last report with all its devices was stored."""
    conditions: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """By type: `controller.conditions.model.Stored`."""

    due: Mapped["DueNode"] = relationship(back_populates="node", cascade="all, delete-orphan")


class DueNode(Base):
    """When a node is next due, why, and the run under way; `controller.workqueue.queue` has the rules."""

    __tablename__ = "due_nodes"
    __table_args__ = (
        Index("ix_due_nodes_claim", "run_id", "due_at"),
        # What is urgent is found at once, however many wait for a resync.
        partial_index("ix_due_nodes_urgent", "run_id", "due_at", where="priority >= 3"),
    )

    node_id: Mapped[str] = _id_of("nodes", primary_key=True)
    due_at: Mapped[datetime | None]
    """None: no run is requested."""
    priority: Mapped[int] = mapped_column(default=0)
    reasons: Mapped[list[str]] = mapped_column(default=list)
    failures: Mapped[int] = mapped_column(default=0)
    """Runs in a row that failed or were lost."""
    run_id: Mapped[UUID | None]
    """The open run; requests wait until it is closed."""
    run_deadline: Mapped[datetime | None]
    run_priority: Mapped[int] = mapped_column(default=0)
    run_reasons: Mapped[list[str]] = mapped_column(default=list)
    """Reasons of the open run."""
    run_due_at: Mapped[datetime | None]
    """Since when that was due."""
    despite_pause: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether the next run begins even while the node is paused: in mode observe, to tell its worker."""

    node: Mapped[Node] = relationship(back_populates="due")


class Network(Restrictable, Labelled, Base):
    """An overlay network of the Swarm."""

    __tablename__ = "networks"

    id: Mapped[str] = mapped_column(SWARM_ID, primary_key=True)
    name: Mapped[str] = mapped_column(Text, index=True)
    ingress: Mapped[bool]
    gone_at: Mapped[datetime | None]

    vnis: Mapped[list["NetworkVni"]] = relationship(
        cascade="all, delete-orphan", order_by="NetworkVni.vni", lazy="selectin"
    )


class NetworkVni(Base):
    """A VNI of a network: one a subnet."""

    __tablename__ = "network_vnis"

    network_id: Mapped[str] = _id_of("networks", primary_key=True)
    vni: Mapped[int] = mapped_column(primary_key=True, index=True)
    cidr: Mapped[str | None] = mapped_column(String(64), index=True)
    """The subnet, if it is known; kept when the network is gone."""


class Rejection(Base):
    """A task that its node rejected with an error of the fault; kept as long as the run history."""

    __tablename__ = "rejections"
    __table_args__ = (
        Index("ix_rejections_node", "node_id", "at"),
        # Who rejected a subnet, and of which network: `explain` asks, however long ago that was.
        Index("ix_rejections_cidr", "cidr", "node_id", "network_id", "at"),
        # What still counts is a handful, however many there were.
        partial_index("ix_rejections_open", "node_id", "vni", where="settled_at IS NULL"),
        # Whose task does not run again yet: looked for at each reading.
        partial_index(
            "ix_rejections_awaited",
            "seen_at",
            where="removed_at IS NOT NULL AND running_at IS NULL",
        ),
    )

    task_id: Mapped[str] = mapped_column(SWARM_ID, primary_key=True)
    node_id: Mapped[str] = _id_of("nodes")
    at: Mapped[datetime]
    """By the node's clock."""
    seen_at: Mapped[datetime] = mapped_column(index=True)
    """Time of the reading that had it."""
    network_id: Mapped[str | None] = mapped_column(SWARM_ID)
    """Of the subnet in the error; None, like `vni`: unknown."""
    vni: Mapped[int | None]
    cidr: Mapped[str | None] = mapped_column(String(64))
    doubt: Mapped[str | None] = mapped_column(Text)
    """Why it proves nothing of a device."""
    error: Mapped[str] = mapped_column(Text)
    settled_at: Mapped[datetime | None]
    """Since when it is no evidence of the present."""
    service_id: Mapped[str | None] = mapped_column(SWARM_ID)
    slot: Mapped[int | None]
    """Of the replica: a task of that service and slot is its successor; None: one on the same node."""
    first_at: Mapped[datetime | None]
    """`at` of the first rejection in a row for this VNI; None: it was over when it was read."""
    removed_at: Mapped[datetime | None]
    """When a run removed the device that it is about, by the node's clock; None: none did."""
    run_id: Mapped[UUID | None]
    """That run."""
    running_at: Mapped[datetime | None]
    """Since when a successor of the task runs, by the clock of its node; only after a removal."""


class HealingTime(Base):
    """How long a step of healing took, ever: a histogram that restarts do not reset."""

    __tablename__ = "healing_times"

    step: Mapped[str] = mapped_column(String(16), primary_key=True)
    """`controller.swarm.healing.Step`."""
    buckets: Mapped[dict[str, Any]]
    """Upper bounds in seconds, as text, to the number of healings within that, and above the bound before."""
    seconds: Mapped[float]
    """Of all together."""


class Attachment(Base):
    """One row of desired state: this node should carry this network, for these reasons."""

    __tablename__ = "attachments"

    node_id: Mapped[str] = _id_of("nodes", primary_key=True)
    network_id: Mapped[str] = _id_of("networks", primary_key=True, index=True)
    reasons: Mapped[list[str]]
    running: Mapped[bool]
    """Whether a task of the network runs there: then the node must have the device."""


class Run(Base):
    """One reconcile of one node."""

    __tablename__ = "runs"
    __table_args__ = (
        Index("ix_runs_node", "node_id", "requested_at"),
        Index("ix_runs_requested_at", "requested_at"),
        # What the breaker counts, and next to nothing of the whole.
        partial_index("ix_runs_removals", "closed_at", "node_id", where="removed > 0"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    node_id: Mapped[str] = _id_of("nodes")
    state: Mapped[RunState] = mapped_column(index=True)
    priority: Mapped[int]
    reasons: Mapped[list[str]]
    actor: Mapped[str] = mapped_column(Text, default=CONTROLLER)
    """`controller`, or the name of a person or token."""
    generation: Mapped[int]
    due_at: Mapped[datetime | None]
    """Since when its node was due; None: a run of version 0.1.0."""
    requested_at: Mapped[datetime]
    deadline: Mapped[datetime]
    started_at: Mapped[datetime | None]
    """By the node's clock, as is `finished_at`."""
    finished_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    devices: Mapped[int] = mapped_column(default=0)
    orphans: Mapped[int] = mapped_column(default=0)
    removed: Mapped[int] = mapped_column(default=0)
    """Removals that its node's journal records, at most `max_removals`: the breakers count these."""
    max_removals: Mapped[int] = mapped_column(default=0, server_default="0")
    """Removals that its request allowed; in mode observe 0."""
    error: Mapped[str | None] = mapped_column(Text)


NOT_IN_USE: Final = "verdict <> 'in_use'"
"""SQL for devices that are not in use; a query that contains it reads them by their index."""


class Device(Base):
    """A VXLAN device that a node's last report showed."""

    __tablename__ = "devices"
    __table_args__ = (
        # What is not as it should be, and next to nothing of the whole: the dashboard asks all the time.
        partial_index(
            "ix_devices_not_in_use", "verdict", "verdict_at", "judged_at", where=NOT_IN_USE
        ),
    )

    node_id: Mapped[str] = _id_of("nodes", primary_key=True)
    netns: Mapped[str] = mapped_column(String(16), primary_key=True)
    ifindex: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(60))
    vni: Mapped[int] = mapped_column(index=True)
    port: Mapped[int]
    verdict: Mapped[Verdict]
    urgency: Mapped[Urgency | None]
    network_id: Mapped[str | None] = mapped_column(SWARM_ID)
    reason: Mapped[str] = mapped_column(Text)
    evidence: Mapped[str] = mapped_column(Text)
    proof: Mapped[Proof | None]
    """What proves an orphan dead."""
    netns_file: Mapped[str | None] = mapped_column(String(255))
    """The file of its netns, if the worker sees one."""
    held_back: Mapped[HeldBack | None]
    """Why the worker left an orphan; None: it was removed, or the request forbade it."""
    counted_holds: Mapped[str | None] = mapped_column(String(128))
    """The reasons that hold it back and are counted (`SuppressedTotal`), by commas; None: none."""
    first_seen_at: Mapped[datetime]
    judged_at: Mapped[datetime]
    """Time of the first report with these values."""
    verdict_at: Mapped[datetime]
    """Since when the verdict stands, whatever the reason."""
    network_name: Mapped[str | None] = column_property(
        select(Network.name).where(Network.id == network_id).scalar_subquery(), deferred=True
    )
    """Read with the networks; None: no known network has its VNI."""


class SuppressedTotal(Base):
    """How many removals a reason has held back, ever: a counter that restarts do not reset."""

    __tablename__ = "suppressed_totals"

    reason: Mapped[HeldBack] = mapped_column(primary_key=True)
    total: Mapped[int] = mapped_column(BigInteger)


class Requeue(Base):
    """A person's request for a run, and which run answered it. Kept as long as the run history."""

    __tablename__ = "requeues"
    __table_args__ = (Index("ix_requeues_node", "node_id", "run_id"),)

    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Chosen by the client: the same token asks only once."""
    node_id: Mapped[str] = _id_of("nodes")
    requested_at: Mapped[datetime] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(Text)
    """Name of the caller's token."""
    claimed_name: Mapped[str | None] = mapped_column(Text)
    """For whom the actor says to act."""
    reason: Mapped[str | None] = mapped_column(Text)
    run_id: Mapped[UUID | None]
    """None until the node is claimed."""


class Event(Base):
    """A change of a condition, or of the leader; kept as long as the run history."""

    __tablename__ = "events"
    __table_args__ = (
        Index("ix_events_at", "at", "id"),
        Index("ix_events_node", "node_id", "at", "id"),
    )

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    at: Mapped[datetime]
    node_id: Mapped[str | None] = mapped_column(SWARM_ID)
    """None: about the cluster."""
    node_name: Mapped[str | None] = mapped_column(Text)
    type: Mapped[str] = mapped_column(String(32))
    """Of the condition, or `Leader`."""
    status: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(String(32))
    message: Mapped[str] = mapped_column(Text)


class Heartbeat(Base):
    """When each controller last showed that it can write; `controller.health.probes` writes it."""

    __tablename__ = "heartbeats"

    process: Mapped[str] = mapped_column(Text, primary_key=True)
    """HOST:PID:random."""
    at: Mapped[datetime]


class Lease(Base):
    """Who leads, and until when; `controller.leadership.lease` has the rules."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    holder: Mapped[str] = mapped_column(Text)
    fence: Mapped[int] = mapped_column(BigInteger)
    """Incremented with every change of holder."""
    expires_at: Mapped[datetime]
