"""Stored conditions as of now: those that were not derived for too long are `Unknown`. Pure."""

from dataclasses import dataclass
from datetime import datetime

from controller.conditions.model import Reason, Status, Stored, format_time


@dataclass(frozen=True, slots=True)
class Age:
    """When all stored conditions were last derived, and until when they hold; None: never yet."""

    derived_at: datetime | None
    until: datetime | None

    def is_stale(self, now: datetime) -> bool:
        """Whether the conditions may no longer be true, because nobody has derived them since."""
        return self.until is None or now > self.until

    def as_of(self, stored: Stored, now: datetime) -> Stored:
        """Return conditions as they are known now; stale ones say what they were and when."""
        if not self.is_stale(now):
            return stored
        return {
            type_: {
                "status": Status.UNKNOWN.value,
                "reason": Reason.CONDITIONS_STALE.value,
                "message": self._message(condition),
                "since": condition["since"] if self.until is None else self.until.isoformat(),
            }
            for type_, condition in stored.items()
        }

    def _message(self, was: dict[str, str]) -> str:
        when = "never" if self.derived_at is None else f"last at {format_time(self.derived_at)}"
        return (
            f"not known now: derived {when}, when it was {was['status']} ({was['reason']}); "
            "no controller leads, or the one that does cannot write: see DatabaseWritable and its log"
        )
