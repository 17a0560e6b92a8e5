"""Parameters that several routes take, and what a person says with a decision."""

from typing import Annotated, Final

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, StringConstraints


class ParameterError(Exception):
    """A parameter that cannot be what was given."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")


NodeName = Annotated[str, Path(max_length=255, description="id, unique id prefix or hostname")]
NetworkName = Annotated[str, Path(max_length=255, description="id, unique id prefix or name")]
NodeFilter = Annotated[
    str | None, Query(max_length=255, description="id, unique id prefix or hostname")
]
Limit = Annotated[int, Query(ge=1, le=1000, description="how many rows at most")]
After = Annotated[
    str | None,
    Query(pattern=r"^[0-9a-z]{25}$", description="id of the last row of the page before"),
]

_ONE_LINE: Final = r"^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]*$"
"""No control characters, no line ends, nothing that turns the direction of writing."""

Actor = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=_ONE_LINE),
]
"""On whose word: a person's name, or a program's."""
Reason = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500, pattern=_ONE_LINE)
]
Token = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z._:~-]{0,63}$")]
"""Chosen by who asks, so that asking again asks for nothing more; may stand in a path."""

ANONYMOUS: Final = "anonymous"


class ActorAndReason(BaseModel):
    """Who decides, and why."""

    model_config = ConfigDict(extra="forbid")

    actor: Actor = ANONYMOUS
    reason: Reason | None = None
