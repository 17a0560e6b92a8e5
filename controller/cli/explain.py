"""The verb `vxctl explain`: the meaning of error texts."""

import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from contract.runtime.errors import OperatorError, UsageError, print_error
from contract.runtime.exit_status import ExitStatus
from contract.runtime.text import printable
from controller.cli.client import Client
from controller.cli.options import DEFAULT_URL, Output, Url
from controller.cli.output import formats, table
from controller.cli.output.structured import FAULT

MAX_BYTES: Final = 32 * 2**20
"""Of all that is read. A log of weeks has less."""
_STDIN: Final = "-"
_MIN_WIDTH: Final = 40
_NOTHING: Final = (
    "give an error line (`vxctl explain ERROR LINE`), a file (`-f FILE`), or a log on standard input "
    "(`journalctl -u docker | vxctl explain`)"
)


def explain(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ERROR LINE | -",
            help="An error of Docker or Swarm, or the name of a device, with or without quotes; -: read "
            "standard input, as also without any argument.",
        ),
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option("--file", "-f", metavar="FILE", help="Read a file; - is standard input."),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no controller: say what the text alone says.")
    ] = False,
    url: Url = DEFAULT_URL,
    output: Output = "table",
) -> None:
    from controller.explain.offline import explain_offline, shortened

    now = datetime.now(UTC)
    given = _given(words or [], file or [])
    if not given.strip():
        raise UsageError("there is nothing to explain", _NOTHING)
    text = shortened(given, now)
    if len(text) < len(given) and text:
        table.note(
            f"note: the text is long ({given.count(chr(10)) + 1:,} lines): only the newest "
            f"{text.count(chr(10)) + 1:,} with a fault are explained, and counted from 1"
        )
    reason = None
    if offline:
        answer = explain_offline(text or " ", now)
    else:
        try:
            answer = Client(url).post("explain", body={"text": text or " "})
        except UsageError:
            raise
        except OperatorError as error:
            answer, reason = explain_offline(text or " ", now), error
    formats.show(answer, output, _show, kind=FAULT, rows="findings")
    if offline and output in formats.TEXT:
        table.note("note: no controller was asked: who holds the VNI is not known")
    if reason is not None:
        sys.stdout.flush()
        problem = f"no controller was asked, so who holds the VNI is not known: {reason.problem}"
        print_error(OperatorError(problem, f"{reason.hint}; --offline asks none"))
        raise typer.Exit(ExitStatus.ERROR)


def _given(words: Sequence[str], files: Sequence[Path]) -> str:
    """Return the text of arguments, files and standard input, in this order.

    Raises:
        UsageError: a file cannot be read, or there is too much.
    """
    text = " ".join(word for word in words if word != _STDIN)
    parts = [text] if text else []
    parts += [_read(path) for path in files]
    if _STDIN in words and sys.stdin.isatty():
        sys.stderr.write("note: reads the terminal: paste the text, then press Enter and Ctrl-D\n")
    if _STDIN in words or (not parts and not sys.stdin.isatty()):
        parts.append(_decoded(sys.stdin.buffer.read(MAX_BYTES + 1), "standard input"))
    return "\n".join(parts)


def _read(path: Path) -> str:
    if str(path) == _STDIN:
        return _decoded(sys.stdin.buffer.read(MAX_BYTES + 1), "standard input")
    try:
        with path.open("rb") as file:
            return _decoded(file.read(MAX_BYTES + 1), str(path))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{path} cannot be read: {why}", "give the name of a text file") from error


def _decoded(data: bytes, name: str) -> str:
    if len(data) > MAX_BYTES:
        raise UsageError(
            f"{name} has more than {MAX_BYTES // 2**20} MiB",
            "give less, for example `journalctl -u docker --since -1day | vxctl explain`",
        )
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # As PowerShell writes.
        return data.decode("utf-16", "replace")
    return data.decode("utf-8", "replace")


def _show(answer: dict[str, Any]) -> None:
    findings = answer["findings"]
    if not findings:
        _paragraph(answer["meaning"])
        for line in _subjects(answer):
            table.line(line)
        _todo(answer["advice"])
    for number, found in enumerate(findings):
        if number:
            table.line("")
        _show_finding(found, answer["lines"])
    if answer["more_findings"]:
        table.line("", f"... and {answer['more_findings']} more")


def _show_finding(found: dict[str, Any], lines: int) -> None:
    probably = "" if found["certain"] else "Probably: "
    title = found["title"] if probably else found["title"][0].upper() + found["title"][1:]
    _paragraph(f"{probably}{title}")
    if found["count"] > 1 or lines > found["count"]:
        table.line(*_lines(found))
    _paragraph(found["cause"], "  ")
    for line in _subjects(found):
        table.line(f"  {line}")
    for on_node in found["on_nodes"]:
        _show_on_node(on_node)
    if not found["on_nodes"]:
        for text in found["look_for"]:
            _paragraph(f"Look for: {text}", "  ")
    _todo(found["missing"] if found["on_nodes"] else [*found["missing"], *found["cure"]])
    for link in found["links"]:
        table.line(f"  See {link}")


def _lines(found: dict[str, Any]) -> Iterator[str]:
    times = [formats.clock(found[name])[:19] for name in ("first_at", "last_at") if found[name]]
    when = f", {' to '.join(dict.fromkeys(times))}" if times else ""
    when += "" if found["exact"] or not times else " at the latest"
    count = "1 line" if found["count"] == 1 else f"{found['count']} lines, the last"
    yield f"  {count} (line {found['line']}){when}:"
    yield f"    {formats.short(found['quote'])}" if sys.stdout.isatty() else f"    {found['quote']}"


def _subjects(answer: dict[str, Any]) -> Iterator[str]:
    for kind in ("nodes", "networks"):
        if answer[kind]:
            names = ", ".join(
                formats.short(row["name"]) + (f" ({row['id']})" if row["id"] else "")
                for row in answer[kind]
            )
            noun = kind if len(answer[kind]) > 1 else kind[:-1]
            yield f"It is about {noun} {names}."
    if answer.get("subnet") or answer.get("vnis"):
        vnis = ", ".join(
            f"{vni} (vx-{vni:06x}-...)" if not answer["device"] else f"{vni}"
            for vni in answer["vnis"]
        )
        parts = [
            f"subnet {answer['subnet']}" if answer["subnet"] else "",
            f"VNI {vnis}" if vnis else "",
        ]
        known = ", ".join(filter(None, parts))
        yield known[0].upper() + known[1:] + "."


def _show_on_node(on_node: dict[str, Any]) -> None:
    looked = (
        "never looked at" if on_node["looked_at"] is None else formats.ago(on_node["looked_at"])
    )
    if on_node["looked_at"] is not None:
        looked = f"looked at {looked}"
    table.line("", f"  On node {formats.short(on_node['node']['name'])} ({looked})")
    if on_node["verdict"]:
        _paragraph(on_node["verdict"], "    ")
    for row in on_node["done"]:
        _paragraph(
            f"{formats.clock(row['at'])} {formats.short(row['name'])}: {row['stage']}: {row['reason']}",
            "    ",
        )
    for sentence in on_node["outlook"]:
        _paragraph(sentence, "    ")
    if on_node["by_hand"]:
        table.line("    By hand, on the node, as root:")
        table.line(*(f"      {command}" for command in on_node["by_hand"]))
    if on_node["state"] in ("unseen", "unknown"):
        for text in on_node["look_for"]:
            _paragraph(f"Look for: {text}", "    ")


def _todo(sentences: Iterable[str]) -> None:
    given = list(sentences)
    if given:
        table.line("", "  What to do")
    for sentence in given:
        _paragraph(sentence, "    ")


def _paragraph(text: str, indent: str = "") -> None:
    """Print a paragraph; on a terminal in lines as wide as it is."""
    text = printable(text)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    if width < _MIN_WIDTH:
        table.line(indent + text)
        return
    table.line(
        *textwrap.wrap(
            text,
            width - 1,
            initial_indent=indent,
            subsequent_indent=f"{indent}  ",
            break_on_hyphens=False,
            break_long_words=False,
        )
    )
