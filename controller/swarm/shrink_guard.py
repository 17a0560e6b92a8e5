"""Holds back a Swarm reading in which most nodes, networks or attachments are missing. Pure."""

from datetime import datetime, timedelta
from typing import Final

_FEW: Final = 10
"""So many may go at once in a small Swarm without a second look: one stack that is removed."""


_LOOKS: Final = 3


_PATIENCE: Final = timedelta(seconds=30)
"""How often, and for how long, a manager must say the same before a great loss is believed. A manager that
starts, or a cluster that elects a leader, is done in less; a person who removes most of a Swarm can wait."""


def is_suspicious_loss(lost: int, before: int) -> bool:
    """Whether so many of so many may not go at once without doubt: most of them, or all."""
    return lost > 0 and (lost == before or (lost >= _FEW and 2 * lost > before))


class ShrinkGuard:
    """Holds back a reading with a great loss until the manager has said it often and long enough."""

    def __init__(self) -> None:
        self._looks = 0
        self._since: datetime | None = None

    def confirmed(self, now: datetime) -> bool:
        """Take note of one more look with a great loss; return whether it is to be believed now."""
        if self._since is None:
            self._since = now
        self._looks += 1
        return self._looks >= _LOOKS and now - self._since >= _PATIENCE

    def forget(self) -> None:
        """A look without such a loss, or none at all: begin anew."""
        self._looks, self._since = 0, None
