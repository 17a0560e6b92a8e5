"""The URL of a run's trace, in the program that shows traces, by a pattern of the settings."""

from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

_FIELD: Final = "{trace_id}"
_MAX_LENGTH: Final = 2_000


def checked_pattern(pattern: str) -> str:
    """Return a pattern such as `https://jaeger.example/trace/{trace_id}`; empty: traces have no URL.

    Raises:
        ValueError: it is none.
    """
    if not pattern:
        return pattern
    rest = pattern.replace(_FIELD, "")
    if _FIELD not in pattern or "{" in rest or "}" in rest:
        raise ValueError(f"must have {_FIELD}, and no other braces (write %7B and %7D)")
    # Nothing but printable ASCII: it is shown on terminals and pages.
    if not rest.isascii() or not rest.isprintable() or set(rest) & set(" \"'<>\\`"):
        raise ValueError("must be a URL: letters of other alphabets, spaces and quotes as %XX")
    try:
        parts = urlsplit(pattern)
    except ValueError as error:
        raise ValueError(f"must be a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or _FIELD in parts.netloc:
        raise ValueError("must begin with http://HOST/ or https://HOST/")
    if len(pattern) > _MAX_LENGTH:
        raise ValueError(f"must have {_MAX_LENGTH} characters at most")
    return pattern


def trace_url(pattern: str, run_id: UUID | None) -> str | None:
    """Return the URL of a run's trace by a checked pattern; None: there is no pattern, or no run."""
    if not pattern or run_id is None:
        return None
    return pattern.replace(_FIELD, run_id.hex)
