"""Reading a scenario's file: commands, one a line, with the tables below them. Pure."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.scenarios.errors import ScenarioError


class Step(NamedTuple):
    """One command.

    Attributes:
        line: its number in the file, from 1.
        text: as it is written.
        words: of the command.
        below: the lines of the table below it.
        table_at: the number of the table's first line, from 1.
    """

    line: int
    text: str
    words: Sequence[str]
    below: Sequence[str]
    table_at: int


class Script(NamedTuple):
    """A scenario: its title and its steps."""

    title: str
    steps: Sequence[Step]


def read_script(path: Path) -> Script:
    """Read a scenario's file.

    Raises:
        ScenarioError: it is none; says which line.
    """
    lines = path.read_text().splitlines()
    if not lines or not lines[0].startswith("# "):
        raise ScenarioError(f"{path.name}:1: the first line says what the scenario shows: `# ...`")
    steps: list[Step] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not line.startswith((" ", "\t")):
            steps.append(_step(path, number, line))
        elif not steps or steps[-1].table_at + len(steps[-1].below) != number:
            raise ScenarioError(
                f"{path.name}:{number}: an indented line belongs below `expect ...`"
            )
        else:
            steps[-1] = steps[-1]._replace(below=(*steps[-1].below, line))
    return Script(lines[0].removeprefix("# "), steps)


def _step(path: Path, number: int, line: str) -> Step:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ScenarioError(f"{path.name}:{number}: {error}: {line}") from error
    return Step(number, line, words, (), number + 1)
