"""The page that searches the audit trail, and exports of what was found."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import RedirectResponse, StreamingResponse

from contract.runtime.text import csv_cell
from contract.verdicts import Urgency, Verdict
from controller.api.access import READ
from controller.api.answers.audit import AuditAnswer, audit_answers
from controller.api.audit_parameters import AuditListing
from controller.api.context import Context
from controller.api.cursor import CursorError
from controller.api.parameters import ParameterError
from controller.api.routes.audit import audit_page
from controller.audit.queries import pages
from controller.audit.queries.pages import Filters, RowKey
from controller.db.lookup import AmbiguousError, UnknownError
from controller.web import live
from controller.web.forms import text_of
from controller.web.pages import iso, render

MAX_EXPORT: Final = 100_000
"""Rows of an export."""
_AT_ONCE: Final = 1_000
_PAGE: Final = 50
_MORE: Final = ("vni", "device", "verdict", "urgency", "actor", "run")
_TIMES: Final = "times: 2h, 7d, 2030-05-01 or 2030-05-01T14:00:00Z"
_Text = Annotated[str, Field(max_length=255)]


class Typed(BaseModel):
    """The fields of the search form as they were typed; empty: any."""

    model_config = ConfigDict(extra="forbid")

    node: _Text = ""
    network: _Text = ""
    vni: _Text = ""
    device: _Text = ""
    stage: Annotated[list[_Text], Field(max_length=100)] = []
    verdict: _Text = ""
    urgency: _Text = ""
    actor: _Text = ""
    run: _Text = ""
    since: _Text = ""
    until: _Text = ""

    def given(self) -> dict[str, Any]:
        """Return the fields that are not empty."""
        return {name: value for name, value in self if value}

    @property
    def has_more(self) -> bool:
        """Whether a filter is given that the form folds away."""
        return any(getattr(self, name) for name in _MORE)


def _hint(error: Exception | None) -> str:
    """Return what to do about a search that is wrong."""
    if isinstance(error, ValidationError):
        wrong = {str(part["loc"][0]) for part in error.errors() if part["loc"]}
        return _TIMES if wrong & {"since", "until"} else "correct it, or leave it empty"
    return getattr(error, "hint", "") or ""


class Search(Typed):
    """The form, and which page of what it finds."""

    cursor: Annotated[str, Field(max_length=4096)] = ""


def routes(context: Context) -> APIRouter:
    router = APIRouter()
    database = context.database

    @router.get("/audit", dependencies=[READ, Depends(context.turns.lists)])
    def get_audit(request: Request, search: Annotated[Search, Query()]) -> Response:
        """Show a page of audit rows, the newest first."""
        given = search.given()
        if len(given) < len(set(request.query_params)):
            # The address of a search, to be shared, has what was given alone.
            return RedirectResponse(_path("/audit", given), 303)
        error: Exception | None = None
        with database.read() as session:
            marks = live.marks(session)
            try:
                listing = AuditListing.model_validate(given | {"limit": _PAGE})
                page = audit_page(session, request, listing, context.trace_url)
            except (
                ValidationError,
                CursorError,
                ParameterError,
                UnknownError,
                AmbiguousError,
            ) as found:
                error, page = found, None
        filters = {name: value for name, value in given.items() if name != "cursor"}
        as_of_now = filters | {"until": iso(datetime.now(UTC))}
        if "since" in filters and error is None:
            as_of_now["since"] = iso(listing.since) if listing.since else ""
        return render(
            request,
            "audit.html",
            status=200 if error is None else 422,
            marks=marks,
            typed=search,
            page=page,
            error=None if error is None else text_of(error),
            hint=_hint(error),
            is_first="cursor" not in given,
            url=_path("/audit", given),
            first=_path("/audit", filters),
            older=_path("/audit", filters | {"cursor": page.next}) if page and page.next else None,
            link=_path("/audit", as_of_now if "until" not in filters else filters),
            csv=_path("/audit/export.csv", filters),
            jsonl=_path("/audit/export.jsonl", filters),
            max_export=MAX_EXPORT,
            verdicts=list(Verdict),
            urgencies=list(Urgency),
        )

    @router.get("/audit/export.csv", dependencies=[READ, Depends(context.turns.export)])
    def export_csv(typed: Annotated[Typed, Query()]) -> Response:
        """Stream the rows of a search as CSV that no spreadsheet takes for formulas."""
        return _download(_csv(rows(typed)), "text/csv; charset=utf-8", "csv")

    @router.get("/audit/export.jsonl", dependencies=[READ, Depends(context.turns.export)])
    def export_jsonl(typed: Annotated[Typed, Query()]) -> Response:
        """Stream the rows of a search as JSON texts, one a line."""
        lines = (f"{row.model_dump_json()}\n" for row in rows(typed))
        return _download(lines, "application/x-ndjson", "jsonl")

    def rows(typed: Typed) -> Iterator[AuditAnswer]:
        try:
            listing = AuditListing.model_validate(typed.given())
        except ValidationError as error:
            raise ParameterError("filters", text_of(error), "search first, then export") from None
        with database.read() as session:
            filters = listing.filters(session)
        return _rows(context, filters)

    return router


def _rows(context: Context, filters: Filters) -> Iterator[AuditAnswer]:
    """Yield rows, the newest first, at most `MAX_EXPORT`; each part in a transaction of its own."""
    key: RowKey | None = None
    left = MAX_EXPORT
    while left > 0:
        with context.database.read() as session:
            page = pages.page(session, filters, key, min(left, _AT_ONCE))
            answers = audit_answers(session, page.rows, context.trace_url)
        yield from answers
        left -= len(answers)
        key = page.next
        if key is None:
            return


def _csv(rows: Iterator[AuditAnswer]) -> Iterator[str]:
    names = list(AuditAnswer.model_fields)
    for values in ([names], (row.model_dump(mode="json").values() for row in rows)):
        for cells in values:
            line = io.StringIO()
            csv.writer(line).writerow(map(csv_cell, cells))
            yield line.getvalue()


def _download(pieces: Iterator[str], kind: str, ending: str) -> Response:
    name = f"audit-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.{ending}"
    disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(pieces, media_type=kind, headers=disposition)


def _path(path: str, given: dict[str, Any]) -> str:
    query = urlencode({name: value for name, value in given.items() if value}, doseq=True)
    return f"{path}?{query}" if query else path
