"""What is said of the audit trail as a chain."""

from controller.api.answers.base import Answer
from controller.audit.chain import Fault
from controller.audit.verify import Progress


class FindingAnswer(Answer):
    """What is wrong with the hash chain."""

    fault: Fault
    position: int
    id: int | None
    detail: str


class VerifyAnswer(Answer):
    """How far a check of the hash chain has come; places are `POSITION:HASH`."""

    began: str
    reached: str
    checked: int
    head: str
    done: bool
    finding: FindingAnswer | None

    @classmethod
    def of(cls, progress: Progress) -> "VerifyAnswer":
        """From the step."""
        return cls(
            began=str(progress.began),
            reached=str(progress.reached),
            checked=progress.checked,
            head=str(progress.head),
            done=progress.done,
            finding=None
            if progress.finding is None
            else FindingAnswer.model_validate(progress.finding),
        )
