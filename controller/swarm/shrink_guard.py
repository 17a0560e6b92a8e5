"""Holds back Swarm readings in which most nodes, networks or attachments are missing. Pure."""

from datetime import datetime, timedelta
from typing import Final

_MIN_LOST: Final = 10
"""Fewer may go at once without confirmation: one stack that is removed."""

_MIN_READINGS: Final = 3
_MIN_DURATION: Final = timedelta(seconds=30)
"""A manager that starts, or an election, is done in less; a person who removes most of a Swarm can wait."""


def is_suspicious_loss(lost: int, before: int) -> bool:
    """Whether all are lost, or most of them and at least ten."""
    return lost > 0 and (lost == before or (lost >= _MIN_LOST and 2 * lost > before))


class ShrinkGuard:
    """Confirms a suspicious loss after enough consecutive readings over a long enough time."""

    def __init__(self) -> None:
        self._readings: list[datetime] = []

    def confirmed(self, now: datetime) -> bool:
        """Count one more reading with the loss; return whether to believe it now."""
        self._readings.append(now)
        return len(self._readings) >= _MIN_READINGS and now - self._readings[0] >= _MIN_DURATION

    def reset(self) -> None:
        """Begin again, after a reading without such a loss or a failed one."""
        self._readings.clear()
