"""Values as a person reads them: names, times, durations, ages; and answers in the format asked for."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from contract.runtime.text import printable
from controller.cli.output import structured, style, widths
from controller.cli.output.structured import Kind

_MAX_CELLS: Final = 30
_ID_CHARACTERS: Final = 12
"""Of an id where a name is not enough: as many as docker shows."""
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60))
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3_600, 86_400, 365 * 86_400
_AGES: Final = (
    (2 * _MINUTE, "s", 1, "", 0),
    (10 * _MINUTE, "m", _MINUTE, "s", 1),
    (3 * _HOUR, "m", _MINUTE, "", 0),
    (8 * _HOUR, "h", _HOUR, "m", _MINUTE),
    (2 * _DAY, "h", _HOUR, "", 0),
    (8 * _DAY, "d", _DAY, "h", _HOUR),
    (2 * _YEAR, "d", _DAY, "", 0),
    (8 * _YEAR, "y", _YEAR, "d", _DAY),
)
"""Below how many seconds which units are shown: those of kubectl."""


TEXT: Final = ("table", "wide")
"""The outputs for people."""


def show(
    answer: Any,
    output: str,
    as_text: Callable[[Any], None],
    *,
    kind: Kind | None = None,
    rows: str = "items",
) -> None:
    """Print an answer in a format: `as_text` prints `table` and `wide`; the others are for programs.

    Args:
        kind: of its rows, for `-o name`.
        rows: the field with the rows, for jsonl, csv, name and `--sort-by`, if the answer is an object.
    """
    field = style.current().sort_by
    if field is not None:
        ordered = structured.in_order(structured.rows_of(answer, rows), field)
        answer = answer | {rows: ordered} if isinstance(answer, dict) else ordered
    if output in TEXT:
        as_text(answer)
    else:
        structured.write(answer, output, kind, rows)


def device(row: Mapping[str, Any]) -> str:
    """Return the name and ifindex of a row's device, or `-`."""
    return "-" if row["name"] is None else f"{row['name']}#{row['ifindex']}"


def short(text: str) -> str:
    """Cut a name that would push the rest of a row off the screen."""
    return widths.cut(printable(text), _MAX_CELLS)


def short_with_id(name: str, id_: str) -> str:
    """Return a name with the start of an id, together no longer than a short name."""
    start = f" ({id_[:_ID_CHARACTERS]})"
    return widths.cut(printable(name), _MAX_CELLS - len(start)) + start


def clock(time: str) -> str:
    """Return an ISO time in this machine's time zone, to the millisecond."""
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def ago(time: str | None) -> str:
    """Return an ISO time relative to now: `5m ago`, `in 30s`."""
    if time is None:
        return "-"
    seconds = seconds_ago(time)
    return f"{age_of(seconds)} ago" if seconds >= 0 else f"in {age_of(-seconds)}"


def age(time: str | None) -> str:
    """Return how long ago an ISO time was, as kubectl writes it (`53m`, `4h12m`, `3d4h`); `-` for none."""
    return "-" if time is None else age_of(max(seconds_ago(time), 0))


def age_of(seconds: float) -> str:
    """Return an age as kubectl writes it: two units where one would be too coarse.

    The limits are those of `HumanDuration` in k8s.io/apimachinery/pkg/util/duration.
    """
    size = int(seconds)
    for below, first, length, second, part in _AGES:
        if size < below:
            rest = size % length // part if part else 0
            return f"{size // length}{first}" + (f"{rest}{second}" if rest else "")
    return f"{size // _YEAR}y"


def seconds_ago(time: str) -> int:
    """Return how long ago an ISO time was, in seconds; negative: it is still to come."""
    return round((datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds())


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
