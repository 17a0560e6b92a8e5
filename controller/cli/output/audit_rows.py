"""Audit rows as they come, in each form of output; nothing is kept of what was printed."""

import csv
import json
import sys
import textwrap
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Final

from rich.cells import cell_len

from contract.runtime.text import printable
from controller.audit.chain import CHAINED
from controller.cli.output import formats, table

Row = dict[str, Any]


class Form(StrEnum):
    """Forms of output."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    JSONL = "jsonl"
    """One row a line."""
    CSV = "csv"
    """RFC 4180."""


FIELDS: Final = ("id", *CHAINED)
"""Of a row, in the order in which CSV has them."""


class Writer:
    """Prints rows.

    Attributes:
        empty: what to say in the end if there were none.
    """

    def __init__(self, empty: str = "") -> None:
        self._empty = empty
        self._some = False

    def write(self, rows: Sequence[Row]) -> None:
        """Print some rows."""
        for row in rows:
            self._row(row)
            self._some = True
        sys.stdout.flush()

    def end(self) -> None:
        """Print what comes behind the last row."""
        if not self._some and self._empty:
            table.line(self._empty)

    def _row(self, row: Row) -> None:
        raise NotImplementedError


class _Columns(Writer):
    """Under their titles, for people. A column widens as what it holds does, and stays so."""

    def __init__(self, columns: Sequence[tuple[str, Callable[[Row], str]]], empty: str) -> None:
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
    """One list."""

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
    """A value as a spreadsheet may have it: never a formula, whatever a name begins with."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def writer(form: Form, *, empty: str) -> Writer:
    """What prints rows in this form; `empty` is for people, where there are none."""
    match form:
        case Form.JSON:
            return _Json()
        case Form.JSONL:
            return _JsonLines()
        case Form.CSV:
            return _Csv()
    return _Columns(_WIDE if form is Form.WIDE else _TABLE, empty)


def device(row: Row) -> str:
    """The device that a row is about."""
    return "-" if row["name"] is None else f"{row['name']}#{row['ifindex']}"


def _value(name: str) -> Callable[[Row], str]:
    return lambda row: "-" if row[name] is None else str(row[name])


def _node(row: Row) -> str:
    return f"{row['node_name']} ({row['node_id']})" if row["node_id"] else "-"


def _network(row: Row) -> str:
    # Of a device whose VNI no known network has, nobody knows the network.
    unknown = "-" if row["name"] is None else "?"
    return row["network_name"] or row["network_id"] or unknown


_TABLE: Final = (
    ("TIME", lambda row: formats.clock(row["at"])),
    ("NODE", _value("node_name")),
    ("STAGE", _value("stage")),
    ("DEVICE", device),
    ("PLACE", _value("netns")),
    ("VNI", _value("vni")),
    ("NETWORK", _network),
    ("URGENCY", _value("urgency")),
    ("REASON", _value("reason")),
)
_WIDE: Final = (
    ("ID", _value("id")),
    ("TIME", lambda row: formats.clock(row["at"])),
    ("STORED", lambda row: formats.clock(row["stored_at"])),
    ("NODE", _node),
    ("STAGE", _value("stage")),
    ("ACTOR", _value("actor")),
    ("DEVICE", device),
    ("PLACE", _value("netns")),
    ("VNI", _value("vni")),
    ("PORT", _value("port")),
    ("NETWORK", _network),
    ("NETWORK ID", _value("network_id")),
    ("VERDICT", _value("verdict")),
    ("URGENCY", _value("urgency")),
    ("RUN", _value("run_id")),
    ("WORKER", _value("worker_version")),
    ("EVIDENCE", _value("evidence")),
    ("REASON", _value("reason")),
)
