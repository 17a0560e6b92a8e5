"""Answers about the hash chain of the audit trail."""

from typing import Self

from controller.api.answers.base import Answer
from controller.audit.chain import Fault
from controller.audit.verify import Progress


class FindingAnswer(Answer):
    """A fault of the hash chain."""

    fault: Fault
    position: int
    id: int | None
    detail: str


class VerifyAnswer(Answer):
    """The progress of a verification; positions are `POSITION:HASH`."""

    began: str
    reached: str
    checked: int
    head: str
    done: bool
    finding: FindingAnswer | None

    @classmethod
    def of(cls, progress: Progress) -> Self:
        """Build the answer from a step's progress."""
        finding = progress.finding
        return cls(
            began=str(progress.began),
            reached=str(progress.reached),
            checked=progress.checked,
            head=str(progress.head),
            done=progress.done,
            finding=None if finding is None else FindingAnswer.model_validate(finding),
        )
