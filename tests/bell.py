"""A dispatcher's doorbell that only counts."""

from controller.workqueue.priorities import Priority


class Bell:
    """Counts how often it was rung, and remembers for what."""

    def __init__(self) -> None:
        self.rung = 0
        self.priorities: list[Priority | None] = []

    def __call__(self, priority: Priority | None = None, /) -> None:
        self.rung += 1
        self.priorities.append(priority)
