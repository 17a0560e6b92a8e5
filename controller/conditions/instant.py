"""`Instant`: the time as of which conditions are derived, and until when time alone changes none of them."""

from datetime import datetime


class Instant:
    """Answers whether times are past, and notes the first of those that are not.

    Attributes:
        now: the time as of which it answers.
        next: after it an answer is another one; None: no answer will be.
    """

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.next: datetime | None = None

    def is_past(self, at: datetime) -> bool:
        """Whether `at` is over."""
        if at < self.now:
            return True
        self.next = at if self.next is None else min(self.next, at)
        return False
