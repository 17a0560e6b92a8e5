"""What rows of the API are called in a word or a sentence. Pure."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from controller.cli.output import formats

_SHOULD_BE: Final = {
    "Ready": "True",
    "Degraded": "False",
    "Stalled": "False",
    "Paused": "False",
    "DesiredStateKnown": "True",
    "RemovalsAllowed": "True",
    "WorkersPresent": "True",
}


def amiss(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The conditions of a node or the cluster that are not as they should be."""
    return [
        each
        for each in row["conditions"]
        if each["status"] != _SHOULD_BE.get(each["type"], each["status"])
    ]


def sentences(conditions: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Each message once, with its reason."""
    told = set()
    for each in conditions:
        if each["message"] not in told:
            told.add(each["message"])
            yield f"{each['reason']}: {each['message']}"


def ready_of(row: dict[str, Any]) -> str:
    """The status of a node's condition `Ready`."""
    return next(
        (str(each["status"]) for each in row["conditions"] if each["type"] == "Ready"), "Unknown"
    )


def reason_of(row: dict[str, Any]) -> str:
    """The gravest reason why a node is not as it should be."""
    return next((str(each["reason"]) for each in amiss(row)), "-")


def seen(row: dict[str, Any]) -> str:
    """When a node's worker was last heard of."""
    return "never" if row["worker_seen_at"] is None else formats.ago(row["worker_seen_at"])


def last_run_of(row: dict[str, Any]) -> str:
    """How and when a node's last run ended."""
    last = row["last_run"]
    return "-" if last is None else f"{last['state']} {formats.ago(last['at'])}"


def devices_of(row: dict[str, Any]) -> str:
    """How many devices a node has, and which are not in use."""
    counts: dict[str, int] = row["devices"]
    others = ", ".join(
        f"{count} {word}" for word, count in sorted(counts.items()) if word != "in_use"
    )
    return f"{sum(counts.values())}" + (f" ({others})" if others else "")


def mode_of(row: dict[str, Any]) -> str:
    """What somebody said about a node or network: pause, label, mode."""
    if row["paused_at"]:
        return "paused"
    if row["label_ignore"]:
        return "ignored"
    said = {row["label_mode"], row["mode"]} - {None}
    return "observe" if "observe" in said else next(iter(said), "-")


def next_run_of(row: dict[str, Any]) -> str:
    """When a node is next looked at."""
    if row["running"]:
        return "running"
    if row["state"] == "down" or is_paused(row):
        return "-"
    return formats.ago(row["due_at"])


def is_paused(row: dict[str, Any]) -> bool:
    """Whether a node is not looked at because somebody wants it so."""
    return any(each["type"] == "Paused" and each["status"] == "True" for each in row["conditions"])
