"""The tree of verbs: each help stands there once, and nothing is imported that a verb does not need."""

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from controller.cli.commands import TREE
from controller.cli.common import with_common_options
from controller.cli.verbs import Group, Verb, make

HEAVY = (
    "httpx", "pydantic", "pydantic_settings", "sqlalchemy", "fastapi", "starlette", "alembic", "celery",
    "kombu", "docker", "uvicorn", "structlog", "prometheus_client", "rich", "yaml",
    "asyncio", "worker",
)  # fmt: skip
"""What takes tens of milliseconds to import, and a help does not need."""


def _verbs(group: Group = TREE, path: str = "vxctl") -> Iterator[tuple[str, Verb]]:
    for name, node in group.verbs.items():
        if isinstance(node, Verb):
            yield f"{path} {name}", node
            continue
        yield from _verbs(node, f"{path} {name}")
        if node.alone is not None:
            yield f"{path} {name}", node.alone


VERBS = dict(_verbs())


@pytest.mark.parametrize("name", VERBS)
def test_the_help_is_that_of_the_tree_and_stands_nowhere_else(name: str) -> None:
    verb = VERBS[name]
    assert verb.load().__doc__ is None
    told = make(name.rsplit(maxsplit=1)[-1], verb).help
    assert told == f"{verb.summary}\n\n{verb.more}".strip()


@pytest.mark.parametrize("name", VERBS)
def test_a_help_shows_what_people_type_and_no_type_of_python(name: str) -> None:
    command = make(name.rsplit(maxsplit=1)[-1], VERBS[name])
    context = command.context_class(command, info_name=name)
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    shown = [command.get_usage(context), *(record[0] for record in filter(None, records))]
    assert not [
        text for text in shown if re.search(r"[{}]|<(str|int|float|list|Path)|range>", text)
    ]


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_with_output_has_the_common_options(name: str) -> None:
    shown = inspect.signature(with_common_options(VERBS[name].load())).parameters
    assert ("no_headers" in shown) == ("no_pager" in shown) == ("output" in shown)


def test_a_verb_without_output_is_left_as_it_is() -> None:
    def verb(name: str) -> None:
        """Do something with a name."""

    assert with_common_options(verb) is verb


def test_names_are_unique_among_siblings() -> None:
    def check(group: Group) -> None:
        names = [each for name, node in group.verbs.items() for each in (name, *node.aliases)]
        assert len(names) == len(set(names)), names
        for node in group.verbs.values():
            if isinstance(node, Group):
                check(node)

    check(TREE)


def _imported(*arguments: str) -> set[str]:
    """The modules that are imported after a command has run."""
    program = (
        "import sys\n"
        f"sys.argv = ['vxctl', *{arguments!r}]\n"
        "from controller.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        "sys.stderr.write('\\n'.join(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stderr.splitlines())


def test_the_help_imports_nothing_heavy() -> None:
    found = _imported("--help")
    assert "typer" in found
    assert found & set(HEAVY) == set()


@pytest.mark.parametrize("arguments", [("get", "--help"), ("get", "nosuch"), ("nosuch",)])
def test_a_groups_help_imports_no_verb(arguments: tuple[str, ...]) -> None:
    # typer reads the values of options by pydantic.
    assert _imported(*arguments) & set(HEAVY) <= {"pydantic"}


def test_get_nodes_imports_neither_the_server_nor_the_database() -> None:
    found = _imported("get", "nodes", "--url", "http://127.0.0.1:1")
    # httpx imports rich, for a command of its own.
    assert found & set(HEAVY) <= {"pydantic", "httpx", "rich", "asyncio"}
    assert "httpx" in found
