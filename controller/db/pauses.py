"""The one phrase for a pause: who paused something, and the reason."""

from datetime import datetime
from typing import Protocol


class Pausable(Protocol):
    """A cluster, node or network, or a row with these columns of one."""

    @property
    def paused_at(self) -> datetime | None: ...
    @property
    def paused_by(self) -> str | None: ...
    @property
    def paused_reason(self) -> str | None: ...


def describe_pause(row: Pausable) -> str | None:
    """Return "paused by ann: new disk", without the reason if there is none; None: not paused."""
    if row.paused_at is None:
        return None
    actor = f" by {row.paused_by}" if row.paused_by else ""
    reason = f": {row.paused_reason}" if row.paused_reason else ""
    return f"paused{actor}{reason}"
