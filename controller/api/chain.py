"""Routes about the audit trail as a chain: verifying it, and exporting it."""

from typing import Annotated, Final

from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse
from pydantic import AfterValidator, AwareDatetime

from controller.api import problems
from controller.api.answers.chain import VerifyAnswer
from controller.api.context import Context
from controller.audit import verify
from controller.audit.chain import ChainPosition
from controller.audit.export import PrunedError, export

_MAX_EXPECTED: Final = 10


def _position(text: str) -> str:
    ChainPosition.parse(text)
    return text


Position = Annotated[str, AfterValidator(_position)]


def routes(context: Context) -> APIRouter:
    """Build them."""
    router = APIRouter(prefix="/api/v1/audit")
    database = context.database

    @router.get("/verify")
    def verify_step(
        after: Annotated[
            Position | None, Query(description="`reached` of the answer before; none: begin")
        ] = None,
        expect: Annotated[
            list[Position] | None,
            Query(max_length=_MAX_EXPECTED, description="POSITION:HASH that was kept elsewhere"),
        ] = None,
        rows: Annotated[
            int, Query(ge=1, le=5 * verify.ROWS_AT_ONCE, description="check so many, about")
        ] = verify.ROWS_AT_ONCE,
    ) -> VerifyAnswer:
        """Check a piece of the hash chain; ask again after `reached` until `done`."""
        with database.read() as session:
            return VerifyAnswer.of(
                verify.step(
                    session,
                    None if after is None else ChainPosition.parse(after),
                    [ChainPosition.parse(each) for each in expect or ()],
                    rows,
                )
            )

    @router.get("/export")
    def export_all(
        after: Annotated[Position | None, Query(description="`head` of the export before")] = None,
        since: Annotated[AwareDatetime | None, Query(description="stored then or later")] = None,
        until: Annotated[AwareDatetime | None, Query(description="stored before then")] = None,
    ) -> Response:
        """All rows in the order of the chain, as JSON lines; the last line says how many they were."""
        if since is not None and until is not None and until <= since:
            return problems.problem(422, "Invalid request", "until: must be later than since")
        start = None if after is None else ChainPosition.parse(after)
        try:
            pieces = export(database, after=start, since=since, until=until)
        except PrunedError as error:
            return problems.problem(
                410, "Pruned", f"after: {error}; they are in the archives of the retention"
            )
        return StreamingResponse(pieces, media_type="application/x-ndjson")

    return router
