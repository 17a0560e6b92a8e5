"""`--since` and `--until` of a verb: times for the API, with this machine's zone where none is given."""

from datetime import UTC, datetime

from contract.runtime.errors import UsageError
from controller.timespec import parse_time


def period(since: str | None, until: str | None) -> dict[str, str | None]:
    """Return the parameters of a period; the API answers an empty one with nothing, a person means none.

    Raises:
        UsageError: `until` is not later than `since`.
    """
    begin, end = with_zone(since), with_zone(until)
    if begin is not None and end is not None:
        now = datetime.now(UTC)
        try:
            is_empty = parse_time(end, now) <= (first := parse_time(begin, now))
        except ValueError:  # The API says which of them it is.
            is_empty = False
        if is_empty:
            raise UsageError(
                f"until: must be later than since, which is {first.isoformat(timespec='seconds')}",
                "exchange --since and --until, or leave one of them out",
            )
    return {"since": begin, "until": end}


def as_time(text: str) -> str:
    """Return the ISO time that `--since` means now; what is none is left to the API to refuse."""
    given = with_zone(text) or ""
    try:
        return parse_time(given, datetime.now(UTC)).isoformat()
    except (ValueError, OverflowError):
        return given


def with_zone(text: str | None) -> str | None:
    """Add this machine's time zone to a time without one, as the API needs it."""
    try:
        time = datetime.fromisoformat(text or "")
        return text if time.tzinfo is not None else time.astimezone().isoformat()
    except (ValueError, OverflowError):
        return text
