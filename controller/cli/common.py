"""The options that every verb with output has, added to its signature: a verb need not know of them."""

import functools
from collections.abc import Callable
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, Final, get_args

import typer

from controller.cli.options import LIST_OUTPUT, OUTPUT
from controller.cli.output import pager, style

_LIVE: Final = ("watch", "redraw", "follow", "wait", "again")
"""Parameters of verbs whose output comes bit by bit; a pager would keep it back."""
_NO_PAGER = typer.Option("--no-pager", help="Do not send long output to $PAGER on a terminal.")
_NO_HEADERS = typer.Option("--no-headers", help="Omit the line of headings.")
_SORT_BY = typer.Option(
    "--sort-by",
    metavar="FIELD",
    help="Sort by a field of -o json, as in last_run.at; -FIELD: in reverse.",
)


def with_common_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Add the options for its output to a verb that has `-o`; set the style, and page, when it runs."""
    shape = signature(verb)
    outputs = {
        info
        for parameter in shape.parameters.values()
        for info in get_args(parameter.annotation)
        if isinstance(info, typer.models.OptionInfo) and info in (OUTPUT, LIST_OUTPUT)
    }
    if not outputs:
        return verb
    added = [
        _option("no_pager", bool, _NO_PAGER, False),
        _option("no_headers", bool, _NO_HEADERS, False),
    ]
    if LIST_OUTPUT in outputs:
        added.append(_option("sort_by", str | None, _SORT_BY, None))

    @functools.wraps(verb)
    def styled(**given: Any) -> None:
        wanted = style.Style(
            headings=not given.pop("no_headers"),
            sort_by=given.pop("sort_by", None),
            pages=not given.pop("no_pager"),
        )
        style.use(wanted)
        if wanted.pages and not any(given.get(name) for name in _LIVE):
            with pager.pages():
                verb(**given)
        else:
            verb(**given)

    parameters = [
        parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in shape.parameters.values()
    ]
    styled.__signature__ = Signature([*parameters, *added])  # type: ignore[attr-defined]
    return styled


def _option(name: str, kind: Any, info: Any, default: Any) -> Parameter:
    return Parameter(
        name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]
    )
