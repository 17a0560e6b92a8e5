"""Columns of what may hold removals back: a person's decisions, labels in the Swarm, and the breaker."""

from datetime import datetime

from sqlalchemy import Text
from sqlalchemy.orm import Mapped, mapped_column

from contract.verdicts import Mode


class Restrictable:
    """What a person may decide about the cluster, a node or a network."""

    mode: Mapped[Mode | None]
    """Set by a person, over the settings and labels; None: as these say."""
    mode_at: Mapped[datetime | None]
    """When a person last set or removed it."""
    mode_by: Mapped[str | None] = mapped_column(Text)
    mode_reason: Mapped[str | None] = mapped_column(Text)
    paused_at: Mapped[datetime | None]
    paused_by: Mapped[str | None] = mapped_column(Text)
    paused_reason: Mapped[str | None] = mapped_column(Text)
    paused_until: Mapped[datetime | None]
    """When the pause ends by itself; None: a person ends it."""


class Labelled:
    """What labels in the Swarm say about a node or a network."""

    label_mode: Mapped[Mode | None]
    """By the label `vxlan-operator.mode`."""
    label_ignore: Mapped[bool] = mapped_column(default=False)
    """By the label `vxlan-operator.ignore`."""


class Guarded:
    """The breaker of the cluster or of a node."""

    breaker_tripped_at: Mapped[datetime | None]
    breaker_reason: Mapped[str | None] = mapped_column(Text)
    breaker_reset_at: Mapped[datetime | None]
    """Removals before this are not counted any more."""
