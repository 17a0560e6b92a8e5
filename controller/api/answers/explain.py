"""The answer that explains an error line."""

from controller.api.answers.audit import AuditAnswer
from controller.api.answers.base import Answer
from controller.api.answers.devices import DeviceAnswer


class NamedAnswer(Answer):
    """A node or network."""

    id: str
    name: str


class ExplanationAnswer(Answer):
    """The meaning of an error line, and what to do."""

    recognised: bool
    """Whether it is the error of a leaked device."""
    meaning: str
    nodes: list[NamedAnswer]
    networks: list[NamedAnswer]
    lately: list[AuditAnswer]
    """What was done about devices of these nodes and networks, the newest first."""
    now: list[DeviceAnswer]
    """Devices that are in the way, or may be."""
    advice: list[str]
    """What to do, in sentences."""
