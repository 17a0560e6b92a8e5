"""A tree of verbs whose modules are imported only when they are used, as `vxctl --help` needs none."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final, NamedTuple, cast

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from contract.runtime.exit_status import ExitStatus
from controller.cli.common import with_common_options
from controller.cli.connection import connected

_PACKAGE: Final = "controller.cli."
_COLUMN: Final = 18
"""Width of the verbs' names in a help."""


class Verb(NamedTuple):
    """A command: where its function is, and its help, which the function need not repeat.

    Attributes:
        where: `MODULE:FUNCTION` in `controller.cli`.
        summary: the help in a line.
        aliases: other names, which the help does not list.
        more: paragraphs of the help after the summary.
        takes_text: its arguments are a text that people paste, with the options that are in it.
    """

    where: str
    summary: str
    aliases: tuple[str, ...] = ()
    more: str = ""
    takes_text: bool = False

    def load(self) -> Callable[..., None]:
        """Import the function."""
        module, _, function = self.where.partition(":")
        found: Callable[..., None] = getattr(import_module(_PACKAGE + module), function)
        return found


class Group(NamedTuple):
    """Verbs under one name.

    Attributes:
        alone: what the name does without a verb; None: it shows its help.
    """

    summary: str
    verbs: Mapping[str, "Verb | Group"]
    alone: Verb | None = None
    aliases: tuple[str, ...] = ()


class PlainCommand(TyperCommand):
    """A command whose help shows arguments as people type them, without names of Python's types."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """See the base class: `NODE`, and not `{NODE}`."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def get_params(self, ctx: Any) -> Any:
        """See the base class."""
        found = super().get_params(ctx)
        for parameter in found:
            if isinstance(parameter, TyperArgument) and not has_choices(parameter):
                parameter.display_type_rich = _no_type  # type: ignore[method-assign]
        return found


def has_choices(parameter: Any) -> bool:
    """Whether a parameter takes one of a few values that its metavar does not list."""
    return "|" in (parameter.display_type(None) or "") and "|" not in (parameter.metavar or "")


def _no_type(ctx: Any) -> str:  # noqa: ARG001 -- the base class's
    return ""


class LazyGroup(TyperGroup):
    """The commands of a tree, each made when it is asked for."""

    tree: Mapping[str, Verb | Group]

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # The names alone are for typer's "Did you mean".
        self.commands = cast("Any", dict.fromkeys(self.tree))

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 -- the base class's
        return list(self.tree)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 -- the base class's
        """See the base class: import and make one command; aliases are commands, too."""
        name = next((n for n, node in self.tree.items() if cmd_name in (n, *node.aliases)), None)
        return None if name is None else make(name, self.tree[name])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See the base class: without a verb, show the help as the answer that it is."""
        if not args and not self.invoke_without_command and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            raise typer.Exit(ExitStatus.USAGE)
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 -- the base class's
        """See the base class: without importing anything."""
        rows = [(name.ljust(_COLUMN), node.summary) for name, node in self.tree.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows, col_max=_COLUMN)


def make(name: str, node: Verb | Group) -> Any:
    """Make the typer command of a verb, or of a group."""
    app = application(name, node)
    command = typer.main.get_command(app)
    command.name = name
    return command


def application(
    name: str, node: Verb | Group, callback: Callable[..., None] | None = None
) -> typer.Typer:
    """Make the typer application of a verb, or of a group whose options `callback` takes."""
    settings: dict[str, Any] = {
        "name": name,
        "pretty_exceptions_enable": False,
        "add_completion": False,
        # Plain text: rich takes a tenth of a second, and reads markup in texts.
        "rich_markup_mode": None,
        "context_settings": {"help_option_names": ["-h", "--help"]},
    }
    if isinstance(node, Verb):
        app = typer.Typer(**settings)
        taken = settings["context_settings"] | {"ignore_unknown_options": node.takes_text}
        text = f"{node.summary}\n\n{node.more}".strip()
        command = app.command(name, cls=PlainCommand, context_settings=taken, help=text)
        command(_with_options(node.load()))
        return app
    kind = type("LazyGroup", (LazyGroup,), {"tree": node.verbs})
    alone = node.alone is not None
    app = typer.Typer(
        **settings,
        cls=kind,
        invoke_without_command=alone,
        help=node.summary,
    )
    if node.alone is not None:
        callback = _with_options(node.alone.load())
    app.callback()(callback or _nothing)
    return app


def _with_options(verb: Callable[..., None]) -> Callable[..., None]:
    return with_common_options(connected(verb))


def _nothing() -> None:
    """A group by itself does nothing."""
