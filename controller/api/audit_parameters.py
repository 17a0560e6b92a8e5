"""Parameters of the audit trail's routes: filters, periods and pages."""

from datetime import UTC, datetime
from typing import Annotated

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
from controller.api.parameters import Limit, Listing
from controller.audit.queries import pages, resolve, timeline
from controller.timespec import parse_time


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must not contain control characters")
    return text


def _device(text: str) -> str:
    name, mark, number = text.rpartition("#")
    if mark and not (name and number.isascii() and number.isdecimal() and len(number) <= 9):
        raise ValueError("must be NAME or NAME#IFINDEX")
    return text


Name = Annotated[str, Field(min_length=1, max_length=255)]
Text = Annotated[Name, AfterValidator(_printable)]
TimeSpec = Annotated[
    datetime,
    BeforeValidator(lambda text: parse_time(str(text), datetime.now(UTC))),
    Field(description="ISO 8601 with a zone, a day, or a time ago: 90s, 15m, 2h, 7d, 4w"),
]


class Period(BaseModel):
    """A period of time: from `since`, and before `until`."""

    model_config = ConfigDict(extra="forbid")

    since: TimeSpec | None = None
    until: TimeSpec | None = None

    @field_validator("until")
    @classmethod
    def _is_after_since(cls, until: datetime | None, info: ValidationInfo) -> datetime | None:
        since = info.data.get("since")
        if until is not None and since is not None and until <= since:
            raise ValueError(f"must be later than since, which is {since.isoformat()}")
        return until


class AuditFilters(Period):
    """Filters of audit rows; None: any."""

    node: Annotated[Name | None, Field(description="id, unique id prefix or hostname")] = None
    network: Annotated[Name | None, Field(description="id, unique id prefix or name")] = None
    vni: Annotated[int | None, Field(ge=0, lt=2**24)] = None
    device: Annotated[
        Annotated[Text, AfterValidator(_device)] | None, Field(description="NAME or NAME#IFINDEX")
    ] = None
    stage: Annotated[list[Stage], Field(max_length=len(Stage), description="may be repeated")] = []
    verdict: Verdict | None = None
    urgency: Urgency | None = None
    actor: Text | None = None
    run: Annotated[Text | None, Field(description="id or unique id prefix")] = None

    def filters(self, session: Session) -> pages.Filters:
        """Return the filters with ids instead of names.

        Raises:
            LookupError: a name is unknown or ambiguous.
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


class AuditListing(AuditFilters, Listing):
    """The parameters of the list of audit rows."""

    limit: Limit = 100
    after: Annotated[
        int | None,
        Field(
            ge=0,
            lt=2**63,
            description="to follow: rows stored after the row with this id, in that order",
        ),
    ] = None

    @field_validator("after")
    @classmethod
    def _is_without_cursor(cls, after: int | None, info: ValidationInfo) -> int | None:
        if after is not None and info.data.get("cursor") is not None:
            raise ValueError("cannot be combined with cursor")
        return after
