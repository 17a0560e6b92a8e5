"""Times that a node tells, held to what can be: its clock may be wrong, or it may lie."""

from datetime import UTC, datetime, timedelta
from typing import Final

CLOCKS_MAY_DIFFER: Final = timedelta(minutes=5)
_FIRST: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""Older than any journal."""


def credible(at: datetime, *, now: datetime, earliest: datetime = _FIRST) -> datetime:
    """Return the time that a node tells, not before `earliest` and not after now, but for slack."""
    return min(max(at, earliest - CLOCKS_MAY_DIFFER), now + CLOCKS_MAY_DIFFER)
