"""Runs one scenario, step by step, and says what is not as it expects."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

# Both fill the language.
from tests.scenarios import commands as commands
from tests.scenarios import expectations as expectations
from tests.scenarios import kernel_commands as kernel_commands
from tests.scenarios.errors import ScenarioError
from tests.scenarios.language import EXPECTATIONS, run_command
from tests.scenarios.script import Step, read_script
from tests.scenarios.table import Table
from tests.scenarios.world import World

FOLDER = Path(__file__).parent


class _Change(NamedTuple):
    """A table that is not as expected.

    Attributes:
        first: the number of its first line in the file, from 1.
        replaced: how many lines it has.
        lines: those of the actual table.
        why: in words, with both tables.
    """

    first: int
    replaced: int
    lines: list[str]
    why: str


def scenarios() -> list[Path]:
    """The files of all scenarios."""
    return sorted(FOLDER.glob("*.txt"))


def run_scenario(path: Path, folder: Path, *, update: bool = False) -> None:
    """Run a scenario.

    Args:
        path: its file.
        folder: an empty one, for the worker's journal.
        update: put the actual tables into the file, where they are not the expected ones.

    Raises:
        ScenarioError: it cannot be understood, or something is not as it expects.
    """
    script = read_script(path)
    world = World(folder)
    world.do = partial(run_command, world)
    changes: list[_Change] = []
    try:
        for step in script.steps:
            try:
                changes += _take(world, step)
            except ScenarioError as error:
                raise ScenarioError(f"{path.name}:{step.line}: {step.text}\n{error}") from None
            if changes and not update:
                raise ScenarioError(f"{path.name}:{step.line}: {step.text}\n{changes[0].why}")
        owed = [*world.owes()]
        if not any(step.words[0] == "expect" for step in script.steps):
            owed.append("it expects nothing")
        if owed:
            raise ScenarioError("\n".join([f"{path.name}: at its end", *owed]))
    finally:
        world.end()
    if changes:
        _write(path, changes)


def _take(world: World, step: Step) -> list[_Change]:
    """Take one step; return how the lines of its table should be changed."""
    if step.words[0] == "expect":
        return _expect(world, step)
    if step.below:
        raise ScenarioError("only `expect ...` has a table below it")
    run_command(world, step.words)
    return []


def _expect(world: World, step: Step) -> list[_Change]:
    """Compare a table with what there is."""
    name = " ".join(step.words[1:])
    found = EXPECTATIONS.get(name)
    if found is None:
        raise ScenarioError(f"nothing is known of {name!r}: there are {', '.join(EXPECTATIONS)}")
    table = Table.read(step.below)
    rows = [
        {column: world.readable(" ".join(cell.split())) for column, cell in row.items()}
        for row in found.rows(world)
    ]
    actual = table.actual(rows, found.columns)
    world.looked()
    difference = table.difference(actual)
    if difference is None:
        return []
    lines = table.updated(actual).lines()
    why = "\n".join([difference, "expected:", *table.lines(), "actual:", *lines])
    return [_Change(step.table_at, len(step.below), lines, why)]


def _write(path: Path, changes: Sequence[_Change]) -> None:
    lines = path.read_text().splitlines()
    for change in reversed(changes):
        first = change.first - 1
        lines[first : first + change.replaced] = change.lines
    path.write_text("\n".join(lines) + "\n")
