"""Answers for programs: JSON, JSON lines, YAML, CSV and names; and sorting by a field."""

import csv
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from contract.runtime.errors import UsageError
from contract.runtime.text import csv_cell
from controller.cli.output import style

Row = Mapping[str, Any]

_SAFE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,200}(#[0-9]+)?")
"""What no shell, and no xargs, takes apart, and the API takes as a name."""


class Kind(NamedTuple):
    """A kind of rows: its singular as in `node/NAME`, and what names a row.

    Attributes:
        name: returns the name that people give; the id stands for it where it is not unique or not safe
            in a shell.
        id: returns the id.
    """

    singular: str
    name: Callable[[Row], str]
    id: Callable[[Row], str]

    @classmethod
    def of(cls, singular: str, name: str, id_: str | None = None) -> "Kind":
        """Return the kind of rows that are named by these fields; without an id the name is one."""
        return cls(singular, lambda row: str(row[name]), lambda row: str(row[id_ or name]))


def _device(row: Row) -> str:
    return f"{row['name']}#{row['ifindex']}"


NODE: Final = Kind.of("node", "hostname", "id")
NETWORK: Final = Kind.of("network", "name", "id")
RUN: Final = Kind.of("run", "id")
DEVICE: Final = Kind("device", _device, _device)
FAULT: Final = Kind.of("fault", "id")
AUDIT: Final = Kind.of("audit", "id")


def write(answer: Any, output: str, kind: Kind | None, rows: str = "items") -> None:
    """Print an answer for a program.

    Args:
        output: json, jsonl, yaml, csv or name.
        kind: of the rows, for names; None: they have none.
        rows: the field with the rows, if the answer is an object that has them.

    Raises:
        UsageError: names of what has none.
    """
    if output == "json":
        sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    elif output == "yaml":
        sys.stdout.write(as_yaml(answer))
    elif output == "jsonl":
        for row in rows_of(answer, rows):
            sys.stdout.write(json.dumps(row, separators=(",", ":")) + "\n")
    elif output == "csv":
        _write_csv(rows_of(answer, rows))
    else:
        for name in names(rows_of(answer, rows), kind):
            sys.stdout.write(name + "\n")


def rows_of(answer: Any, rows: str = "items") -> list[Any]:
    """Return the rows of an answer: it is a list, an object with a list, or one row."""
    if isinstance(answer, list):
        return answer
    if isinstance(answer, dict) and isinstance(answer.get(rows), list):
        return list(answer[rows])
    return [answer]


def as_yaml(answer: Any) -> str:
    """Return YAML in ASCII: names escape codes, and text that turns its direction, as JSON does."""
    import yaml

    return str(yaml.safe_dump(answer, sort_keys=False, allow_unicode=False, width=10_000))


def names(rows: Sequence[Row], kind: Kind | None) -> list[str]:
    """Return `KIND/NAME` of each row, which other verbs take, also by xargs."""
    if kind is None:
        raise UsageError("-o name: this has no name", "use -o json")
    seen = Counter(kind.name(row) for row in rows)
    return [f"{kind.singular}/{_name(row, kind, seen)}" for row in rows]


def _name(row: Row, kind: Kind, seen: Mapping[str, int]) -> str:
    name = kind.name(row)
    return name if seen[name] == 1 and _SAFE.fullmatch(name) else kind.id(row)


def _write_csv(rows: Sequence[Row]) -> None:
    fields = list(dict.fromkeys(field for row in rows for field in row))
    if style.current().headings and fields:
        write_csv_line(fields)
    for row in rows:
        write_csv_line([row.get(field) for field in fields])


def write_csv_line(values: Sequence[object]) -> None:
    """Print a line of CSV."""
    csv.writer(sys.stdout).writerow(map(csv_cell, values))


def in_order(rows: Sequence[Any], field: str) -> list[Any]:
    """Sort rows by a field: numbers, then texts, then what has parts; rows without it come last.

    Args:
        field: as in `Style.sort_by`; also as kubectl writes it (`.last_run.at`, `{.last_run.at}`).

    Raises:
        UsageError: no row has the field.
    """
    backwards = field.startswith("-")
    path = field.removeprefix("-").strip("{}").lstrip(".").split(".")
    if rows and not any(_has(row, path) for row in rows):
        known = ", ".join(sorted({key for row in rows for key in row}))
        raise UsageError(f"--sort-by {field!r}: there is no such field", f"one of: {known}")
    filled = [row for row in rows if _at(row, path) is not None]
    rest = [row for row in rows if _at(row, path) is None]
    return [*sorted(filled, key=_key(path), reverse=backwards), *rest]


def _key(path: Sequence[str]) -> Callable[[Any], tuple[int, float, str]]:
    def key(row: Any) -> tuple[int, float, str]:
        value = _at(row, path)
        if isinstance(value, (int, float)):
            return 0, float(value), ""
        if isinstance(value, str):
            return 1, 0.0, value
        return 2, 0.0, json.dumps(value, sort_keys=True)

    return key


def _has(row: Any, path: Sequence[str]) -> bool:
    """Whether a row has a field, be it empty. Below an empty field anything may be."""
    for part in path:
        if row is None:
            return True
        if not isinstance(row, dict) or part not in row:
            return False
        row = row[part]
    return True


def _at(row: Any, path: Sequence[str]) -> Any:
    for part in path:
        row = row.get(part) if isinstance(row, dict) else None
    return row
