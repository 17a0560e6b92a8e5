"""A clock that stands still until it is told to go on."""

from datetime import UTC, datetime, timedelta

START = datetime(2030, 1, 1, 12, tzinfo=UTC)


class Clock:
    """Call it for the time of day."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        """Seconds since the start."""
        return (self.now - START).total_seconds()

    def advance(self, seconds: float) -> datetime:
        """Let time pass; return the time then."""
        self.now += timedelta(seconds=seconds)
        return self.now
