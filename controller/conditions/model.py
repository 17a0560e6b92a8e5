"""Condition types, statuses and reasons as in Kubernetes, and their stored form. Pure.

A condition has a type, a status, a reason that programs can match, a message that says what to do, and the
time at which the status last changed. What is not known is `Unknown`, never `True`.
docs/runbook.md has a section for every reason that asks for something.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple

_MAX_SILENT_RESYNCS: Final = 3
_MIN_SILENCE: Final = timedelta(seconds=30)
_MAX_NAMES: Final = 5
_MAX_QUOTED: Final = 500
"""Characters of an error or a name in a message."""


class Type(StrEnum):
    """Four types for a node, five for the cluster, and those that each process knows by itself.

    Answers show them in this order.
    """

    READY = "Ready"
    """The node was reconciled with its newest desired state, and rejects no tasks."""
    DEGRADED = "Degraded"
    """Something on the node is wrong."""
    STALLED = "Stalled"
    """The operator makes no progress on the node without a person."""
    PAUSED = "Paused"
    """The node is not reconciled: a person or a Swarm label says so."""

    DESIRED_STATE_KNOWN = "DesiredStateKnown"
    """The Swarm can be read; otherwise desired state stays as it was."""
    REMOVALS_ALLOWED = "RemovalsAllowed"
    """Workers are asked to remove orphans."""
    WORKERS_PRESENT = "WorkersPresent"
    """Every node that is up and not paused has a worker that reports."""
    MESSAGES_BELIEVED = "MessagesBelieved"
    """No message was refused lately: not signed, by an unknown key, repeated, or damaged."""
    NOTIFICATIONS_TAKEN = "NotificationsTaken"
    """Every target of notifications took the last one, and none was given up lately."""

    BROKER_REACHABLE = "BrokerReachable"
    """The broker takes messages of the process that answers."""
    DATABASE_WRITABLE = "DatabaseWritable"
    """The database takes writes of the process that answers."""
    AUDIT_KEPT = "AuditKept"
    """The audit trail has the newest row that the process that answers saw there."""
    BROKER_USERS_KEPT = "BrokerUsersKept"
    """Redis has a user for each believed node, and no others; only of the leader, with BROKER_ACL."""


class Status(StrEnum):
    """The status of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Reason(StrEnum):
    """Why a condition has its status; docs/runbook.md says what to do about each."""

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
    KEY_UNTRUSTED = "KeyUntrusted"
    NOT_LOOKED_AT = "NotLookedAt"
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
    KEY_NOT_REPLACED = "KeyNotReplaced"
    TOO_MANY_MESSAGES = "TooManyMessages"
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
    NOTHING_REFUSED = "NothingRefused"
    MESSAGES_REFUSED = "MessagesRefused"
    ALL_TAKEN = "AllTaken"
    TARGETS_FAIL = "TargetsFail"

    BROKER_ANSWERS = "BrokerAnswers"
    BROKER_UNREACHABLE = "BrokerUnreachable"
    BROKER_REFUSES = "BrokerRefuses"
    DATABASE_WRITTEN = "DatabaseWritten"
    DATABASE_FULL = "DatabaseFull"
    DATABASE_READ_ONLY = "DatabaseReadOnly"
    DATABASE_LOCKED = "DatabaseLocked"
    DATABASE_UNREACHABLE = "DatabaseUnreachable"
    NO_ROWS_LOST = "NoRowsLost"
    AUDIT_WENT_BACK = "AuditWentBack"
    USERS_KEPT = "UsersKept"
    USERS_REFUSED = "UsersRefused"
    NOT_PROBED = "NotProbed"

    CONDITIONS_STALE = "ConditionsStale"


class Condition(NamedTuple):
    """What is derived of a condition; its type is the key that it has among others."""

    status: Status
    reason: str
    """A `Reason`, or the reason of a failed reading of the Swarm (`Cluster.sync_reason`)."""
    message: str


Conditions = Mapping[Type, Condition]
Stored = dict[str, dict[str, Any]]
"""Conditions as a row stores them: type to `status`, `reason`, `message` and `since`."""


def max_silence(resync: timedelta) -> timedelta:
    """Return the silence after which a worker is away and a reading of the Swarm is stale."""
    return max(_MAX_SILENT_RESYNCS * resync, _MIN_SILENCE)


def dated(conditions: Conditions, before: Stored, now: datetime) -> Stored:
    """Return the conditions in their stored form; `since` moves only when a status changes."""
    stored = {}
    for type_, condition in conditions.items():
        old = before.get(type_, {})
        since = old["since"] if old.get("status") == condition.status else now.isoformat()
        stored[type_.value] = {**condition._asdict(), "since": since}
    return stored


def listed(stored: Stored) -> list[dict[str, Any]]:
    """List stored conditions in the order of `Type`, each with its type, as Kubernetes does."""
    return [{"type": type_, **stored[type_]} for type_ in Type if type_ in stored]


def quoted(text: str, longest: int = _MAX_QUOTED) -> str:
    """Shorten an error or a name to what a message may contain."""
    return text if len(text) <= longest else text[: longest - 3] + "..."


def named(names: Sequence[str]) -> str:
    """List some names and the number of the others."""
    shown = ", ".join(name[:40] for name in names[:_MAX_NAMES])
    more = len(names) - _MAX_NAMES
    return shown if more <= 0 else f"{shown} and {more} more"


def counted(number: int, noun: str) -> str:
    """Return "1 node" or "2 nodes"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_time(at: datetime) -> str:
    """Format a time for a message: absolute, so that the message stays the same while nothing changes."""
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")
