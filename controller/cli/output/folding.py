"""Folding of repeated events: one row for those that differ only in time, with their number. Pure."""

import re
from collections.abc import Iterable
from typing import Any, Final

_CHANGING: Final = re.compile(
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?( UTC|Z|\+00:00)?"
    r"|\b\d+(\.\d+)? (ms|s|runs)\b"
    r"|\b[0-9a-f]{8}-[0-9a-f-]{27}\b"
    r"|\b[0-9a-f]{12,64}\b"
)
"""Times, durations and ids: what differs in a message that says the same again."""


def fold(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fold events, given the newest first, and return them newest last.

    Returns:
        The newest event of each kind, with `count` and `first_at`, the time of the oldest.
    """
    folded: dict[tuple[Any, ...], dict[str, Any]] = {}
    for event in events:
        key = (
            event["kind"],
            event["node_id"],
            event["network_id"],
            _CHANGING.sub("", event["message"]),
        )
        known = folded.get(key)
        if known is None:
            folded[key] = {**event, "count": 1, "first_at": event["at"]}
        else:
            known["count"] += 1
            known["first_at"] = event["at"]
    return [*folded.values()][::-1]
