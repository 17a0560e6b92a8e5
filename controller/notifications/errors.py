"""What a target answered, why it did not take a notification, and why a target cannot be."""

from typing import NamedTuple


class Answer(NamedTuple):
    """What a target answered: an HTTP status, or None where there is no such thing, and a text."""

    status: int | None
    text: str


class DeliveryError(Exception):
    """A target did not take a notification; the text says why, without secrets.

    Attributes:
        retry_after: seconds for which the target asks to be left alone; None: it does not.
        answer: None: there was none.
    """

    def __init__(
        self, problem: str, retry_after: float | None = None, answer: Answer | None = None
    ) -> None:
        super().__init__(problem)
        self.retry_after = retry_after
        self.answer = answer


class TargetError(Exception):
    """A target cannot be as it was given; `hint` says what to do."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.hint = hint
