"""Conditions in the manner of Kubernetes: their words, and since when each is as it is. Pure.

A condition is an answer to one question (`Type`) with a status, a reason that programs can match, a
message that says what to do, and the time at which the status last changed. What is not known is
`Unknown`, never `True`. docs/conditions.md lists every reason;
`node` and `cluster` conclude them.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple

_SILENT_RESYNCS: Final = 3
_MIN_SILENCE: Final = timedelta(seconds=30)
_NAMED: Final = 5
"""How many names a message gives before it only counts."""
_MAX_LENGTH: Final = 500
"""Characters of what somebody else said (an error, a name) in a message."""


class Type(StrEnum):
    """The questions: four about each node, three about the cluster."""

    READY = "Ready"
    """The node was looked at with its newest desired state, and nothing there rejects tasks."""
    DEGRADED = "Degraded"
    """Something on the node is not as it should be."""
    STALLED = "Stalled"
    """The operator gets no further on the node by itself."""
    PAUSED = "Paused"
    """The node is not looked at, because somebody wants it so."""

    DESIRED_STATE_KNOWN = "DesiredStateKnown"
    """The Swarm can be read; else desired state stays what it was."""
    REMOVALS_ALLOWED = "RemovalsAllowed"
    """Workers are asked to remove orphans."""
    WORKERS_PRESENT = "WorkersPresent"
    """Every node that is up, and not paused, has a worker that reports."""


class Status(StrEnum):
    """The answers."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Reason(StrEnum):
    """Why a condition has its status; docs/conditions.md says what to do about each."""

    CONVERGED = "Converged"
    NOTHING_WRONG = "NothingWrong"
    PROGRESSING = "Progressing"
    NOT_PAUSED = "NotPaused"
    CLUSTER_PAUSED = "ClusterPaused"
    PAUSED = "Paused"
    IGNORED_BY_LABEL = "IgnoredByLabel"
    NODE_DOWN = "NodeDown"
    NEVER_SEEN = "NeverSeen"
    WORKER_AWAY = "WorkerAway"
    RUNS_LOST = "RunsLost"
    RUN_FAILED = "RunFailed"
    RUN_REFUSED = "RunRefused"
    NOT_CONVERGED = "NotConverged"
    DEVICE_CONFLICT = "DeviceConflict"
    VNI_HELD = "VniHeld"
    BREAKER_TRIPPED = "BreakerTripped"
    OBSERVE_MODE = "ObserveMode"
    ORPHANS_LEFT = "OrphansLeft"
    TASKS_REJECTED = "TasksRejected"
    LOOKS_DEAD = "LooksDead"
    NETWORK_WITHOUT_DEVICE = "NetworkWithoutDevice"
    WORKER_LIMITED = "WorkerLimited"

    SWARM_READ = "SwarmRead"
    SWARM_UNREADABLE = "SwarmUnreadable"
    SWARM_CHANGED = "SwarmChanged"
    LIST_SHRUNK = "ListShrunk"
    READING_STALE = "ReadingStale"
    ENFORCING = "Enforcing"
    ALL_PRESENT = "AllPresent"
    WORKERS_AWAY = "WorkersAway"
    NO_WORKERS = "NoWorkers"


class Condition(NamedTuple):
    """One answer."""

    type: Type
    status: Status
    reason: str
    """A `Reason`, or the word that whoever read the Swarm found for what was wrong."""
    message: str


def max_silence(resync: timedelta) -> timedelta:
    """After how long of hearing nothing a worker is away, and what was read of the Swarm is stale."""
    return max(_SILENT_RESYNCS * resync, _MIN_SILENCE)


def dated(
    conditions: Iterable[Condition], before: Sequence[Mapping[str, Any]], now: datetime
) -> list[dict[str, Any]]:
    """The conditions as they are stored, each with the time at which its status last changed."""
    since = {(each.get("type"), each.get("status")): each.get("since") for each in before}
    return [
        {
            "type": type_,
            "status": status,
            "reason": reason,
            "message": message,
            "since": since.get((type_, status)) or now.isoformat(),
        }
        for type_, status, reason, message in conditions
    ]


def quoted(words: str) -> str:
    """What somebody else said, as long as a message may have it."""
    return words if len(words) <= _MAX_LENGTH else words[: _MAX_LENGTH - 3] + "..."


def named(names: Sequence[str]) -> str:
    """Some names, and how many more there are."""
    shown = ", ".join(name[:40] for name in names[:_NAMED])
    more = len(names) - _NAMED
    return shown if more <= 0 else f"{shown} and {more} more"


def counted(number: int, noun: str) -> str:
    """So many of something."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_time(at: datetime) -> str:
    """When something was, in words that stay the same."""
    # Not how long ago: a message that never stands still would be written again and again.
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")
