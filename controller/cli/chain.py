"""The verbs about the audit trail as a hash chain: `verify` and `export`."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from contract.runtime.errors import OperatorError
from controller.audit import archive
from controller.audit.chain import ChainPosition, Fault, Finding
from controller.cli.client import Client
from controller.cli.options import DEFAULT_URL, Output, OutputOption, Url
from controller.cli.output import formats, table

_BROKEN = 1
"""Exit status: the chain is broken."""

_MAX_LAST_LINE_BYTES = 1_000


def verify(
    expect: Annotated[
        list[str] | None,
        typer.Option(
            metavar="POSITION:HASH", help="A head kept elsewhere, which must still be in the chain."
        ),
    ] = None,
    from_archive: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="An archive of the retention or of `export`; its rows come first."
        ),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Check only the files, without a controller.")
    ] = False,
    url: Url = DEFAULT_URL,
    output: OutputOption = "table",
) -> None:
    """Check that the audit trail was not edited. Exit status 1: it was."""
    kept, files = _positions(expect or ()), from_archive or []
    if offline and not files:
        raise OperatorError("there is nothing to check", "give files with --from-archive")
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
        raise typer.Exit(_BROKEN)


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
    """Write the audit trail to standard output, as JSON lines that `verify` can check."""
    stream = Client(url).stream("/api/v1/audit/export", after=after, since=since, until=until)
    lines, tail = 0, b""
    for chunk in stream:
        sys.stdout.buffer.write(chunk)
        lines += chunk.count(b"\n")
        tail = (tail + chunk)[-_MAX_LAST_LINE_BYTES:]
    sys.stdout.buffer.flush()
    try:
        rows = json.loads(tail.splitlines()[-1])["rows"]
    except (ValueError, KeyError, TypeError, IndexError):
        rows = None
    if rows != lines - 2:
        raise OperatorError(
            f"the export was cut short after {max(lines - 1, 0)} rows", "export again"
        )


def _positions(texts: Sequence[str]) -> list[ChainPosition]:
    try:
        return [ChainPosition.parse(text) for text in texts]
    except ValueError as error:
        raise OperatorError(f"--expect {error}", "copy all of it") from error


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
    checked, reached = 0, None
    while True:
        answer = client.get("/api/v1/audit/verify", after=reached, expect=list(map(str, expected)))
        checked += answer["checked"]
        reached = answer["reached"]
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{checked} rows checked, the head is {answer['head']:.40}...")
        if answer["done"]:
            break
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    found = answer["finding"]
    finding = None if found is None else Finding(**{**found, "fault": Fault(found["fault"])})
    return checked, ChainPosition.parse(reached), finding


def _show(checked: int, end: ChainPosition | None, finding: Finding | None, output: Output) -> None:
    if output == "json":
        answer: dict[str, Any] = {
            "intact": finding is None,
            "checked": checked,
            "head": str(end),
            "finding": None if finding is None else asdict(finding),
        }
        formats.as_json(answer)
        return
    if finding is None:
        table.line(f"intact: {checked} rows, unchanged since they were stored")
        table.line(f"head: {end}")
        table.line("Keep the head elsewhere: `--expect` checks later that nothing was rewritten.")
        return
    row = "" if finding.id is None else f", row id {finding.id}"
    table.line(f"BROKEN at position {finding.position}{row}: {finding.fault.value}")
    table.line(finding.detail)
    table.line(f"The {checked} rows before it are unchanged.")
