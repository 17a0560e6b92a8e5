"""The parameters of questions to the audit trail; one that is not here is refused, not ignored."""

from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import Request
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)
from sqlalchemy.orm import Session

from contract.verdicts import Stage, Urgency, Verdict
from controller.api.parameters import ParameterError
from controller.audit.queries import pages, resolve, timeline
from controller.timespec import parse_time

_REPEATABLE: Final = {"stage"}


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must not contain control characters")
    return text


def _device(text: str) -> str:
    name, mark, number = text.rpartition("#")
    if mark and not (name and number.isascii() and number.isdecimal() and len(number) <= 9):
        raise ValueError("must be NAME or NAME#IFINDEX")
    return text


def _parse_time(text: object) -> datetime:
    return parse_time(str(text), datetime.now(UTC))


Name = Annotated[str, Field(min_length=1, max_length=255)]
Text = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_printable)]
TimeSpec = Annotated[
    datetime,
    BeforeValidator(_parse_time),
    Field(description="ISO 8601 with a zone, a day, or how long ago: 90s, 15m, 2h, 7d, 4w"),
]


class Between(BaseModel):
    """A span of time."""

    model_config = ConfigDict(extra="forbid")

    since: TimeSpec | None = None
    until: TimeSpec | None = None

    @field_validator("until")
    @classmethod
    def _after_since(cls, until: datetime | None, info: ValidationInfo) -> datetime | None:
        since = info.data.get("since")
        if until is not None and since is not None and until <= since:
            raise ValueError(f"must be later than since, which is {since.isoformat()}")
        return until


class Question(Between):
    """Which rows; what is left out does not matter."""

    node: Annotated[Name | None, Field(description="id, unique id prefix or hostname")] = None
    network: Annotated[Name | None, Field(description="id, unique id prefix or name")] = None
    vni: Annotated[int | None, Field(ge=0, lt=2**24)] = None
    device: Annotated[
        Text | None,
        Field(description="NAME or NAME#IFINDEX"),
        AfterValidator(lambda text: None if text is None else _device(text)),
    ] = None
    stage: Annotated[list[Stage], Field(max_length=len(Stage), description="may be repeated")] = []
    verdict: Verdict | None = None
    urgency: Urgency | None = None
    actor: Text | None = None
    run: Annotated[Text | None, Field(description="id or unique id prefix")] = None

    def filters(self, session: Session) -> pages.Filters:
        """The same with ids for names.

        Raises:
            LookupError: a name means nothing, or several things.
        """
        name, mark, number = (self.device or "").rpartition("#")
        return pages.Filters(
            node_id=None if self.node is None else resolve.node_id(session, self.node),
            network_id=None if self.network is None else resolve.network_id(session, self.network),
            vni=self.vni,
            name=name if mark else self.device,
            ifindex=int(number) if mark else None,
            stages=tuple(self.stage),
            verdict=self.verdict,
            urgency=self.urgency,
            actor=self.actor,
            run_id=None if self.run is None else timeline.find_run(session, self.run),
            since=self.since,
            until=self.until,
        )


class Listing(Question):
    """A page of rows."""

    cursor: Annotated[
        str | None, Field(max_length=300, description="`next` of the page before")
    ] = None
    after: Annotated[
        int | None,
        Field(
            ge=0,
            lt=2**63,
            description="rows stored after the one with this id, in that order: for following",
        ),
    ] = None
    limit: Annotated[int, Field(ge=1, le=1000, description="how many rows at most")] = 100

    @field_validator("after")
    @classmethod
    def _alone(cls, after: int | None, info: ValidationInfo) -> int | None:
        if after is not None and info.data.get("cursor") is not None:
            raise ValueError("has no meaning together with cursor")
        return after


def once(request: Request) -> None:
    """Refuse a parameter that is given twice where only one of the two could count.

    Raises:
        ParameterError: there is such a one.
    """
    given = [name for name, _ in request.query_params.multi_items()]
    for name in given:
        if given.count(name) > 1 and name not in _REPEATABLE:
            raise ParameterError(name, "is given more than once")


def asked(request: Request) -> list[tuple[str, str]]:
    """What was asked, by which a cursor knows its question."""
    return [
        pair for pair in request.query_params.multi_items() if pair[0] not in ("cursor", "limit")
    ]
