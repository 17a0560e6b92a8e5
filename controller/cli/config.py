"""The verb group `vxctl config`: listing, choosing, changing and removing contexts."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from contract.runtime.errors import UsageError
from controller.cli import contexts
from controller.cli.options import ListOutput
from controller.cli.output import formats, table
from controller.cli.output.structured import Kind

_KIND: Final = Kind.of("context", "name")

Name = Annotated[str, typer.Argument(metavar="CONTEXT", help="Name of a context.")]


def list_(output: ListOutput = "table") -> None:
    found = contexts.read()
    rows = [
        {
            "name": name,
            "current": name == found.current,
            "url": context.url,
            "token": "here" if context.token else context.token_file,
            "ca": context.ca,
        }
        for name, context in sorted(found.by_name.items())
    ]
    formats.show(rows, output, _show, kind=_KIND)


def use(name: Name) -> None:
    found = contexts.read()
    found.get(name)
    contexts.write(replace(found, current=name))
    table.line(f"context {name} is the current one")


def set_(
    name: Name,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="HTTP API of the controller.")
    ] = None,
    token_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="File with the API token.")
    ] = None,
    ca: Annotated[
        str | None, typer.Option(metavar="FILE", help="CA of the controller's certificate.")
    ] = None,
) -> None:
    found = contexts.read()
    context = found.by_name.get(contexts.checked_name(name))
    if context is None and not url:
        raise UsageError(f"the new context {name!r} needs a URL", "add --url URL")
    if context is None or (url and url != context.url):
        # A token belongs to its controller: another URL does not get it.
        kept = None if context is None else context.ca
        file = None if context is None else context.token_file
        context = contexts.ControllerContext(url or "", token_file=file, ca=kept)
    if token_file:
        context = replace(context, token=None, token_file=str(Path(token_file).absolute()))
    if ca:
        context = replace(context, ca=str(Path(ca).absolute()))
    contexts.write(replace(found, by_name=found.by_name | {name: context}))
    table.line(f"context {name} is set to {context.url}")


def remove(name: Name) -> None:
    found = contexts.read()
    found.get(name)
    left = {key: context for key, context in found.by_name.items() if key != name}
    contexts.write(contexts.Contexts(None if found.current == name else found.current, left))
    table.line(f"context {name} is removed")


def path() -> None:
    table.line(str(contexts.path()))


def _show(rows: list[dict[str, Any]]) -> None:
    columns = (
        ("CURRENT", lambda row: "*" if row["current"] else ""),
        ("NAME", lambda row: row["name"]),
        ("URL", lambda row: row["url"]),
        ("TOKEN", lambda row: row["token"] or "-"),
        ("CA", lambda row: row["ca"] or "-"),
    )
    table.table(columns, rows, empty="no contexts: `vxctl login URL` makes one")
