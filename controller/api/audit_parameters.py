"""Parameters of the audit trail's routes: filters, periods and pages."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, Field, PrivateAttr, WithJsonSchema
from sqlalchemy.orm import Session

from contract.verdicts import Stage, Urgency, Verdict
from controller.api.parameters import Followed, Form, Limit
from controller.audit.queries import pages, resolve, timeline
from controller.audit.queries.resolve import Bearer
from controller.timespec import DURATION, parse_time

Name = Annotated[str, Field(min_length=1, max_length=255)]
Text = Annotated[
    Name, Form(r"^[^\u0000-\u001f\u007f-\u009f]*$", "must not contain control characters")
]
_DEVICE: Final = Form(
    r"^([^\u0000-\u001f\u007f-\u009f#]+|[^\u0000-\u001f\u007f-\u009f]+#[0-9]{1,9})$",
    "must be NAME or NAME#IFINDEX",
)
_TIME: Final = "ISO 8601 with a zone, a day, or a time ago: 90s, 15m, 2h, 7d, 4w"
_TimeSpec = Annotated[
    datetime,
    BeforeValidator(lambda text: parse_time(str(text), datetime.now(UTC))),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "date-time"},
                {"type": "string", "format": "date"},
                {"type": "string", "pattern": f"^{DURATION}$"},
            ],
            "examples": ["2026-05-01T14:00:00Z", "2026-05-01", "2h"],
        }
    ),
]
Since = Annotated[_TimeSpec | None, Field(description=f"from this time on: {_TIME}")]
Until = Annotated[_TimeSpec | None, Field(description=f"before this time: {_TIME}")]


class Period(BaseModel):
    """A period of time: from `since`, and before `until`; empty if that is not later."""

    since: Since = None
    until: Until = None


class AuditFilters(Period):
    """Filters of audit rows; None: any."""

    node: Annotated[Name | None, Field(description="id, unique id prefix or hostname")] = None
    network: Annotated[Name | None, Field(description="id, unique id prefix or name")] = None
    vni: Annotated[int | None, Field(ge=0, lt=2**24, description="VNI of the device")] = None
    device: Annotated[
        Annotated[Name, _DEVICE] | None,
        Field(description="NAME or NAME#IFINDEX"),
    ] = None
    stage: Annotated[list[Stage], Field(max_length=len(Stage), description="may be repeated")] = []
    verdict: Annotated[Verdict | None, Field(description="of the device")] = None
    urgency: Annotated[Urgency | None, Field(description="of the orphan")] = None
    actor: Annotated[Text | None, Field(description="person or program")] = None
    run: Annotated[Text | None, Field(description="id or unique id prefix")] = None

    _notes: list[str] = PrivateAttr(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """What `filters` found out about the names, for the person who asked."""
        return self._notes

    def filters(self, session: Session) -> pages.Filters:
        """Return the filters with ids instead of names.

        Raises:
            LookupError: a name is unknown or ambiguous.
        """
        name, mark, number = (self.device or "").rpartition("#")
        nodes = [] if self.node is None else resolve.nodes_named(session, self.node)
        networks = [] if self.network is None else resolve.networks_named(session, self.network)
        self._notes = [*_several("nodes", self.node, nodes)]
        self._notes += _several("networks", self.network, networks)
        return pages.Filters(
            node_id=nodes[0].id if nodes else None,
            also_nodes=tuple(node.id for node in nodes[1:]),
            network_id=networks[0].id if networks else None,
            also_networks=tuple(network.id for network in networks[1:]),
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


def _several(noun: str, given: str | None, found: Sequence[Bearer]) -> Iterator[str]:
    """Yield a note, if several nodes or networks have or had a name."""
    if len(found) > 1:
        ids = ", ".join(f"{bearer.id}{'' if bearer.present else ' (gone)'}" for bearer in found)
        yield f"{len(found)} {noun} have or had the name {given!r}: {ids}; give an id for one of them"


class AuditListing(AuditFilters, Followed):
    """The parameters of the list of audit rows."""

    limit: Limit = 100
    after: Annotated[
        int | None,
        Field(
            ge=0,
            lt=2**63,
            description="to follow, instead of `cursor`: rows stored after the row with this id, in order",
        ),
    ] = None
