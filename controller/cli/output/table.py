"""Tables, fields and lines for people; every text is made printable, and a table fits its terminal."""

import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from contract.runtime.text import printable
from controller.cli.output import colours, style, widths

Row = dict[str, Any]
Columns = Sequence[tuple[str, Callable[[Any], str]]]
"""Headings, and the function that makes a row's cell under the heading."""

_WIDE: Final = 120
"""Columns of a terminal that has room for all of a table."""
_GAP: Final = "  "
_WHOLE: Final = frozenset({"ID", "RUN", "NODE ID", "NETWORK ID", "TIME", "AGE", "VNI"})
"""Headings of columns that are never cut: half an id, time or number is none."""
_CLEAR_LINE: Final = "\r\x1b[K"
_PROGRESS_CELLS: Final = 78
_MIN_CELLS: Final = 6
"""Cells that a column keeps when others need room."""
_DEVICE_CELLS: Final = len("vx-001001-abcde#12345")
"""Of a device, whose name is to be pasted into other commands."""


def table(
    columns: Columns, rows: Iterable[Any], *, empty: str, fold: bool = True, prose: bool = False
) -> None:
    """Print rows under their headings; `empty` if there are none.

    On a terminal the longest cells are cut, with `…`, until a row fits. A pipe has no width: one line per
    row there, for grep and awk, and nothing is cut.

    Args:
        fold: fit the terminal's width; False shows all, whatever the terminal makes of it.
        prose: wrap the last column under its heading instead of cutting it.
    """
    cells = [[printable(cell(row)) for _, cell in columns] for row in rows]
    if not cells:
        line(empty)
        return
    titles = [heading for heading, _ in columns]
    sizes = [max(map(widths.cells, column)) for column in zip(titles, *cells, strict=True)]
    rows_of_cells(titles, cells, sizes, headings=True, fold=fold, prose=prose)


class GrowingTable:
    """A table whose rows come bit by bit: a column grows with its widest cell so far.

    Args:
        fold, prose: as of `table`.
    """

    def __init__(self, columns: Columns, *, fold: bool, prose: bool = False) -> None:
        self._columns = columns
        self._style = {"fold": fold, "prose": prose and fold}
        self._titles = [heading for heading, _ in columns]
        self._sizes = list(map(widths.cells, self._titles))
        self._begun = False

    def cells(self, row: Any) -> list[str]:
        """Return the printable cells of a row."""
        return [printable(cell(row)) for _, cell in self._columns]

    def print(self, rows: Sequence[Sequence[str]]) -> None:
        """Print rows of printable cells."""
        if rows:
            sizes = (self._sizes, *(map(widths.cells, row) for row in rows))
            self._sizes = [max(column) for column in zip(*sizes, strict=True)]
            headings = not self._begun
            rows_of_cells(self._titles, rows, self._sizes, headings=headings, **self._style)
            self._begun = True


def rows_of_cells(
    titles: Sequence[str],
    cells: Sequence[Sequence[str]],
    sizes: Sequence[int],
    *,
    headings: bool,
    fold: bool,
    prose: bool = False,
) -> None:
    """Print printable cells in columns of these widths; as `table` for `fold` and `prose`.

    Args:
        headings: whether the titles come first, if the style has headings.
    """
    fits = fold and sys.stdout.isatty()
    if fits:
        sizes = _fit(titles, sizes, shutil.get_terminal_size().columns, prose=prose)
    if headings and style.current().headings:
        _print(titles, titles, sizes, is_heading=True, prose=False)
    for row in cells:
        _print(titles, row, sizes, is_heading=False, prose=prose and fits)


def _fit(headings: Sequence[str], sizes: Sequence[int], width: int, *, prose: bool) -> list[int]:
    """Return the widths of columns such that a row fits: what is longest gives way first."""
    fitted = list(sizes)
    least = [
        size
        if heading in _WHOLE
        else min(size, max(_DEVICE_CELLS if heading == "DEVICE" else _MIN_CELLS, len(heading)))
        for heading, size in zip(headings, sizes, strict=True)
    ]
    excess = sum(fitted) + len(_GAP) * (len(fitted) - 1) - width
    if (
        prose and excess > 0
    ):  # Prose has lines enough; it keeps a third of the terminal, an id's length.
        given = min(excess, fitted[-1] - min(fitted[-1], width // 3))
        fitted[-1] -= given
        excess -= given
        least[-1] = fitted[-1]
    while excess > 0:
        spare = [size - low for size, low in zip(fitted, least, strict=True)]
        longest = max(range(len(fitted)), key=lambda at: (spare[at] > 0, fitted[at]))
        if spare[longest] <= 0:
            break
        fitted[longest] -= 1
        excess -= 1
    return fitted


def _print(
    headings: Sequence[str],
    row: Sequence[str],
    sizes: Sequence[int],
    *,
    is_heading: bool,
    prose: bool,
) -> None:
    *cut, last = [(text, size) for text, size in zip(row, sizes, strict=True)]
    shown = [widths.cut(text, size) for text, size in cut]
    lines = widths.wrap(*last) if prose else [widths.cut(*last)]
    shown.append(lines[0])
    painted = [
        colours.heading(text) if is_heading else colours.cell(heading, text)
        for heading, text in zip(headings, shown, strict=True)
    ]
    padded = [
        paint + " " * (size - widths.cells(text))
        for paint, text, size in zip(painted[:-1], shown[:-1], sizes[:-1], strict=True)
    ]
    sys.stdout.write(_GAP.join([*padded, painted[-1]]).rstrip() + "\n")
    indent = " " * (sum(sizes[:-1]) + len(_GAP) * (len(sizes) - 1))
    for more in lines[1:]:
        sys.stdout.write(f"{indent}{more}\n")


def section(title: str, columns: Columns, rows: Iterable[Any], *, empty: str = "none") -> None:
    """Print a table below a blank line and its title; its last column wraps, as nothing is to be missed."""
    line("", title)
    table(columns, rows, empty=empty, prose=True)


def fields(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and values, aligned."""
    width = max(len(name) for name, _ in rows) + 2
    for name, value in rows:
        line(f"{name + ':':{width}}{value}")


def line(*texts: str) -> None:
    """Print each text on a line of its own."""
    for text in texts:
        sys.stdout.write(printable(text) + "\n")


def painted_line(painted: str, rest: str) -> None:
    """Print a line whose first words, which are ours, have colours."""
    sys.stdout.write(painted + printable(rest) + "\n")


def note(text: str) -> None:
    """Print a line about the output to standard error, after what is printed already."""
    sys.stdout.flush()
    sys.stderr.write(printable(text) + "\n")


def progress(text: str) -> None:
    """Show on a terminal how far a verb is, in place of the last such text; "": nothing."""
    if sys.stderr.isatty():
        sys.stderr.write(_CLEAR_LINE + widths.cut(printable(text), _PROGRESS_CELLS))
        sys.stderr.flush()


def is_narrow() -> bool:
    """Whether standard output is a terminal without room for all columns."""
    return sys.stdout.isatty() and shutil.get_terminal_size().columns < _WIDE
