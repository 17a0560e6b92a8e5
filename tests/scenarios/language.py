"""The commands that there are, by their names; `commands` and `expectations` fill it."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from tests.scenarios.errors import ScenarioError
from tests.scenarios.table import Row
from tests.scenarios.usage import Arguments, Usage
from tests.scenarios.world import World

Action = Callable[[World, Arguments], None]


class Command(NamedTuple):
    """Something that a line can do."""

    usage: Usage
    act: Action


class Expectation(NamedTuple):
    """Something of which a table can be expected."""

    columns: tuple[str, ...]
    rows: Callable[[World], Sequence[Row]]


COMMANDS: Final[dict[tuple[str, ...], Command]] = {}
EXPECTATIONS: Final[dict[str, Expectation]] = {}


def command(usage: str) -> Callable[[Action], Action]:
    """Register a function as the command with this usage line."""

    def register(act: Action) -> Action:
        read = Usage.of(usage)
        assert read.command not in COMMANDS, usage
        COMMANDS[read.command] = Command(read, act)
        return act

    return register


def expectation(
    name: str, *columns: str
) -> Callable[[Callable[[World], Sequence[Row]]], Callable[[World], Sequence[Row]]]:
    """Register a function that gives the rows of a table with these columns."""

    def register(rows: Callable[[World], Sequence[Row]]) -> Callable[[World], Sequence[Row]]:
        assert name not in EXPECTATIONS, name
        EXPECTATIONS[name] = Expectation(columns, rows)
        return rows

    return register


def run_command(world: World, words: Sequence[str]) -> None:
    """Do what a line says.

    Raises:
        ScenarioError: there is no such command, or it is not used like that.
    """
    for length in (2, 1):
        found = COMMANDS.get(tuple(words[:length]))
        if found is not None:
            found.act(world, found.usage.read(words[length:]))
            return
    raise ScenarioError(f"there is no command {' '.join(words[:2])!r}: see README.md beside it")
