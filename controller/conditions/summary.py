"""What is not as it should be, in a few words each: from the answer about the status of everything. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

_EXPECTED: Final = {
    "Ready": "True",
    "Degraded": "False",
    "Stalled": "False",
    "Paused": "False",
    "DesiredStateKnown": "True",
    "RemovalsAllowed": "True",
    "WorkersPresent": "True",
    "MessagesBelieved": "True",
    "NotificationsTaken": "True",
    "BrokerReachable": "True",
    "DatabaseWritable": "True",
    "AuditKept": "True",
    "BrokerUsersKept": "True",
}
CHOSEN: Final = frozenset({"ObserveMode", "IgnoredByLabel"})
"""Reasons that somebody chose for good: the cluster observes, a node is not ours."""


def is_abnormal(condition: Mapping[str, Any]) -> bool:
    """Whether the status of a condition is not the expected one."""
    return bool(condition["status"] != _EXPECTED.get(condition["type"], condition["status"]))


def abnormal(conditions: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the conditions whose status is not the expected one."""
    return [condition for condition in conditions if is_abnormal(condition)]


def of_cluster(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the unexpected conditions of the cluster, or of the process alone before it is known."""
    cluster = answer["cluster"]
    return abnormal(answer.get("conditions", []) if cluster is None else cluster["conditions"])


def wrong(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is not as it should be.

    Observing instead of removing, and nodes that a label takes out, are choices: they are shown,
    and not wrong by themselves.
    """
    readiness = answer["readiness"]
    if answer["cluster"] is None:
        yield "the Swarm has not been read yet"
    if answer["paused"]:
        yield "the cluster is paused"
    for row in of_cluster(answer):
        if row["reason"] not in CHOSEN:
            yield f"{row['type']} is {row['status']} ({row['reason']})"
    total = sum(sum(reasons.values()) for reasons in readiness.values())
    for state, verb in (("False", "not ready"), ("Unknown", "unknown")):
        # A blocked node is one, also where observing was chosen.
        chosen = CHOSEN if state == "Unknown" else frozenset[str]()
        reasons = {why: n for why, n in readiness.get(state, {}).items() if why not in chosen}
        if reasons:
            yield f"{sum(reasons.values())} of {total} nodes {verb} ({_counted(reasons)})"
    left = answer["left_on_ready"]
    if left:
        count = sum(left.values())
        nodes = "1 node that is" if count == 1 else f"{count} nodes that are"
        yield f"something is left on {nodes} ready ({_counted(left)})"


def _counted(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
