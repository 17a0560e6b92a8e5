"""Writes docs/openapi.json and docs/problems.md from the code: `python -m tests.api_docs`."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from contract.verdicts import Mode
from controller.api.app import build
from controller.api.context import Context
from controller.api.problem_types import TYPES
from controller.db.engine import open_database

DOCS: Final = Path(__file__).parents[1] / "docs"

_PREFACE: Final = """\
# Problems

Every error of the API is a problem (RFC 9457) with a `type`. A program should decide by the type, or by the
status: `detail` and `hint` are for people, and their words may change. `GET /problems/NAME` of a controller
shows the same texts.

<!-- Made from controller/api/problem_types.py by `make api-docs`. -->
"""


def openapi(folder: Path) -> dict[str, Any]:
    """The specification of a controller whose database is in this folder."""
    with closing(open_database(f"sqlite:///{folder / 'controller.db'}")) as database:
        return build(Context(database, mode=Mode.OBSERVE, notify=lambda *_: None)).openapi()


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
    (DOCS / "problems.md").write_text(problems())
