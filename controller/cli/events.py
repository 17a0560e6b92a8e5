"""The verb `vxctl events`: what happened, repeats folded, newest last."""

from typing import Annotated, Any, Final

import typer

from contract.runtime.errors import UsageError
from controller.cli import live
from controller.cli.client import PAGE_ROWS, Client
from controller.cli.options import DEFAULT_URL, ListOutput, Since, Url, Watch, rows_limit
from controller.cli.output import columns, folding, formats, table
from controller.cli.output.structured import Kind
from controller.cli.period import as_time, with_zone

EVENT: Final = Kind.of("event", "id")
_EXAMINED: Final = 5_000
"""Events that are read, and folded."""

About = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[for] node|network NAME",
        help="Only events of this node or network, and of what it depends on.",
    ),
]


def events(
    about: About = None,
    since: Since = None,
    limit: Annotated[int, rows_limit(_EXAMINED)] = 100,
    watch: Watch = False,
    url: Url = DEFAULT_URL,
    output: ListOutput = "table",
) -> None:
    client, filters = Client(url), _filters(about or [])
    if watch:
        live.refuse_with(names=None, redraw=False)
        shown = live.Printer(columns.FOLLOWED_EVENTS, output, EVENT)
        # A fixed time: relative to now, the list would be another one after each interruption.
        filters |= {} if since is None else {"since": as_time(since)}
        live.follow(client, "events", {**filters, "limit": min(limit, PAGE_ROWS)}, shown)
    found, more = read(client, filters, since=with_zone(since), limit=limit)
    formats.show(found, output, show, kind=EVENT)
    if more:
        table.note("older events are not shown; --limit or --since for more")


def read(
    client: Client,
    filters: dict[str, str],
    *,
    since: str | None = None,
    limit: int,
    examined: int = _EXAMINED,
) -> tuple[list[dict[str, Any]], bool]:
    """Return the newest events, folded, newest last; and whether there are older ones."""
    pages = [*client.pages("events", examined, **filters, since=since)]
    found = folding.fold(row for page in pages for row in page["items"])
    return found[-limit:], len(found) > limit or pages[-1]["next"] is not None


def show(found: list[dict[str, Any]]) -> None:
    """Print events as a table."""
    table.table(columns.EVENTS, found, empty="no events", prose=True)


def _filters(words: list[str]) -> dict[str, str]:
    match words[1:] if words[:1] == ["for"] else words:
        case []:
            return {}
        case [("node" | "nodes" | "no"), name]:
            return {"node": name}
        case [("network" | "networks" | "net"), name]:
            return {"network": name}
    raise UsageError(
        f"{' '.join(words)!r} is neither a node nor a network",
        "`vxctl events for node NAME`, or `vxctl events for network NAME`",
    )
