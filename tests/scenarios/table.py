"""Tables of a scenario: reading the expected one, comparing it with the actual one, writing that.

The first line names columns, each other line is a row. Cells are two spaces or more apart, so a cell may have
single spaces in it. `-` is an empty cell, `~ some words` one that contains these words (with ` ... ` between
words: these, and later those), and a table without rows has the line `(none)`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from tests.scenarios.errors import ScenarioError

NONE: Final = "(none)"
EMPTY: Final = "-"
INDENT: Final = "    "

Row = Mapping[str, str]
"""A row of an actual table: each of its columns to the cell's text; empty text for nothing."""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns, and rows with a cell for each of them."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @classmethod
    def read(cls, lines: Sequence[str]) -> "Table":
        """Read the lines of an expected table."""
        if not lines:
            raise ScenarioError("a table is missing: indent it below this line")
        columns, *rows = (tuple(re.split(r"\s{2,}", line.strip())) for line in lines)
        if not rows:
            raise ScenarioError(f"the table has no rows; where there are none, write {NONE}")
        if rows == [(NONE,)]:
            return cls(columns, ())
        for row in rows:
            if len(row) != len(columns):
                raise ScenarioError(
                    f"a row has {len(row)} cell(s), and the first line {len(columns)}: "
                    f"{'  '.join(row)!r} (cells are two spaces apart, an empty one is {EMPTY})"
                )
        return cls(columns, tuple(rows))

    def actual(self, rows: Sequence[Row], columns: Sequence[str]) -> "Table":
        """These rows in the columns of this table.

        Args:
            rows: what there is.
            columns: all that may be asked for.
        """
        unknown = [column for column in self.columns if column not in columns]
        if unknown:
            raise ScenarioError(
                f"there is no column {', '.join(unknown)}; there are {', '.join(columns)}"
            )
        return Table(
            self.columns, tuple(tuple(row[each] or EMPTY for each in self.columns) for row in rows)
        )

    def difference(self, actual: "Table") -> str | None:
        """The first cell in which an actual table differs from this one, in words; None: it does not."""
        if len(self.rows) != len(actual.rows):
            return f"{len(self.rows)} row(s) are expected, and there are {len(actual.rows)}"
        for number, (mine, found) in enumerate(zip(self.rows, actual.rows, strict=True), 1):
            for column, expected, cell in zip(self.columns, mine, found, strict=True):
                if not matches(expected, cell):
                    return f"row {number}, {column}: {expected!r} is expected, and it is {cell!r}"
        return None

    def updated(self, actual: "Table") -> "Table":
        """The actual table, with the cells of this one where they match."""
        rows = (
            tuple(
                old if old is not None and matches(old, new) else new
                for old, new in zip_longest(mine, found)
            )
            for mine, found in zip(
                (*self.rows, *((),) * len(actual.rows)), actual.rows, strict=False
            )
        )
        return Table(self.columns, tuple(rows))

    def lines(self) -> list[str]:
        """The table as it is written in a scenario."""
        lines = [self.columns, *(self.rows or [(NONE,)])]
        widths = [0] * len(self.columns)
        for line in lines:
            for index, cell in enumerate(line):
                widths[index] = max(widths[index], len(cell))
        return [
            INDENT
            + "  ".join(
                cell.ljust(width) for cell, width in zip(line, widths, strict=False)
            ).rstrip()
            for line in lines
        ]


def matches(expected: str, actual: str) -> bool:
    """Whether a cell is as expected."""
    if not expected.startswith("~ "):
        return expected == actual
    position = 0
    for part in expected.removeprefix("~ ").split(" ... "):
        found = actual.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return True
