"""Audit rows in every output format, streamed: printed rows are not kept in memory."""

import json
import sys
import textwrap
from collections.abc import Sequence
from typing import Final

from contract.runtime.text import printable
from controller.audit.chain import CHAINED
from controller.cli.output import formats, structured, style, table, widths
from controller.cli.output.columns import plain, value
from controller.cli.output.table import Columns, Row

FIELDS: Final = ("id", *CHAINED)
"""The fields of a row, in CSV's order."""


class Writer:
    """Prints rows in a format. A column of a table grows with its widest cell so far."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._is_table = output in ("table", "wide")
        self._columns = _WIDE if output == "wide" else _TABLE
        self._sizes = [widths.cells(title) for title, _ in self._columns]
        self._empty = True
        if output == "csv" and style.current().headings:
            structured.write_csv_line(FIELDS)

    def write(self, rows: Sequence[Row]) -> None:
        """Print rows."""
        if self._is_table and rows:
            self._write_lines([[cell(row) for _, cell in self._columns] for row in rows])
            self._empty = False
        else:
            for row in rows:
                self._write_row(row)
                self._empty = False
        sys.stdout.flush()

    def end(self) -> None:
        """Print the end of the output."""
        if self._output == "json":
            sys.stdout.write("[]\n" if self._empty else "\n]\n")
        elif self._output == "yaml" and self._empty:
            sys.stdout.write("[]\n")
        elif self._is_table and self._empty:
            table.line("no matching rows")

    def _write_row(self, row: Row) -> None:
        if self._output == "csv":
            structured.write_csv_line([row[name] for name in FIELDS])
        elif self._output == "yaml":
            sys.stdout.write(structured.as_yaml([row]))
        elif self._output == "name":
            sys.stdout.write(structured.names([row], structured.AUDIT)[0] + "\n")
        elif self._output == "jsonl":
            sys.stdout.write(json.dumps(row, separators=(",", ":")) + "\n")
        else:
            sys.stdout.write("[\n" if self._empty else ",\n")
            sys.stdout.write(textwrap.indent(json.dumps(row, indent=2), "  "))

    def _write_lines(self, lines: list[list[str]]) -> None:
        titles = [title for title, _ in self._columns]
        lines = [list(map(printable, line)) for line in lines]
        sizes = (self._sizes, *(map(widths.cells, line) for line in lines))
        self._sizes = [max(column) for column in zip(*sizes, strict=True)]
        fold = self._output != "wide"
        table.rows_of_cells(titles, lines, self._sizes, headings=self._empty, fold=fold)


def _network(row: Row) -> str:
    # `?`: no known network has the VNI of the device.
    return row["network_name"] or row["network_id"] or ("-" if row["name"] is None else "?")


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
    ("NODE", lambda row: f"{row['node_name']} ({row['node_id']})" if row["node_id"] else "-"),
    *plain("STAGE", "ACTOR"),
    ("DEVICE", formats.device),
    *plain("NETNS", "VNI", "PORT"),
    ("NETWORK", _network),
    *plain("NETWORK ID", "VERDICT", "URGENCY"),
    ("RUN", value("run_id")),
    ("WORKER", value("worker_version")),
    ("KEY", value("key_id")),
    *plain("EVIDENCE", "REASON"),
)
