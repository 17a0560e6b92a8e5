"""The verbs about audit rows: list and follow them, show a run's timeline, count removals."""

import sys
import time
from typing import Annotated, Any, Final

import typer

from contract.runtime.errors import UsageError
from contract.verdicts import Stage, Urgency, Verdict
from controller.cli.client import PAGE_ROWS, Client, Parameter, UnavailableError
from controller.cli.options import (
    DEFAULT_URL,
    Limit,
    ListOutput,
    NetworkOption,
    NodeOption,
    Output,
    Since,
    Until,
    Url,
)
from controller.cli.output import formats, structured, style, table, timeline
from controller.cli.output.audit_rows import Writer
from controller.cli.output.columns import plain
from controller.cli.output.structured import AUDIT, Kind
from controller.cli.output.table import Row
from controller.cli.period import period, with_zone

_POLL_SECONDS: Final = 1.0
_STATS: Final = Kind.of("node", "name", "id")
_PROGRESS_PAGES: Final = 50
"""Pages without a row after which the progress of the search is shown."""


def audit(
    context: typer.Context,
    node: NodeOption = None,
    network: NetworkOption = None,
    vni: Annotated[
        int | None, typer.Option(min=0, max=2**24 - 1, metavar="VNI", help="VNI of the device.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="NAME or NAME#IFINDEX.")
    ] = None,
    stage: Annotated[
        list[Stage] | None,
        typer.Option(metavar="STAGE", help=f"May be repeated: {', '.join(Stage)}."),
    ] = None,
    verdict: Annotated[Verdict | None, typer.Option(help="Verdict of the device.")] = None,
    urgency: Annotated[Urgency | None, typer.Option(help="Urgency of the orphan.")] = None,
    actor: Annotated[str | None, typer.Option(metavar="NAME", help="Person or program.")] = None,
    run: Annotated[str | None, typer.Option(metavar="ID", help="Run: id or id prefix.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    every: Annotated[bool, typer.Option("--all", help="Show all rows, without a limit.")] = False,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Then show new rows as they are stored, until Ctrl-C."),
    ] = False,
    url: Url = DEFAULT_URL,
    output: ListOutput = "table",
) -> None:
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    if follow and (every or until is not None):
        raise UsageError("--follow has no end", "omit --all and --until")
    if follow and output == "json":
        raise UsageError("a JSON list would never end with --follow", "use -o jsonl")
    sort_by = style.current().sort_by
    if follow and sort_by is not None:
        raise UsageError("--follow shows rows as they come", "omit --sort-by")
    filters: dict[str, Parameter] = {
        "node": node,
        "network": network,
        "vni": vni,
        "device": device,
        "stage": stage,
        "verdict": verdict,
        "urgency": urgency,
        "actor": actor,
        "run": run,
    }
    client, writer = Client(url), Writer(output)
    if follow:
        _follow(client, filters, with_zone(since), limit, writer)
    else:
        filters |= period(since, until)
        _list(client, filters, sys.maxsize if every else limit, writer)


def show(
    id: Annotated[  # noqa: A002 -- shown in the help
        str, typer.Argument(metavar="ID", help="Id of an audit row; or id, or id prefix, of a run.")
    ],
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    formats.show(
        Client(url).get("audit", id, "timeline"), output, timeline.show, kind=AUDIT, rows="rows"
    )


def stats(
    since: Since = None, until: Until = None, url: Url = DEFAULT_URL, output: Output = "table"
) -> None:
    answer = Client(url).get("audit", "stats", **period(since, until))
    formats.show(answer, output, _show_stats, kind=_STATS, rows="nodes")


def _show_stats(answer: dict[str, Any]) -> None:
    table.line(
        f"{answer['removals']} device(s) removed from {formats.clock(answer['since'])} "
        f"to {formats.clock(answer['until'])}"
    )
    if not answer["whole"]:
        table.line("Earlier removals are not counted: use --until for those.")
    for title in ("node", "network"):
        columns = (
            (title.upper(), lambda row: row["name"] or "?"),
            ("ID", lambda row: row["id"] or "no known network"),
            *plain("REMOVALS"),
        )
        table.line("")
        table.table(columns, answer[f"{title}s"], empty=f"no removals on any {title}")
    days = (("DAY (UTC)", lambda row: row["day"]), *plain("REMOVALS"))
    table.line("")
    table.table(days, answer["days"], empty="no removals on any day")


def _refuse_options(context: typer.Context) -> None:
    """Refuse options of the listing before a subcommand, which would ignore them."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            option = parameter.opts[0]
            raise UsageError(
                f"{option} must come after the subcommand",
                f"`vxctl audit {context.invoked_subcommand} {option} ...`",
            )


def _list(client: Client, filters: dict[str, Parameter], limit: int, writer: Writer) -> None:
    empty_pages, noted = 0, False
    kept: list[Row] = []
    sort_by = style.current().sort_by
    for page in client.pages("audit", limit, **filters):
        if not noted:
            for text in page.get("notes", ()):
                table.note(f"note: {text}")
            noted = True
        if sort_by is None:
            writer.write(page["items"])
        else:
            kept += page["items"]
        empty_pages = 0 if page["items"] else empty_pages + 1
        if page["searched_to"] and empty_pages and empty_pages % _PROGRESS_PAGES == 0:
            back = formats.clock(page["searched_to"])
            table.note(f"still searching; no more rows back to {back}")
    if sort_by is not None:
        writer.write(structured.in_order(kept, sort_by))
    writer.end()


def _follow(
    client: Client, filters: dict[str, Parameter], since: str | None, limit: int, writer: Writer
) -> None:
    """Print the latest rows, the oldest first, and then those that are stored."""
    pages = [*client.pages("audit", limit, **filters, since=since)]
    after = pages[0]["after"]
    latest = [row for page in pages for row in page["items"]]
    # What was stored meanwhile comes again after that row.
    writer.write([row for row in reversed(latest) if row["id"] <= after])
    away = False
    while True:
        try:
            page = client.get("audit", **filters, after=after, limit=PAGE_ROWS)
        except UnavailableError as error:
            if not away:
                table.note(f"waiting: {error.problem}")
            away = True
        else:
            away = False
            writer.write(page["items"])
            if page["after"] != after:
                after = page["after"]
                continue
        time.sleep(_POLL_SECONDS)
