"""The lines of tests/field_lines.toml, each with what the answer to it must be."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fake_swarm import swarm_id


@dataclass(frozen=True, slots=True)
class Line:
    """A line as somebody pasted it; the attributes are those of the file."""

    source: str
    text: str
    fault: tuple[str, ...]
    certain: bool = True
    node: str = ""
    network: str = ""

    def __str__(self) -> str:
        return self.source


def _line(source: str, text: str, fault: list[str], **others: object) -> Line:
    text = re.sub(r"\$([a-z][a-z0-9.-]*)", lambda found: swarm_id(found[1]), text)
    return Line(source, text, tuple(fault), **others)  # type: ignore[arg-type]


LINES: Final = tuple(
    _line(**entry)
    for entry in tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))["line"]
)
