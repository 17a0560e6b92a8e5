"""The tables of notifications: targets, notices, their deliveries, and open problems."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Text, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from controller.db.states import DeliveryState, TargetKind
from controller.db.types import BIG_ID, SWARM_ID, Base, partial_index


class NotificationTarget(Base):
    """Where notifications go, and how it went lately."""

    __tablename__ = "notification_targets"

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    kind: Mapped[TargetKind]
    address: Mapped[str] = mapped_column(Text)
    """A URL, or mail addresses separated by commas. What is behind a URL's host is often a secret."""
    events: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    """Events to tell; None: all."""
    template: Mapped[str | None] = mapped_column(Text)
    """Of the text; None: the built-in one."""
    secret: Mapped[str | None] = mapped_column(Text)
    """`whsec_...`, which signs; None: the kind has no signature."""
    former_secret: Mapped[str | None] = mapped_column(Text)
    """Signs too until `former_until`."""
    former_until: Mapped[datetime | None]
    every_seconds: Mapped[float | None]
    """Of a heartbeat: the time between two; None: of another kind."""
    remind_seconds: Mapped[float | None]
    """After so long a problem that lasts is told again; None: never."""
    reminded_at: Mapped[datetime | None]
    """When it was last reminded, or last told late what was wrong; None: never."""
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(Text)
    muted_until: Mapped[datetime | None]
    muted_by: Mapped[str | None] = mapped_column(Text)
    muted_reason: Mapped[str | None] = mapped_column(Text)
    delivered_at: Mapped[datetime | None]
    """When it last took something."""
    failing_since: Mapped[datetime | None]
    """None: the last attempt succeeded, or there was none."""
    failures: Mapped[int] = mapped_column(default=0)
    """Attempts that failed in a row."""
    error: Mapped[str | None] = mapped_column(Text)
    """Of the last attempt; None: it succeeded."""
    retry_at: Mapped[datetime | None]
    """Nothing is sent to it before; None: it may be now."""
    given_up: Mapped[int] = mapped_column(default=0)
    """Notifications that it never took, ever."""
    given_up_at: Mapped[datetime | None]
    """When that last happened."""


class Notice(Base):
    """Something to tell, for all targets."""

    __tablename__ = "notices"
    __table_args__ = (Index("ix_notices_created_at", "created_at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    created_at: Mapped[datetime]
    event: Mapped[str] = mapped_column(String(32))
    """A member of `controller.notifications.events.Event`."""
    subject: Mapped[str | None] = mapped_column(String(64))
    """Of a problem: what it is about, as `OpenProblem.subject`; None: of a summary, and of other events."""
    resolved: Mapped[bool] = mapped_column(server_default=false())
    """Whether it says that a problem is over."""
    values: Mapped[dict[str, Any]]
    """What it says: the variables of templates."""


class Delivery(Base):
    """A notice on its way to a target; its id is the `webhook-id`, in every attempt."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("notice_id", "target_id", name="uq_deliveries_notice"),
        Index("ix_deliveries_target", "target_id", "state", "next_at"),
        partial_index("ix_deliveries_open", "state", "target_id", where="done_at IS NULL"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    notice_id: Mapped[UUID] = mapped_column(ForeignKey("notices.id", ondelete="CASCADE"))
    target_id: Mapped[int] = mapped_column(
        BIG_ID, ForeignKey("notification_targets.id", ondelete="CASCADE")
    )
    state: Mapped[DeliveryState]
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[datetime]
    """Not sent before."""
    give_up_at: Mapped[datetime]
    """An attempt that fails after this is the last."""
    error: Mapped[str | None] = mapped_column(Text)
    """Of the last attempt."""
    done_at: Mapped[datetime | None]
    """When it was delivered or given up."""


class OpenProblem(Base):
    """Something that is wrong now, from when it was first seen until it was seen to be over."""

    __tablename__ = "open_problems"

    event: Mapped[str] = mapped_column(String(32), primary_key=True)
    subject: Mapped[str] = mapped_column(String(64), primary_key=True)
    """A node's id, `cluster`, or the digest of a certificate's file."""
    node_id: Mapped[str | None] = mapped_column(SWARM_ID)
    node_name: Mapped[str | None] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text)
    """As it was seen last."""
    seen_at: Mapped[datetime]
    """Since when."""
    reported_at: Mapped[datetime | None]
    """None: not yet, it may pass."""
    over_at: Mapped[datetime | None]
    """Since when it is over; None: it is not."""


class Gathering(Base):
    """How often an event happened in the present window: storms become one summary."""

    __tablename__ = "notification_gatherings"

    event: Mapped[str] = mapped_column(String(40), primary_key=True)
    """With ` over` behind it: that such problems are over."""
    since: Mapped[datetime]
    reported: Mapped[int] = mapped_column(default=0)
    """Times that were told one by one."""
    count: Mapped[int] = mapped_column(default=0)
    """All times."""
    storm: Mapped[bool] = mapped_column(default=False)
    """Whether the window before had a storm: then nothing is told one by one."""
    nodes: Mapped[list[str]]
    """Names of nodes concerned, up to a bound."""


class NotificationPosition(Base):
    """Up to which audit row everything was told; a single row, with id 1."""

    __tablename__ = "notification_position"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(BigInteger)
