"""Parameters of several routes: lists, names of nodes and networks, actor and reason."""

from typing import Annotated, Final

from fastapi import Path, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MAX_ROWS: Final = 1000
"""Rows in one answer."""
_MAX_NAME: Final = 255
_REPEATABLE: Final = {"stage", "expect"}


class ParameterError(Exception):
    """A parameter has an invalid value.

    Attributes:
        hint: what to do about it.
    """

    def __init__(
        self, name: str, problem: str, hint: str = "GET /openapi.json describes the parameters"
    ) -> None:
        super().__init__(f"{name}: {problem}")
        self.hint = hint


NodeName = Annotated[
    str, Path(max_length=_MAX_NAME, description="id, unique id prefix or hostname")
]
NetworkName = Annotated[str, Path(max_length=_MAX_NAME, description="id, unique id prefix or name")]
NodeFilter = Annotated[
    str | None, Field(max_length=_MAX_NAME, description="id, unique id prefix or hostname")
]
NetworkFilter = Annotated[
    str | None, Field(max_length=_MAX_NAME, description="id, unique id prefix or name")
]
Limit = Annotated[int, Field(ge=1, le=MAX_ROWS, description="maximum number of rows")]


class Listing(BaseModel):
    """The parameters of every list."""

    model_config = ConfigDict(extra="forbid")

    cursor: Annotated[
        str | None, Field(max_length=4096, description="`next` of the previous page")
    ] = None
    limit: Limit = MAX_ROWS


_ONE_LINE: Final = r"^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]*$"
"""No control characters, no line ends, nothing that changes the direction of writing."""

Actor = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=_ONE_LINE)
]
"""The name of a person or program."""
Reason = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500, pattern=_ONE_LINE)
]
Token = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z._:~-]{0,63}$")]
"""Chosen by the client: a repeated request with the same token requests nothing more."""

ANONYMOUS: Final = "anonymous"


class ActorAndReason(BaseModel):
    """The person or program that decides, and the reason."""

    model_config = ConfigDict(extra="forbid")

    actor: Actor = ANONYMOUS
    reason: Reason | None = None


def refuse_repeated(request: Request) -> None:
    """Refuse a parameter that is given more than once, if only one value could count.

    Raises:
        ParameterError: there is one.
    """
    given = [name for name, _ in request.query_params.multi_items()]
    for name in given:
        if given.count(name) > 1 and name not in _REPEATABLE:
            raise ParameterError(name, "is given more than once", "give it once")
