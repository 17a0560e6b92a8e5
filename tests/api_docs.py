"""Makes openapi.json, problems.md and the routes of security.md in docs: `python -m tests.api_docs`."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from fastapi import FastAPI

from contract.verdicts import Mode
from controller.api import access
from controller.api.app import build
from controller.api.context import Context
from controller.api.problem_types import TYPES
from controller.db.engine import open_database
from controller.db.states import Role
from controller.web.app import Served

DOCS: Final = Path(__file__).parents[1] / "docs"

_PREFACE: Final = """\
# Problems

Every error of the API is a problem (RFC 9457) with a `type`. A program should decide by the type, or by the
status: `detail` and `hint` are for people, and their words may change. `GET /problems/NAME` of a controller
shows the same texts.

<!-- Made from controller/api/problem_types.py by `make api-docs`. -->
"""

_ROUTES: Final = (
    "<!-- routes: made from the code by `make api-docs` -->\n",
    "<!-- end of routes -->\n",
)
_PAGES: Final = (
    "<!-- pages: made from the code by `make api-docs` -->\n",
    "<!-- end of pages -->\n",
)


def app(folder: Path) -> FastAPI:
    """The API of a controller whose database is in this folder."""
    with closing(open_database(f"sqlite:///{folder / 'controller.db'}")) as database:
        return build(Context(database, mode=Mode.OBSERVE, notify=lambda *_: None))


def openapi(folder: Path) -> dict[str, Any]:
    """The specification of that API."""
    return app(folder).openapi()


def security(folder: Path, text: str) -> str:
    """docs/security.md, from its text, with the routes as they are declared now."""
    with closing(open_database(f"sqlite:///{folder / 'controller.db'}")) as database:
        served = Served(Context(database, mode=Mode.OBSERVE, notify=lambda *_: None))
    for (begin, end), found in ((_ROUTES, served.api), (_PAGES, served.pages)):
        before, rest = text.split(begin)
        _, after = rest.split(end)
        text = "".join((before, begin, routes(found), end, after))
    return text


def routes(api: FastAPI) -> str:
    """A table of every route of an app with the role that it needs, the lowest role first."""
    order = [None, Role.METRICS, Role.READ, Role.OPERATE, Role.ADMIN]
    # A list that can be followed is two routes at one path, each of which declares its role.
    found = {
        (order.index(access.declared(route)), route.path, method)
        for route in access.routes_of(api.routes)
        for method in route.methods or ()
    }
    rows = (
        f"| `{method} {path}` | {order[rank] or 'no token'} |"
        for rank, path, method in sorted(found)
    )
    return "\n".join(("| route | role |", "| --- | --- |", *rows, ""))


def as_text(specification: dict[str, Any]) -> str:
    """The specification as docs/openapi.json has it: a line for each value."""
    return json.dumps(specification, indent=2) + "\n"


def problems() -> str:
    """docs/problems.md."""
    return "\n".join([_PREFACE, *_sections()])


def _sections() -> Iterator[str]:
    for kind in TYPES:
        yield f"## {kind.name}\n\n`{kind.uri}`, status {kind.status}: {kind.title}.\n"
        yield f"{kind.meaning}\n\nWhat to do: {kind.hint}\n"


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        (DOCS / "openapi.json").write_text(as_text(openapi(Path(name))))
        page = DOCS / "security.md"
        page.write_text(security(Path(name), page.read_text()))
    (DOCS / "problems.md").write_text(problems())
