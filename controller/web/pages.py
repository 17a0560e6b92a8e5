"""Renders templates: every text of the Swarm is escaped, printable, and never turns its surroundings."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any, Final, NamedTuple

from fastapi import FastAPI, Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

from contract import VERSION
from contract.runtime.text import printable
from contract.verdicts import STAGE_WORDS
from controller.access.roles import Identity
from controller.api.access import maybe_identity
from controller.db.states import Role
from controller.web import assets


class Entry(NamedTuple):
    """An entry of the navigation."""

    path: str
    label: str


NAVIGATION: Final = (
    Entry("/", "Overview"),
    Entry("/matrix", "Matrix"),
    Entry("/audit", "Audit"),
    Entry("/explain", "Explain"),
    Entry("/safety", "Safety"),
    Entry("/notifications", "Notifications"),
)


def install(app: FastAPI, paths: Iterable[str]) -> None:
    """Let an app render templates; `paths`: of its pages, of which the navigation shows its own."""
    app.state.templates = environment(paths)


def environment(paths: Iterable[str]) -> Environment:
    """Return what renders the templates; `paths`: as `install`."""
    known = set(paths)
    made = Environment(
        loader=PackageLoader("controller.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    made.globals.update(
        asset=assets.path_of,
        version=VERSION,
        stage_words=STAGE_WORDS,
        navigation=[entry for entry in NAVIGATION if entry.path in known],
    )
    made.filters.update(iso=iso, utc=utc, said=said, seconds=seconds)
    return made


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page.

    Args:
        template: its file name in `templates`.
        status: of HTTP.
        values: for the template, besides `path` (of the request), `caller` (None: nobody is logged in),
            `may_operate` and `may_admin`.
    """
    caller = maybe_identity(request)
    templates: Environment = request.app.state.templates
    page = templates.get_template(template).render(
        path=request.url.path,
        caller=caller,
        may_operate=_may(caller, Role.OPERATE),
        may_admin=_may(caller, Role.ADMIN),
        **values,
    )
    return HTMLResponse(page, status)


def iso(at: datetime) -> str:
    """Return a time for a program: `2026-11-27T06:13:34Z`."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc(at: datetime) -> str:
    """Return a time for people: `2026-11-27 06:13:34 UTC`."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", re.ASCII)
"""As our messages write one; a page shows it in the person's zone, as all other times."""


def _with_times(text: str) -> Markup:
    """Return a text whose times are elements that the page's script tells in the person's zone."""
    pieces, end = [Markup()], 0
    for found in _TIME.finditer(text):
        at = found[0].replace(" ", "T", 1).replace(" UTC", "Z")
        pieces += [
            escape(text[end : found.start()]),
            Markup('<time datetime="{}" title="{}">{}</time>').format(at, found[0], found[0]),
        ]
        end = found.end()
    return Markup().join([*pieces, escape(text[end:])])


def said(text: str) -> Markup:
    """Return a sentence with its `commands` as code."""
    parts = printable(text).split("`")
    if len(parts) % 2 == 0:  # A name has one; all are shown as they are.
        return _with_times(printable(text))
    pieces = [_with_times(part) for part in parts[::2]]
    codes = [Markup("<code>{}</code>").format(part) for part in parts[1::2]]
    pieces = [piece for pair in zip_longest(pieces, codes, fillvalue=Markup()) for piece in pair]
    return Markup().join(pieces)


def seconds(duration: float | None) -> str:
    """Return a duration for people; nothing for None."""
    if duration is None:
        return ""
    return f"{duration:.1f} s" if duration < 100 else f"{duration / 60:.1f} min"


def _printable(value: Any) -> Any:
    """Make a text printable: names of the Swarm may have any character."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value)
    return value


def _may(caller: Identity | None, role: Role) -> bool:
    return caller is not None and caller.has(role)
