"""Parameters of several routes: lists, names of nodes and networks, actor and reason."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Path
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
)
from pydantic_core import core_schema

from controller.access.tokens import RESERVED

MAX_ROWS: Final = 1000
"""Rows in one answer."""
_MAX_NAME: Final = 255
REPEATABLE: Final = frozenset({"stage", "expect"})
"""Parameters of which every value counts."""

TRUE: Final = frozenset({"1", "on", "t", "true", "y", "yes"})
"""As pydantic reads a boolean parameter, in small letters."""


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


class ContradictionError(ParameterError):
    """Parameters, each valid by itself, contradict each other or the present time."""


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a text, as metadata of an annotated type.

    Attributes:
        pattern: from `^` to `$`, for the specification too: in a syntax that Python and JavaScript share.
        problem: what to tell a person whose text has another form.
    """

    pattern: str
    problem: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return handler(schema) | {"pattern": self.pattern}

    def _check(self, text: str) -> str:
        if re.fullmatch(self.pattern, text) is None:
            raise ValueError(self.problem)
        return text


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

    cursor: Annotated[
        Annotated[
            str,
            Field(max_length=4096),
            Form("^[A-Za-z0-9_-]+$", "is not a cursor of this list"),
        ]
        | None,
        Field(description="`next` of the previous page"),
    ] = None
    limit: Limit = MAX_ROWS


STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "A page; with `watch=true` server-sent events.",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": 'event: added\ndata: {"id": "..."}\nid: 0a1b2c3d4e5f-7\n\n',
            }
        },
    }
}
"""The answer of a list that can be followed, for the specification."""


class Followed(Listing):
    """The parameters of a list that can be followed."""

    watch: Annotated[
        bool,
        Field(
            description="follow the list by server-sent events: the present items, then what changes"
        ),
    ] = False


_UNPRINTABLE: Final = (
    r"\u0000-\u001f\u007f-\u009f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e"
    r"\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0001\U000e0020-\U000e007f"
)
"""Unicode's Cc, Cf, Zl and Zp: control characters, line ends, and what changes the direction of writing."""
_BLANK: Final = r"\u0020\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_ONE_LINE: Final = f"^[^{_UNPRINTABLE}]*[^{_UNPRINTABLE}{_BLANK}][^{_UNPRINTABLE}]*$"
"""One line that is not blank; spelled out, as not every reader of the specification knows `\\p{Cc}`."""
_PRINTABLE: Final = Form(_ONE_LINE, "must be one line, not blank, without control characters")


class NotReserved:
    """The text is no actor of the program itself, in whatever case; metadata of an annotated type."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        in_any_case = (
            "".join(f"[{letter.upper()}{letter}]" for letter in name) for name in sorted(RESERVED)
        )
        pattern = f"^[{_BLANK}]*({'|'.join(in_any_case)})[{_BLANK}]*$"
        return handler(schema) | {"not": {"pattern": pattern}}

    @staticmethod
    def _check(actor: str) -> str:
        if actor.lower() in RESERVED:
            raise ValueError(f"must not be {actor!r}: that is an actor of the program itself")
        return actor


# Stripped at last: what is refused depends on what was sent, as the specification says.
Actor = Annotated[
    str,
    Field(min_length=1, max_length=100),
    _PRINTABLE,
    AfterValidator(str.strip),
    NotReserved(),
]
"""The name of a person or program."""
Reason = Annotated[str, Field(min_length=1, max_length=500), _PRINTABLE, AfterValidator(str.strip)]
Token = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z._:~-]{0,63}$")]
"""Chosen by the client: a repeated request with the same token requests nothing more."""


class ActorAndReason(BaseModel):
    """The person or program that decides, and the reason."""

    model_config = ConfigDict(extra="forbid")

    actor: Annotated[
        Actor | None,
        Field(description="for whom the caller acts; a claim beside the token's name"),
    ] = None
    reason: Reason | None = None

    @property
    def claimed_name(self) -> str | None:
        """The given actor; None: none was given."""
        return self.actor
