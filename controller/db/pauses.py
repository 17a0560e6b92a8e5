"""The one phrase for a pause: who paused something, until when, and the reason."""

from datetime import UTC, datetime
from typing import Protocol


class Pausable(Protocol):
    """A cluster, node or network, or a row with these columns of one."""

    @property
    def paused_at(self) -> datetime | None: ...
    @property
    def paused_by(self) -> str | None: ...
    @property
    def paused_reason(self) -> str | None: ...
    @property
    def paused_until(self) -> datetime | None: ...


def describe_pause(row: Pausable) -> str | None:
    """Return "paused by ann until 2026-05-01 14:00:00 UTC: new disk", without what is not set.

    None: not paused.
    """
    if row.paused_at is None:
        return None
    actor = f" by {row.paused_by}" if row.paused_by else ""
    reason = f": {row.paused_reason}" if row.paused_reason else ""
    end = "" if row.paused_until is None else f" until {format_end(row.paused_until)}"
    return f"paused{actor}{end}{reason}"


def format_end(until: datetime) -> str:
    """Return the end of a pause for a message."""
    return until.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
