"""Audit rows in every output format, streamed: printed rows are not kept in memory."""

import csv
import json
import sys
import textwrap
from collections.abc import Sequence
from typing import Final, Literal

from rich.cells import cell_len

from contract.runtime.text import printable
from controller.audit.chain import CHAINED
from controller.cli.output import formats, table
from controller.cli.output.columns import plain, value
from controller.cli.output.table import Columns, Row

Format = Literal["table", "wide", "json", "jsonl", "csv"]
"""`jsonl` has one row per line; `csv` is that of RFC 4180."""

FIELDS: Final = ("id", *CHAINED)
"""The fields of a row, in CSV's order."""


class Writer:
    """Prints rows, or at the end `empty` if there were none."""

    def __init__(self, empty: str = "") -> None:
        self._empty = empty
        self._some = False

    def write(self, rows: Sequence[Row]) -> None:
        """Print rows."""
        for row in rows:
            self._row(row)
            self._some = True
        sys.stdout.flush()

    def end(self) -> None:
        """Print the end of the output."""
        if not self._some and self._empty:
            table.line(self._empty)

    def _row(self, row: Row) -> None:
        raise NotImplementedError


class _Columns(Writer):
    """A table for people. A column grows with its widest cell so far."""

    def __init__(self, columns: Columns, empty: str) -> None:
        super().__init__(empty)
        self._columns = columns
        self._widths = [cell_len(title) for title, _ in columns]

    def write(self, rows: Sequence[Row]) -> None:
        """See `Writer.write`."""
        lines = [[printable(cell(row)) for _, cell in self._columns] for row in rows]
        for line in lines:
            self._widths = [
                max(width, cell_len(text)) for width, text in zip(self._widths, line, strict=True)
            ]
        if lines and not self._some:
            lines.insert(0, [title for title, _ in self._columns])
            self._some = True
        for line in lines:
            padded = (
                text + " " * (width - cell_len(text))
                for width, text in zip(self._widths, line, strict=True)
            )
            sys.stdout.write("  ".join(padded).rstrip() + "\n")
        sys.stdout.flush()


class _Json(Writer):
    def _row(self, row: Row) -> None:
        sys.stdout.write(",\n" if self._some else "[\n")
        sys.stdout.write(textwrap.indent(json.dumps(row, indent=2), "  "))

    def end(self) -> None:
        """See `Writer.end`."""
        sys.stdout.write("\n]\n" if self._some else "[]\n")


class _JsonLines(Writer):
    def _row(self, row: Row) -> None:
        sys.stdout.write(json.dumps(row, separators=(",", ":")) + "\n")


class _Csv(Writer):
    def __init__(self) -> None:
        super().__init__()
        self._writer = csv.writer(sys.stdout)
        self._writer.writerow(FIELDS)

    def _row(self, row: Row) -> None:
        self._writer.writerow([csv_cell(row[name]) for name in FIELDS])


def csv_cell(value: object) -> object:
    """Return a value that no spreadsheet takes for a formula, whatever a name begins with."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def writer(output: Format, *, empty: str) -> Writer:
    """Return the writer of a format; tables print `empty` if there are no rows."""
    match output:
        case "json":
            return _Json()
        case "jsonl":
            return _JsonLines()
        case "csv":
            return _Csv()
    return _Columns(_WIDE if output == "wide" else _TABLE, empty)


def _node(row: Row) -> str:
    return f"{row['node_name']} ({row['node_id']})" if row["node_id"] else "-"


def _network(row: Row) -> str:
    # `?`: no known network has the VNI of the device.
    unknown = "-" if row["name"] is None else "?"
    return row["network_name"] or row["network_id"] or unknown


_TABLE: Final[Columns] = (
    ("TIME", lambda row: formats.clock(row["at"])),
    ("NODE", value("node_name")),
    *plain("STAGE"),
    ("DEVICE", formats.device),
    *plain("NETNS", "VNI"),
    ("NETWORK", _network),
    *plain("URGENCY", "REASON"),
)
_WIDE: Final[Columns] = (
    *plain("ID"),
    ("TIME", lambda row: formats.clock(row["at"])),
    ("STORED", lambda row: formats.clock(row["stored_at"])),
    ("NODE", _node),
    *plain("STAGE", "ACTOR"),
    ("DEVICE", formats.device),
    *plain("NETNS", "VNI", "PORT"),
    ("NETWORK", _network),
    *plain("NETWORK ID", "VERDICT", "URGENCY"),
    ("RUN", value("run_id")),
    ("WORKER", value("worker_version")),
    *plain("EVIDENCE", "REASON"),
)
