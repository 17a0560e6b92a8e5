"""Values as a person reads them: JSON, names, times, durations."""

import json
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from rich.cells import cell_len, set_cell_size

from contract.runtime.text import printable

_MAX_CELLS: Final = 30
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60))


def show(answer: Any, output: str, as_text: Callable[[Any], None]) -> None:
    """Print an answer as JSON if `output` says so, else by `as_text`."""
    if output == "json":
        as_json(answer)
    else:
        as_text(answer)


def as_json(answer: Any) -> None:
    """Print an answer unchanged."""
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")


def device(row: Mapping[str, Any]) -> str:
    """Return the name and ifindex of a row's device, or `-`."""
    return "-" if row["name"] is None else f"{row['name']}#{row['ifindex']}"


def short(text: str) -> str:
    """Cut a name that would push the rest of a row off the screen."""
    text = printable(text)
    if cell_len(text) <= _MAX_CELLS:
        return text
    return set_cell_size(text, _MAX_CELLS - 1).rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def clock(time: str) -> str:
    """Return an ISO time in this machine's time zone, to the millisecond."""
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def ago(time: str | None) -> str:
    """Return an ISO time relative to now: `5m ago`, `in 30s`."""
    if time is None:
        return "-"
    seconds = round((datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds())
    return f"{duration(seconds)} ago" if seconds >= 0 else f"in {duration(-seconds)}"


def seconds_between(begin: str, end: str) -> float:
    """Return the seconds from one ISO time to another."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def duration(seconds: float) -> str:
    """Return a duration to at most three digits: `13ms`, `1.5s`, `119s`, `2m`, `3h`, `40d`."""
    sign, size = "-" if seconds < 0 else "", abs(seconds)
    for unit, length in _UNITS:
        if size >= 2 * length:
            return f"{sign}{size / length:.0f}{unit}"
    return f"{sign}{size * 1000:.0f}ms" if 0 < size < 1 else f"{sign}{size:.3g}s"
