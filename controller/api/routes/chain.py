"""Routes that verify and export the hash chain of the audit trail."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response, StreamingResponse
from pydantic import Field

from controller.api.access import READ
from controller.api.answers.chain import VerifyAnswer
from controller.api.audit_parameters import Period
from controller.api.context import Context
from controller.api.parameters import Form
from controller.api.problem_types import BUSY, PRUNED, may_answer
from controller.audit import verify
from controller.audit.chain import POSITION, ChainPosition
from controller.audit.export import export

Position = Annotated[
    str, Form(f"^{POSITION}$", "must be POSITION:HASH, as `vxctl audit verify` prints it")
]


class JsonLines(StreamingResponse):
    """An answer of JSON texts, one a line."""

    media_type = "application/x-ndjson"


class ExportPeriod(Period):
    """The parameters of an export; `since` and `until` bound the time of storing."""

    after: Annotated[Position | None, Field(description="`head` of the previous export")] = None


def routes(context: Context) -> APIRouter:
    router = APIRouter(prefix="/api/v1/audit", tags=["audit"])
    database = context.database

    @router.get(
        "/verify", dependencies=[READ, Depends(context.turns.verify)], responses=may_answer(BUSY)
    )
    def verify_audit(
        after: Annotated[
            Position | None, Query(description="`reached` of the previous answer; none: start")
        ] = None,
        expect: Annotated[
            list[Position] | None,
            Query(max_length=10, description="POSITION:HASH that was kept elsewhere"),
        ] = None,
        rows: Annotated[
            int, Query(ge=1, le=5 * verify.ROWS_AT_ONCE, description="approximate number of rows")
        ] = verify.ROWS_AT_ONCE,
    ) -> VerifyAnswer:
        """Check a part of the hash chain; repeat with `after` = `reached` until `done`."""
        with database.read() as session:
            start = None if after is None else ChainPosition.parse(after)
            expected = [ChainPosition.parse(position) for position in expect or ()]
            return VerifyAnswer.model_validate(verify.step(session, start, expected, rows))

    @router.get(
        "/export",
        dependencies=[READ, Depends(context.turns.export)],
        responses=may_answer(PRUNED, BUSY),
        response_class=JsonLines,
    )
    def export_audit(period: Annotated[ExportPeriod, Query()]) -> Response:
        """Stream all rows in the order of the chain, as JSON lines; the last line has their number."""
        start = None if period.after is None else ChainPosition.parse(period.after)
        pieces = export(database, after=start, since=period.since, until=period.until)
        return JsonLines(pieces)

    return router
