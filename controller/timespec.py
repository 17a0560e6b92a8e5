"""Times as people write them: ISO 8601 with a zone, a day, or how long ago (`2h`)."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO: Final = re.compile(rf"(\d{{1,9}})([{''.join(_UNITS)}])", re.ASCII)
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
FORMS: Final = (
    "2026-05-01T14:00:00Z, 2026-05-01T14:00:00+02:00, 2026-05-01 (its beginning, in UTC), "
    "or how long ago: 90s, 15m, 2h, 7d, 4w"
)
"""What may be written."""


def parse_time(text: str, now: datetime) -> datetime:
    """The time that is meant; `now` is what `2h` counts back from.

    Raises:
        ValueError: it is no time, or has no zone; says which forms there are.
    """
    ago = _AGO.fullmatch(text)
    try:
        if ago is not None:
            return now - timedelta(seconds=int(ago[1]) * _UNITS[ago[2]])
        if _DAY.fullmatch(text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        found = datetime.fromisoformat(text)
        # Also what can be no time in UTC, as some of the years 1 and 9999.
        found_in_utc = found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no time; give {FORMS}") from None
    if found.tzinfo is None:
        raise ValueError(f"{text!r} has no zone; give {FORMS}")
    return found_in_utc
