"""Audit rows in every output format, streamed: printed rows are not kept in memory."""

import json
import sys
import textwrap
from collections.abc import Sequence
from typing import Final

from controller.audit.chain import CHAINED
from controller.cli.output import formats, phrases, structured, style, table
from controller.cli.output.columns import plain, value
from controller.cli.output.table import Columns, GrowingTable, Row

FIELDS: Final = ("id", *CHAINED)
"""The fields of a row, in CSV's order."""


class Writer:
    """Prints rows in a format."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._is_table = output in formats.TEXT
        columns = _WIDE if output == "wide" else _NARROW if table.is_narrow() else _TABLE
        self._table = GrowingTable(columns, fold=output != "wide", prose=True)
        self._empty = True
        if output == "csv" and style.current().headings:
            structured.write_csv_line(FIELDS)

    def write(self, rows: Sequence[Row]) -> None:
        """Print rows."""
        if self._is_table:
            self._table.print(list(map(self._table.cells, rows)))
        else:
            for row in rows:
                self._write_row(row)
                self._empty = False
        self._empty = self._empty and not rows
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


def _network(row: Row) -> str:
    # `?`: no known network has the VNI of the device.
    return row["network_name"] or row["network_id"] or ("-" if row["name"] is None else "?")


_TABLE: Final[Columns] = (
    ("TIME", lambda row: formats.clock(row["at"])),
    ("NODE", phrases.on_node),
    *plain("STAGE"),
    ("DEVICE", formats.device),
    *plain("NETNS", "VNI"),
    ("NETWORK", _network),
    *plain("URGENCY", "REASON"),
)
_NARROW: Final[Columns] = (
    ("TIME", lambda row: formats.clock(row["at"])[5:-4]),
    ("NODE", phrases.on_node),
    *plain("STAGE"),
    ("DEVICE", formats.device),
    *plain("REASON"),
)
"""Without the year, and what the reason mostly says."""
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
