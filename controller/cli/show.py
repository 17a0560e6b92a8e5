"""Showing answers: tables for people, JSON for programs."""

import json
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from contract.text import printable

_ROOMY: Final = 120
"""Columns of a terminal that all of a table fits into."""


class Output(StrEnum):
    """Forms of output."""

    TABLE = "table"
    JSON = "json"


class Listing(StrEnum):
    """Forms of a list."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"


def as_json(answer: Any) -> None:
    """Print an answer as it came."""
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str, fold: bool = True
) -> None:
    """Print rows under their columns; `empty` instead where there are none.

    Args:
        fold: fit a terminal's width, over several lines if need be.
    """
    if not rows:
        line(empty)
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(printable(cell)) for cell in row))
    # A pipe has no width: give every row one line there, for grep and awk.
    console = Console() if fold and sys.stdout.isatty() else Console(width=1000)
    console.print(shown)


def fields(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and what they are, below one another."""
    width = max(len(name) for name, _ in rows) + 2
    for name, words in rows:
        line(f"{name + ':':{width}}{words}")


def heading(words: str) -> None:
    """Print what the next lines are about."""
    line("")
    line(words)


def line(words: str) -> None:
    """Print one line."""
    sys.stdout.write(printable(words) + "\n")


def place(device: dict[str, Any]) -> str:
    """Where a device is, as a person finds it: the sandbox's file beside its number."""
    file = device["netns_file"]
    return str(device["place"]) if file is None else f"{device['place']} ({file})"


def short(text: str, most: int = 30) -> str:
    """A name that shall not push everything else off the screen, in at most so many cells."""
    text = printable(text)
    if cell_len(text) <= most:
        return text
    return set_cell_size(text, most - 1).rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def is_narrow() -> bool:
    """Whether a terminal has no room for all columns; a pipe always has."""
    return sys.stdout.isatty() and shutil.get_terminal_size().columns < _ROOMY


def ago(moment: str | None) -> str:
    """How long ago (or ahead) an ISO time is, as people say it."""
    if moment is None:
        return "-"
    seconds = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    size = abs(seconds)
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if size >= 2 * length:
            words = f"{size / length:.0f}{unit}"
            break
    else:
        words = f"{size:.0f}s"
    return f"{words} ago" if seconds >= 0 else f"in {words}"


def seconds_between(begin: str, end: str) -> float:
    """From one ISO time to another."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def clock(moment: str) -> str:
    """An ISO time in this machine's zone."""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def length(seconds: float) -> str:
    """How long something took, as people say it."""
    size = abs(seconds)
    if size < 1:
        words = f"{size * 1000:.0f} ms"
    elif size < 120:
        words = f"{size:.1f} s"
    elif size < 7200:
        words = f"{size / 60:.0f} min"
    else:
        words = f"{size / 3600:.0f} h"
    return words if seconds >= 0 else f"-{words}"
