"""Answers about the hash chain of the audit trail."""

from typing import Annotated

from pydantic import BeforeValidator

from controller.api.answers.base import Answer
from controller.audit.chain import Fault

PositionText = Annotated[str, BeforeValidator(str)]


class FindingAnswer(Answer):
    """A fault of the hash chain."""

    fault: Fault
    position: int
    id: int | None
    detail: str


class VerifyAnswer(Answer):
    """The progress of a verification; positions are `POSITION:HASH`."""

    began: PositionText
    reached: PositionText
    checked: int
    head: PositionText
    done: bool
    finding: FindingAnswer | None
