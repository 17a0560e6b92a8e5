"""The verbs about the audit trail as a chain: verify, export."""

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
from controller.cli.options import DEFAULT_URL, Form, Url
from controller.cli.output import formats, table
from controller.cli.output.formats import Output

_BROKEN = 1
"""The exit status of a check that found something wrong."""

_LAST_LINE = 1_000
"""Longer than the last line of any export."""


def install(group: typer.Typer) -> None:
    """Add the verbs."""
    group.command()(verify)
    group.command()(export)


def verify(
    expect: Annotated[
        list[str] | None,
        typer.Option(help="POSITION:HASH that was kept elsewhere: must still be in the chain."),
    ] = None,
    from_archive: Annotated[
        list[Path] | None,
        typer.Option(help="A file of the retention or of `export`; its rows come first."),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Check the files alone, and ask no controller.")
    ] = False,
    url: Url = DEFAULT_URL,
    output: Form = Output.TABLE,
) -> None:
    """Check that nobody has edited the audit trail; exits with 1 if somebody has."""
    kept, files = _marks(expect or ()), from_archive or []
    if offline and not files:
        raise OperatorError("there is nothing to check", "give files with --from-archive")
    checked, end, finding = 0, None, None
    if files:
        end, checked, finding = archive.check(files, kept)
        if finding is None and offline:
            finding = _beyond(kept, end)
    if finding is None and not offline:
        # The rows behind the files must be those of the same chain: so their end is expected, too.
        behind = [each for each in kept if end is None or each.position > end.position]
        expected = behind if end is None else [*behind, end]
        rows, end, finding = _ask(Client(url), expected)
        checked += rows
    _tell(checked, end, finding, output)
    if finding is not None:
        raise typer.Exit(_BROKEN)


def export(
    after: Annotated[
        str | None, typer.Option(help="POSITION:HASH: the `head` at the end of an earlier export.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Only what was stored then or later.")] = None,
    until: Annotated[str | None, typer.Option(help="Only what was stored before then.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Write the whole audit trail to standard output, as JSON lines that `verify` can check."""
    stream = Client(url).stream("/api/v1/audit/export", after=after, since=since, until=until)
    lines, tail = 0, b""
    for piece in stream:
        sys.stdout.buffer.write(piece)
        lines += piece.count(b"\n")
        tail = (tail + piece)[-_LAST_LINE:]
    sys.stdout.buffer.flush()
    try:
        told = json.loads(tail.splitlines()[-1])["rows"]
    except (ValueError, KeyError, TypeError, IndexError):
        told = None
    if told != lines - 2:
        raise OperatorError(
            f"the export was cut short after {max(lines - 1, 0)} rows", "export again"
        )


def _marks(texts: Sequence[str]) -> list[ChainPosition]:
    try:
        return [ChainPosition.parse(each) for each in texts]
    except ValueError as error:
        raise OperatorError(f"--expect {error}", "copy it whole") from error


def _beyond(kept: Iterable[ChainPosition], end: ChainPosition) -> Finding | None:
    last = max(kept, default=end)
    if last.position <= end.position:
        return None
    words = f"position {last.position} was kept elsewhere, and the files end at {end.position}"
    return Finding(Fault.MISSING, end.position + 1, None, words)


def _ask(
    client: Client, expected: Sequence[ChainPosition]
) -> tuple[int, ChainPosition, Finding | None]:
    """Let the controller check its chain, a piece at a time; tell the progress to whoever watches."""
    checked, reached = 0, None
    while True:
        answer = client.get(
            "/api/v1/audit/verify", after=reached, expect=[str(each) for each in expected]
        )
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


def _tell(checked: int, end: ChainPosition | None, finding: Finding | None, output: Output) -> None:
    if output is Output.JSON:
        answer: dict[str, Any] = {
            "intact": finding is None,
            "checked": checked,
            "head": str(end),
            "finding": None if finding is None else asdict(finding),
        }
        formats.as_json(answer)
        return
    if finding is None:
        table.line(f"intact: {checked} rows, each as it was stored")
        table.line(f"head: {end}")
        table.line("Keep the head elsewhere: `--expect` shows later that nothing was rewritten.")
        return
    row = "" if finding.id is None else f", row id {finding.id}"
    table.line(f"BROKEN at position {finding.position}{row}: {finding.fault.value}")
    table.line(finding.detail)
    table.line(f"The {checked} rows before it are as they were stored.")
