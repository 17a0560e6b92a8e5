"""Tables, fields and lines for people; every text is made printable."""

import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from contract.runtime.text import printable

Row = dict[str, Any]
Columns = Sequence[tuple[str, Callable[[Any], str]]]
"""Headings, and the function that makes a row's cell under the heading."""

_WIDE: Final = 120
"""Columns of a terminal that has room for all of a table."""


def table(columns: Columns, rows: Iterable[Any], *, empty: str, fold: bool = True) -> None:
    """Print rows under their headings; `empty` if there are none.

    Args:
        fold: wrap cells to fit the terminal's width.
    """
    cells = [[Text(printable(cell(row))) for _, cell in columns] for row in rows]
    if not cells:
        line(empty)
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for heading, _ in columns:
        shown.add_column(heading, overflow="fold")
    for row in cells:
        shown.add_row(*row)
    # A pipe has no width: one line per row there, for grep and awk.
    console = Console() if fold and sys.stdout.isatty() else Console(width=1000)
    console.print(shown)


def section(title: str, columns: Columns, rows: Iterable[Any], *, empty: str = "none") -> None:
    """Print a table below a blank line and its title."""
    line("", title)
    table(columns, rows, empty=empty)


def fields(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and values, aligned."""
    width = max(len(name) for name, _ in rows) + 2
    for name, value in rows:
        line(f"{name + ':':{width}}{value}")


def line(*texts: str) -> None:
    """Print each text on a line of its own."""
    for text in texts:
        sys.stdout.write(printable(text) + "\n")


def is_narrow() -> bool:
    """Whether standard output is a terminal without room for all columns."""
    return sys.stdout.isatty() and shutil.get_terminal_size().columns < _WIDE
