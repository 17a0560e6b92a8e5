"""The verbs about the audit trail: listing and following it, a run's timeline, counts."""

import sys
import time
from datetime import datetime
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from contract.runtime.errors import OperatorError
from contract.runtime.text import printable
from contract.verdicts import Stage, Urgency, Verdict
from controller.cli import chain
from controller.cli.client import Client, Parameter, UnavailableError
from controller.cli.options import DEFAULT_URL, Form, Url
from controller.cli.output import audit_rows, formats, table, timeline
from controller.cli.output.formats import Output

_PATH: Final = "/api/v1/audit"
_PAGE: Final = 1000
_POLL_SECONDS: Final = 1.0
_TELL_EVERY: Final = 50
"""Say how far the search is after so many pages without a row."""

Since = Annotated[
    str | None, typer.Option(help="From then on: 90s, 15m, 2h, 7d ago, a day, or an ISO 8601 time.")
]
Until = Annotated[str | None, typer.Option(help="Before then.")]


def install(app: typer.Typer) -> None:
    """Add the verbs: `audit` alone lists."""
    group = typer.Typer(invoke_without_command=True)
    group.callback()(audit)
    group.command("show")(show_timeline)
    group.command()(stats)
    chain.install(group)
    app.add_typer(group, name="audit")


def audit(
    context: typer.Context,
    node: Annotated[
        str | None, typer.Option(help="Id, unique id prefix or hostname; also of one that is gone.")
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="Id, unique id prefix or name; also of one that is gone.")
    ] = None,
    vni: Annotated[int | None, typer.Option(min=0, max=2**24 - 1)] = None,
    device: Annotated[str | None, typer.Option(help="NAME or NAME#IFINDEX.")] = None,
    stage: Annotated[
        list[Stage] | None, typer.Option(help="What happened; may be repeated.")
    ] = None,
    verdict: Annotated[Verdict | None, typer.Option(help="How the device was judged.")] = None,
    urgency: Annotated[Urgency | None, typer.Option(help="How much an orphan hurt.")] = None,
    actor: Annotated[str | None, typer.Option(help="On whose word.")] = None,
    run: Annotated[str | None, typer.Option(help="Id of a run, or how it begins.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many rows at most.")] = 50,
    every: Annotated[bool, typer.Option("--all", help="All rows, however many.")] = False,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", "-f", help="Then go on with whatever is stored, also if it happened before."
        ),
    ] = False,
    url: Url = DEFAULT_URL,
    output: Annotated[
        audit_rows.Form, typer.Option("--output", "-o", help="Form of output.")
    ] = audit_rows.Form.TABLE,
) -> None:
    """Show what was found, done and decided, the newest first."""
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    if follow and (every or until is not None):
        raise OperatorError("--follow has no end", "leave out --all and --until")
    if follow and output is audit_rows.Form.JSON:
        raise OperatorError("a JSON list would never end with --follow", "give -o jsonl")
    question: dict[str, Parameter | None] = {
        "node": node,
        "network": network,
        "vni": vni,
        "device": device,
        "stage": None if not stage else [each.value for each in stage],
        "verdict": verdict,
        "urgency": urgency,
        "actor": actor,
        "run": run,
    }
    bounds = {"since": sent(since), "until": sent(until)}
    client = Client(url)
    if follow:
        _follow(client, question, bounds, limit, output)
    else:
        _list(client, question | bounds, None if every else limit, output)


def show_timeline(
    id: Annotated[  # noqa: A002 -- what the help shows
        str, typer.Argument(help="Id of an audit row, or of a run, or how a run's begins.")
    ],
    url: Url = DEFAULT_URL,
    output: Form = Output.TABLE,
) -> None:
    """Show the timeline of a run: who asked, what was found, what was done."""
    answer = Client(url).get(f"{_PATH}/{quote(id, safe='')}/timeline")
    if output is Output.JSON:
        formats.as_json(answer)
        return
    for line in timeline.tell(answer):
        table.line(line)


def stats(
    since: Since = None, until: Until = None, url: Url = DEFAULT_URL, output: Form = Output.TABLE
) -> None:
    """Count removals by node, network and day: of the last 30 days, unless told."""
    answer = Client(url).get(f"{_PATH}/stats", since=sent(since), until=sent(until))
    if output is Output.JSON:
        formats.as_json(answer)
        return
    table.line(
        f"{answer['removals']} device(s) removed from {formats.clock(answer['since'])} "
        f"to {formats.clock(answer['until'])}"
    )
    if not answer["whole"]:
        table.line("There were more before; ask with --until for those.")
    for title in ("node", "network"):
        table.line("")
        table.table(
            (title.upper(), "ID", "REMOVALS"),
            [
                (each["name"] or "?", each["id"] or "no known network", str(each["removals"]))
                for each in answer[f"{title}s"]
            ],
            empty=f"nothing was removed, so there is no {title} to name",
        )
    table.line("")
    table.table(
        ("DAY (UTC)", "REMOVALS"),
        [(each["day"], str(each["removals"])) for each in answer["days"]],
        empty="nor a day",
    )


def sent(text: str | None) -> str | None:
    """A time as the API takes it: one without a zone is meant in this machine's."""
    try:
        moment = datetime.fromisoformat(text or "")
        return text if moment.tzinfo is not None else moment.astimezone().isoformat()
    except (ValueError, OverflowError):
        return text


def _refuse_options(context: typer.Context) -> None:
    """Options of the listing before another verb would be ignored."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            raise OperatorError(
                f"{parameter.opts[0]} must come after the subcommand",
                f"`vxctl audit {context.invoked_subcommand} {parameter.opts[0]} ...`",
            )


def _list(
    client: Client,
    question: dict[str, Parameter | None],
    limit: int | None,
    output: audit_rows.Form,
) -> None:
    writer = audit_rows.writer(output, empty="nothing that matches was found or done")
    cursor, fruitless = None, 0
    while limit is None or limit > 0:
        wanted = _PAGE if limit is None else min(limit, _PAGE)
        page = client.get(_PATH, **question, cursor=cursor, limit=wanted)
        writer.write(page["items"])
        if limit is not None:
            limit -= len(page["items"])
        cursor = page["next"]
        if cursor is None:
            break
        fruitless = 0 if page["items"] else fruitless + 1
        if fruitless and fruitless % _TELL_EVERY == 0:
            back = formats.clock(page["searched_to"])
            sys.stderr.write(f"still searching; nothing more back to {back}\n")
    writer.end()


def _follow(
    client: Client,
    question: dict[str, Parameter | None],
    bounds: dict[str, str | None],
    limit: int,
    output: audit_rows.Form,
) -> None:
    writer = audit_rows.writer(output, empty="")
    try:
        after = _write_latest(client, question | bounds, limit, writer)
        away = False
        while True:
            try:
                page = client.get(_PATH, **question, after=after, limit=_PAGE)
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
    client: Client, question: dict[str, Parameter | None], limit: int, writer: audit_rows.Writer
) -> int:
    """Print what is there, the oldest first; return after which row to go on."""
    latest: list[dict[str, Any]] = []
    cursor: str | None = None
    after: int | None = None
    while cursor is not None or after is None:
        page = client.get(_PATH, **question, cursor=cursor, limit=min(limit - len(latest), _PAGE))
        after = page["after"] if after is None else after
        latest += page["items"]
        cursor = page["next"] if len(latest) < limit else None
    # What was stored while we asked comes again by going on.
    writer.write([row for row in reversed(latest) if row["id"] <= after])
    return after
