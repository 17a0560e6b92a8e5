"""The tables of the audit trail: its rows, the end of their chain, and the anchors of pruned rows."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Index, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from contract.verdicts import Stage, Urgency, Verdict
from controller.db.states import CONTROLLER
from controller.db.types import BIG_ID, SWARM_ID, Base, partial_index


class AuditRow(Base):
    """An event or a decision, with its actor, time, subject and reason.

    Database triggers keep the table append-only, and a hash links a row to the one before
    (`controller.audit.chain`). Columns that do not apply are NULL: a mode has no device.
    """

    __tablename__ = "audit"
    __table_args__ = (
        # A page scans one of these (`controller.audit.queries.pages`). The columns behind (at, id) are
        # further filters: an entry that does not match costs no read of its row.
        Index("ix_audit_at", "at", "id", "stage", "verdict", "urgency"),
        Index("ix_audit_run", "run_id", "at", "id"),
        # The ids that ever had a name (`controller.audit.queries.resolve`).
        Index("ix_audit_node_name", "node_name", "node_id"),
        Index("ix_audit_network_name", "network_name", "network_id"),
        *(
            Index(f"ix_audit_{name}", column, "at", "id", *carried)
            for name, column, *carried in (
                ("node", "node_id", "stage", "verdict", "urgency", "network_id", "vni", "name"),
                ("network", "network_id", "stage", "verdict", "urgency", "node_id", "vni"),
                ("vni", "vni", "stage", "verdict", "urgency", "node_id"),
                ("name", "name", "stage", "verdict", "urgency", "node_id", "vni", "ifindex"),
                ("stage", "stage", "verdict", "urgency", "node_id", "network_id", "vni"),
            )
        ),
        # Nearly every row is about an orphan, and has the controller as its actor.
        *(
            partial_index(
                f"ix_audit_{column}", column, "at", "id", *carried, where=f"{column} <> '{common}'"
            )
            for column, common, *carried in (
                ("verdict", Verdict.ORPHAN, "stage", "urgency", "node_id", "network_id", "vni"),
                ("actor", CONTROLLER, "stage"),
            )
        ),
    )

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    entry_id: Mapped[UUID] = mapped_column(unique=True)
    """The worker's journal entry, or derived from the event: the same event makes one row."""
    at: Mapped[datetime]
    """Time of the event, by the clock of the node, or of the controller for its own events."""
    stored_at: Mapped[datetime]
    stage: Mapped[Stage]
    actor: Mapped[str] = mapped_column(Text)
    """`controller`, `system`, or the name of a token."""
    claimed_name: Mapped[str | None] = mapped_column(Text)
    """For whom the actor said to act."""
    node_id: Mapped[str | None] = mapped_column(SWARM_ID)
    node_name: Mapped[str | None] = mapped_column(Text)
    network_id: Mapped[str | None] = mapped_column(SWARM_ID)
    network_name: Mapped[str | None] = mapped_column(Text)
    """The names at that time."""
    netns: Mapped[str | None] = mapped_column(String(16))
    ifindex: Mapped[int | None]
    name: Mapped[str | None] = mapped_column(String(60))
    vni: Mapped[int | None]
    port: Mapped[int | None]
    verdict: Mapped[Verdict | None]
    urgency: Mapped[Urgency | None]
    reason: Mapped[str] = mapped_column(Text)
    evidence: Mapped[str | None] = mapped_column(Text)
    run_id: Mapped[UUID | None]
    worker_version: Mapped[str | None] = mapped_column(String(64))
    key_id: Mapped[str | None] = mapped_column(String(16))
    """Of the node's key that signed the report; None: the controller's own row, or of version 0.1.0."""
    position: Mapped[int] = mapped_column(BigInteger, unique=True)
    """In the chain, from 1, without gaps."""
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    """SHA-256 over the hash of the row before and this row's values."""


class AuditHead(Base):
    """The end of the chain: a single row, with id 1, locked by every append."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    stored_at: Mapped[datetime | None]
    """Of the last row added; None before the first."""


class AuditAnchor(Base):
    """The end of deleted rows, from which the chain goes on; append-only."""

    __tablename__ = "audit_anchors"

    position: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """Of the last row deleted; triggers let rows up to it be deleted, and no others."""
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    """Of that row."""
    rows: Mapped[int] = mapped_column(BigInteger)
    """Number of rows deleted with it."""
    archive: Mapped[str] = mapped_column(Text)
    """The file that has them."""
    at: Mapped[datetime]
