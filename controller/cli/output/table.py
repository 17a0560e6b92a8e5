"""Showing answers: tables for people, JSON for programs."""

import shutil
import sys
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from contract.runtime.text import printable

_ROOMY: Final = 120
"""Columns of a terminal that all of a table fits into."""


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


def is_narrow() -> bool:
    """Whether a terminal has no room for all columns; a pipe always has."""
    return sys.stdout.isatty() and shutil.get_terminal_size().columns < _ROOMY
