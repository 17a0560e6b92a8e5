"""The verbs about audit rows: list and follow them, show a run's timeline, count removals."""

import sys
import time
from datetime import datetime
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from contract.runtime.errors import OperatorError
from contract.runtime.text import printable
from contract.verdicts import Stage, Urgency, Verdict
from controller.cli.client import Client, Parameter, UnavailableError
from controller.cli.options import DEFAULT_URL, OutputOption, Url
from controller.cli.output import audit_rows, formats, table, timeline
from controller.cli.output.columns import value

_PATH: Final = "/api/v1/audit"
_PAGE: Final = 1000
_POLL_SECONDS: Final = 1.0
_PROGRESS_PAGES: Final = 50
"""Pages without a row after which the progress of the search is shown."""

Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Start: 90s, 15m, 2h or 7d ago, a day, or an ISO 8601 time.",
    ),
]
Until = Annotated[
    str | None, typer.Option(metavar="TIME", help="End (exclusive), in the formats of --since.")
]


def audit(
    context: typer.Context,
    node: Annotated[
        str | None,
        typer.Option(metavar="NODE", help="Id, unique id prefix or hostname, also of a past node."),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="NETWORK", help="Id, unique id prefix or name, also of a past network."
        ),
    ] = None,
    vni: Annotated[
        int | None, typer.Option(min=0, max=2**24 - 1, metavar="VNI", help="VNI of the device.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="NAME or NAME#IFINDEX of the device.")
    ] = None,
    stage: Annotated[
        list[Stage] | None,
        typer.Option(metavar="STAGE", help=f"May be repeated: {', '.join(Stage)}."),
    ] = None,
    verdict: Annotated[Verdict | None, typer.Option(help="Verdict of the device.")] = None,
    urgency: Annotated[Urgency | None, typer.Option(help="Urgency of the orphan.")] = None,
    actor: Annotated[
        str | None, typer.Option(metavar="NAME", help="Person or program that acted.")
    ] = None,
    run: Annotated[
        str | None, typer.Option(metavar="ID", help="Id or id prefix of the run.")
    ] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Maximum number of rows.")] = 50,
    every: Annotated[bool, typer.Option("--all", help="Show all rows, without a limit.")] = False,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Then show new rows as they are stored, until Ctrl-C."),
    ] = False,
    url: Url = DEFAULT_URL,
    output: Annotated[
        audit_rows.Format, typer.Option("--output", "-o", help="Output format.")
    ] = "table",
) -> None:
    """Show what was found, done and decided, the newest first."""
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    if follow and (every or until is not None):
        raise OperatorError("--follow has no end", "omit --all and --until")
    if follow and output == "json":
        raise OperatorError("a JSON list would never end with --follow", "use -o jsonl")
    filters: dict[str, Parameter | None] = {
        "node": node,
        "network": network,
        "vni": vni,
        "device": device,
        "stage": list(map(str, stage)) if stage else None,
        "verdict": verdict,
        "urgency": urgency,
        "actor": actor,
        "run": run,
    }
    bounds = {"since": with_zone(since), "until": with_zone(until)}
    client = Client(url)
    if follow:
        _follow(client, filters, bounds, limit, output)
    else:
        _list(client, filters | bounds, None if every else limit, output)


def show(
    id: Annotated[  # noqa: A002 -- shown in the help
        str, typer.Argument(metavar="ID", help="Id of an audit row; or id, or id prefix, of a run.")
    ],
    url: Url = DEFAULT_URL,
    output: OutputOption = "table",
) -> None:
    """Show the timeline of a run: who requested it, what was found, what was done."""
    answer = Client(url).get(f"{_PATH}/{quote(id, safe='')}/timeline")
    formats.show(answer, output, timeline.show)


def stats(
    since: Since = None,
    until: Until = None,
    url: Url = DEFAULT_URL,
    output: OutputOption = "table",
) -> None:
    """Count removals by node, network and day; of the last 30 days by default."""
    answer = Client(url).get(f"{_PATH}/stats", since=with_zone(since), until=with_zone(until))
    formats.show(answer, output, _show_stats)


def _show_stats(answer: dict[str, Any]) -> None:
    table.line(
        f"{answer['removals']} device(s) removed from {formats.clock(answer['since'])} "
        f"to {formats.clock(answer['until'])}"
    )
    if not answer["whole"]:
        table.line("Earlier removals are not counted: use --until for those.")
    removals = ("REMOVALS", value("removals"))
    for title in ("node", "network"):
        columns = (
            (title.upper(), lambda row: row["name"] or "?"),
            ("ID", lambda row: row["id"] or "no known network"),
            removals,
        )
        table.line("")
        table.table(columns, answer[f"{title}s"], empty=f"no removals on any {title}")
    table.line("")
    days = (("DAY (UTC)", value("day")), removals)
    table.table(days, answer["days"], empty="no removals on any day")


def with_zone(text: str | None) -> str | None:
    """Add this machine's time zone to a time without one, as the API needs it."""
    try:
        time = datetime.fromisoformat(text or "")
        return text if time.tzinfo is not None else time.astimezone().isoformat()
    except (ValueError, OverflowError):
        return text


def _refuse_options(context: typer.Context) -> None:
    """Refuse options of the listing before a subcommand, which would ignore them."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            option = parameter.opts[0]
            raise OperatorError(
                f"{option} must come after the subcommand",
                f"`vxctl audit {context.invoked_subcommand} {option} ...`",
            )


def _list(
    client: Client,
    filters: dict[str, Parameter | None],
    limit: int | None,
    output: audit_rows.Format,
) -> None:
    writer = audit_rows.writer(output, empty="no matching rows")
    cursor, empty_pages = None, 0
    while limit is None or limit > 0:
        size = _PAGE if limit is None else min(limit, _PAGE)
        page = client.get(_PATH, **filters, cursor=cursor, limit=size)
        writer.write(page["items"])
        if limit is not None:
            limit -= len(page["items"])
        cursor = page["next"]
        if cursor is None:
            break
        empty_pages = 0 if page["items"] else empty_pages + 1
        if empty_pages and empty_pages % _PROGRESS_PAGES == 0:
            back = formats.clock(page["searched_to"])
            sys.stderr.write(f"still searching; no more rows back to {back}\n")
    writer.end()


def _follow(
    client: Client,
    filters: dict[str, Parameter | None],
    bounds: dict[str, str | None],
    limit: int,
    output: audit_rows.Format,
) -> None:
    writer = audit_rows.writer(output, empty="")
    try:
        after = _write_latest(client, filters | bounds, limit, writer)
        away = False
        while True:
            try:
                page = client.get(_PATH, **filters, after=after, limit=_PAGE)
            except UnavailableError as error:
                if not away:
                    sys.stderr.write(printable(f"waiting: {error.problem}") + "\n")
                away = True
            else:
                away = False
                writer.write(page["items"])
                if page["after"] != after:
                    after = page["after"]
                    continue
            time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        return


def _write_latest(
    client: Client, filters: dict[str, Parameter | None], limit: int, writer: audit_rows.Writer
) -> int:
    """Print the latest rows, the oldest first; return the row to continue after."""
    latest: list[dict[str, Any]] = []
    cursor: str | None = None
    after: int | None = None
    while cursor is not None or after is None:
        page = client.get(_PATH, **filters, cursor=cursor, limit=min(limit - len(latest), _PAGE))
        after = page["after"] if after is None else after
        latest += page["items"]
        cursor = page["next"] if len(latest) < limit else None
    # What was stored meanwhile comes again after that row.
    writer.write([row for row in reversed(latest) if row["id"] <= after])
    return after
