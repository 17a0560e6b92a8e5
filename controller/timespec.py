"""Times and durations as people write them: ISO 8601 with a zone, a day, or a duration such as `2h`."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
DURATION: Final = r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhdw])"
"""The pattern of a duration."""
_DURATION: Final = re.compile(DURATION)
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
FIRST: Final = datetime.min.replace(tzinfo=UTC)
LAST: Final = datetime.max.replace(tzinfo=UTC)
FORMS: Final = (
    "2026-05-01T14:00:00Z, 2026-05-01T14:00:00+02:00, 2026-05-01 (its beginning, in UTC), "
    "or how long ago: 90s, 15m, 2h, 7d, 4w"
)
"""Forms of a time, for error messages."""


def parse_duration(text: str) -> timedelta:
    """Read a duration: a number and a unit (s, m, h, d, w), such as `90s` or `1.5h`.

    Raises:
        ValueError: it has another form.
        OverflowError: it is too long.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write it as 90s, 15m, 2h, 7d or 4w")
    return timedelta(seconds=float(match[1]) * _UNITS[match[2]])


def parse_time(text: str, now: datetime) -> datetime:
    """Read a time; a duration counts back from `now`.

    A time before the year 1 or after 9999 in UTC is taken for the first or last that there is.

    Raises:
        ValueError: it is no time, or has no zone; the message lists the forms.
    """
    if _DURATION.fullmatch(text):
        try:
            return now - parse_duration(text)
        except OverflowError:
            return FIRST
    try:
        if _DAY.fullmatch(text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time; give {FORMS}") from None
    if found.tzinfo is None:
        raise ValueError(f"{text!r} has no zone; give {FORMS}")
    try:
        return found.astimezone(UTC)
    except OverflowError:
        return FIRST if found.year == 1 else LAST
