"""Phrases for nodes, networks, devices and runs, from rows of the API. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from controller.cli.output import colours, formats
from controller.conditions import summary

_RUN_ID_CHARACTERS: Final = 8
_OLD_LOOK_SECONDS: Final = 150
"""More than two resyncs of a small Swarm: no run looks there now."""


def abnormal(row: dict[str, Any]) -> list[Mapping[str, Any]]:
    """Return the conditions of a node or the cluster whose status is not the expected one."""
    return summary.abnormal(row["conditions"])


def sentences(conditions: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield `REASON: MESSAGE`, once per message."""
    reasons: dict[str, str] = {}
    for condition in conditions:
        reasons.setdefault(condition["message"], condition["reason"])
    return (f"{reason}: {message}" for message, reason in reasons.items())


def node_name(row: dict[str, Any]) -> str:
    """Return a node's hostname, with the start of its id where others have it, too."""
    if row.get("hostname_is_shared"):
        return formats.short_with_id(row["hostname"], row["id"])
    return formats.short(row["hostname"])


def on_node(row: Mapping[str, Any]) -> str:
    """Return the name of the node of a row, with the start of its id where others have the name, too."""
    if row["node_name"] is None:
        return "-"
    if row.get("node_name_is_shared"):
        return formats.short_with_id(row["node_name"], row["node_id"])
    return str(row["node_name"])


def ready(row: dict[str, Any]) -> str:
    """Return the status of a node's condition `Ready`."""
    return _status(row, "Ready") or "Unknown"


def ready_or_away(row: dict[str, Any]) -> str:
    """Return the status of `Ready`, with what Swarm says of the node: `True,drain`, `Unknown,down`."""
    away = [row["state"]] if row["state"] != "ready" else []
    away += [row["availability"]] if row["availability"] != "active" else []
    return ",".join([ready(row), *away])


def ready_since(row: dict[str, Any]) -> str:
    """Return how long the condition `Ready` has had its status."""
    found = next((c for c in row["conditions"] if c["type"] == "Ready"), None)
    return "-" if found is None else formats.age(found["since"])


def status_and_sign(condition: dict[str, Any]) -> str:
    """Return the status of a condition, with a sign if it is not the expected one."""
    return f"{condition['status']}{colours.ABNORMAL if summary.is_abnormal(condition) else ''}"


def run_id(run: dict[str, Any]) -> str:
    """Return the beginning of a run's id, which stands for all of it in every command."""
    return str(run["id"])[:_RUN_ID_CHARACTERS]


def reason(row: dict[str, Any]) -> str:
    """Return the reason of a node's first abnormal condition."""
    return next((str(condition["reason"]) for condition in abnormal(row)), "-")


def seen(row: dict[str, Any]) -> str:
    """Return when a node's worker last reported."""
    return "never" if row["worker_seen_at"] is None else formats.ago(row["worker_seen_at"])


def last_run(row: dict[str, Any]) -> str:
    """Return the state and end of a node's last run."""
    last = row["last_run"]
    return "-" if last is None else f"{last['state']} {formats.ago(last['at'])}"


def next_run(row: dict[str, Any]) -> str:
    """Return when a node is due; nothing for one that is down or paused."""
    if row["running"]:
        return "running"
    if row["state"] == "down" or _status(row, "Paused") == "True":
        return "-"
    return formats.ago(row["due_at"])


def device_counts(row: dict[str, Any]) -> str:
    """Return the number of a node's devices, and those not in use by verdict."""
    counts: dict[str, int] = row["devices"]
    others = [
        f"{count} {verdict}" for verdict, count in sorted(counts.items()) if verdict != "in_use"
    ]
    return f"{sum(counts.values())}" + (f" ({', '.join(others)})" if others else "")


def device_reason(row: dict[str, Any]) -> str:
    """Return why a device is judged so, after what holds its removal back and what ends that.

    A device that was last looked at long ago, as its worker is away, says so first.
    """
    looked_at = row.get("looked_at")
    if looked_at is not None and formats.seconds_ago(looked_at) > _OLD_LOOK_SECONDS:
        return f"as of {formats.ago(looked_at)}: {_device_reason(row)}"
    return _device_reason(row)


def _device_reason(row: dict[str, Any]) -> str:
    held = [f"held back: {hold['text']} ({hold['until']})" for hold in row.get("held_back", ())]
    # A missing proof is what the reason says already.
    if any(hold["reason"] == "proof" for hold in row.get("held_back", ())):
        return str(row["reason"])
    return "; ".join([*held, str(row["reason"])])


def took(run: dict[str, Any]) -> str:
    """Return the duration of a run on its node."""
    if run["started_at"] is None or run["finished_at"] is None:
        return "-"
    return formats.duration(formats.seconds_between(run["started_at"], run["finished_at"]))


def run_counts(run: dict[str, Any]) -> str:
    """Return the counts of a run's devices."""
    return f"{run['devices']} device(s), {run['orphans']} orphan(s), {run['removed']} removed"


def mode(row: dict[str, Any]) -> str:
    """Return what is set for a node or network, the strictest of pause, labels and mode."""
    if row["paused_at"]:
        return "paused"
    if row["label_ignore"]:
        return "ignored"
    modes = {row["label_mode"], row["mode"]} - {None}
    return "observe" if "observe" in modes else next(iter(modes), "-")


def settings(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield as fields what people, labels and the breaker set for a node or network."""
    if row["paused_at"]:
        given = f" ({row['paused_reason']})" if row["paused_reason"] else ""
        yield "Paused", f"by {row['paused_by']} {formats.ago(row['paused_at'])}{given}"
        end = row.get("paused_until")
        yield (
            "Until",
            "resumed" if end is None else f"{formats.clock(end)[:-4]} ({formats.ago(end)})",
        )
    if row["label_ignore"]:
        yield "Ignored", "by the Swarm label vxlan-operator.ignore"
    if row["label_mode"]:
        yield "Mode", f"{row['label_mode']}, by the Swarm label vxlan-operator.mode"
    if row["mode"]:
        yield "Mode", f"{row['mode']}, {_set_by(row)}"
    if row.get("breaker_tripped_at"):
        tripped = formats.ago(row["breaker_tripped_at"])
        yield "Breaker", f"tripped {tripped}: {row['breaker_reason']}"


def _set_by(row: dict[str, Any]) -> str:
    """Return who set a mode, when and why, as far as that is known."""
    by = (
        f"set by {row['mode_by']} {formats.ago(row['mode_at'])}"
        if row["mode_by"]
        else "set manually"
    )
    return by + (f" ({row['mode_reason']})" if row["mode_reason"] else "")


def _status(row: dict[str, Any], type_: str) -> str | None:
    """Return the status of a condition, None if it is not judged yet."""
    return next((c["status"] for c in row["conditions"] if c["type"] == type_), None)
