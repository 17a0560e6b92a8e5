"""Showing answers: tables for people, JSON for programs."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


class Output(StrEnum):
    """Forms of output."""

    TABLE = "table"
    JSON = "json"


def as_json(answer: Any) -> None:
    """Print an answer as it came."""
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    """Print rows under their columns; `empty` instead where there are none."""
    if not rows:
        line(empty)
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(printable(cell)) for cell in row))
    # A pipe has no width: give every row one line there, for grep and awk.
    console = Console() if sys.stdout.isatty() else Console(width=1000)
    console.print(shown)


def line(words: str) -> None:
    """Print one line."""
    sys.stdout.write(printable(words) + "\n")


def printable(text: str) -> str:
    """Text that cannot drive a terminal: names come from elsewhere."""
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)


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


def clock(moment: str) -> str:
    """An ISO time in this machine's zone."""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
