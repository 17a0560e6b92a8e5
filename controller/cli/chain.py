"""The verbs about the audit trail as a hash chain: `verify` and `export`."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from contract.runtime.errors import OperatorError, UsageError
from contract.runtime.exit_status import ExitStatus
from controller.audit import archive
from controller.audit.chain import ChainPosition, Fault, Finding
from controller.cli.client import Client
from controller.cli.options import DEFAULT_URL, Output, Url
from controller.cli.output import formats, structured, table
from controller.cli.period import period

_MAX_LAST_LINE_BYTES = 1_000


def verify(
    expect: Annotated[
        list[str] | None,
        typer.Option(metavar="POSITION:HASH", help="Head kept earlier; it must be in the chain."),
    ] = None,
    from_archive: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Archive of the retention or `export`, checked first."),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Check only the files, without a controller.")
    ] = False,
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    files = from_archive or []
    try:
        kept = [ChainPosition.parse(text) for text in expect or ()]
    except ValueError as error:
        raise UsageError(f"--expect {error}", "copy all of it") from error
    if offline and not files:
        raise UsageError("there is nothing to check", "give files with --from-archive")
    checked, end, finding = 0, None, None
    if files:
        end, checked, finding = archive.check(files, kept)
        if finding is None and offline:
            finding = _beyond(kept, end)
    if finding is None and not offline:
        # The controller's rows must continue the chain of the files: so their end is expected, too.
        later = [mark for mark in kept if end is None or mark.position > end.position]
        rows, end, finding = _ask(Client(url), later if end is None else [*later, end])
        checked += rows
    _show(checked, end, finding, output)
    if finding is not None:
        raise typer.Exit(ExitStatus.NO)


def export(
    after: Annotated[
        str | None,
        typer.Option(metavar="POSITION:HASH", help="Head at the end of an earlier export."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Start by time of storing, as ISO 8601.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="End (exclusive) by time of storing.")
    ] = None,
    url: Url = DEFAULT_URL,
) -> None:
    stream = Client(url).stream("audit", "export", after=after, **period(since, until))
    lines, tail = 0, b""
    for chunk in stream:
        sys.stdout.buffer.write(chunk)
        lines += chunk.count(b"\n")
        if not sys.stdout.isatty():  # The rows themselves show it there.
            table.progress(f"{max(lines - 1, 0)} rows exported...")
        tail = (tail + chunk)[-_MAX_LAST_LINE_BYTES:]
    sys.stdout.buffer.flush()
    if not sys.stdout.isatty():
        table.progress("")
    try:
        rows = json.loads(tail.splitlines()[-1])["rows"]
    except (ValueError, KeyError, TypeError, IndexError):
        rows = None
    if rows != lines - 2:
        raise OperatorError(
            f"the export was cut short after {max(lines - 1, 0)} rows", "export again"
        )


def _beyond(kept: Iterable[ChainPosition], end: ChainPosition) -> Finding | None:
    last = max(kept, default=end)
    if last.position <= end.position:
        return None
    detail = f"position {last.position} was kept elsewhere, and the files end at {end.position}"
    return Finding(Fault.MISSING, end.position + 1, None, detail)


def _ask(
    client: Client, expected: Sequence[ChainPosition]
) -> tuple[int, ChainPosition, Finding | None]:
    """Have the controller check its chain in parts; show the progress on a terminal."""
    checked, marks = 0, list(map(str, expected))
    answer: dict[str, Any] = {"done": False, "reached": None}
    while not answer["done"]:
        answer = client.get("audit", "verify", after=answer["reached"], expect=marks)
        checked += answer["checked"]
        table.progress(f"{checked} rows checked, the head is {answer['head']:.40}...")
    table.progress("")
    found = answer["finding"]
    finding = None if found is None else Finding(**found | {"fault": Fault(found["fault"])})
    return checked, ChainPosition.parse(answer["reached"]), finding


def _show(checked: int, end: ChainPosition | None, finding: Finding | None, output: str) -> None:
    if output not in formats.TEXT:
        found = None if finding is None else asdict(finding)
        intact = finding is None
        answer = {"intact": intact, "checked": checked, "head": str(end), "finding": found}
        structured.write(answer, output, None)
    elif finding is None:
        table.line(
            f"intact: {checked} rows, unchanged since they were stored",
            f"head: {end}",
            "Keep the head elsewhere: `--expect` checks later that nothing was rewritten.",
        )
    else:
        row = "" if finding.id is None else f", row id {finding.id}"
        table.line(
            f"BROKEN at position {finding.position}{row}: {finding.fault}",
            finding.detail,
            f"The {checked} rows before it are unchanged.",
        )
