"""What state a node and the cluster are in, as conditions in the manner of Kubernetes. Pure.

A condition is an answer to one question (`Type`) with a status, a reason that programs can match, a
message that says what to do, and the time at which the status last changed. What is not known is
`Unknown`, never `True`. docs/conditions.md lists every reason.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from controller.states import RunState

SILENT_RESYNCS: Final = 3
"""A worker that reported nothing for so many resync periods is away."""
LOST_IN_A_ROW: Final = 3
"""After so many runs in a row that were lost or failed, more of the same will not help."""
_NAMED: Final = 5
"""How many names a message gives before it only counts."""
_LONGEST: Final = 500
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
    BREAKER_TRIPPED = "BreakerTripped"
    OBSERVE_MODE = "ObserveMode"
    ORPHANS_LEFT = "OrphansLeft"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What is known of a node, as far as its conditions go.

    Attributes:
        state: as the Swarm says: `ready`, `down`, `unknown`, `disconnected`.
        cluster_paused, paused: by whom and why, in words; None: it is not.
        ignored: a Swarm label says to leave the node alone.
        seen_at: when a worker of it last reported; None: never.
        silent: that is too long ago, and there was a controller to hear it.
        failures: runs in a row that failed or were lost.
        last_run: how the last run ended; None: there was none.
        running: a run is under way.
        missing: networks that should have a device there and have none.
        limits: what its worker could not look at, in words.
        breaker: why removals were stopped (its own breaker, or the cluster's); None: they were not.
        observe: orphans are left, as the mode says.
        conflicts, blocking, orphans: devices so judged; `orphans` counts the blocking ones too.
    """

    state: str = "ready"
    cluster_paused: str | None = None
    paused: str | None = None
    ignored: bool = False
    seen_at: datetime | None
    silent: bool = False
    failures: int = 0
    last_run: RunState | None = RunState.SUCCEEDED
    last_error: str | None = None
    running: bool = False
    generation: int = 1
    converged_generation: int = 1
    missing: Sequence[str] = ()
    limits: Sequence[str] = ()
    breaker: str | None = None
    observe: bool = False
    conflicts: int = 0
    blocking: int = 0
    orphans: int = 0


@dataclass(frozen=True, slots=True)
class _Finding:
    """One thing about a node that is not as it should be, and which conditions it makes what."""

    reason: Reason
    message: str
    ready: Status | None = None
    """What becomes of `Ready`; None: this does not touch it."""
    degraded: bool = False
    stalled: bool = False
    paused: bool = False


def of_node(facts: NodeFacts) -> list[Condition]:
    """The conditions of a node; of several things that are wrong the gravest gives the reason."""
    found = list(_findings(facts))
    ready = next((each for each in found if each.ready is not None), None)
    return [
        Condition(Type.READY, Status.TRUE, Reason.CONVERGED, _converged(facts))
        if ready is None
        else Condition(Type.READY, ready.ready or Status.UNKNOWN, ready.reason, ready.message),
        _degraded(found),
        _any(
            Type.STALLED,
            (each for each in found if each.stalled),
            Condition(
                Type.STALLED,
                Status.FALSE,
                Reason.PROGRESSING,
                "the operator can do here what it has to",
            ),
        ),
        _any(
            Type.PAUSED,
            (each for each in found if each.paused),
            Condition(Type.PAUSED, Status.FALSE, Reason.NOT_PAUSED, "the node is looked at"),
        ),
    ]


def _any(type_: Type, findings: Iterable[_Finding], otherwise: Condition) -> Condition:
    for first in findings:
        return Condition(type_, Status.TRUE, first.reason, first.message)
    return otherwise


def _degraded(found: Sequence[_Finding]) -> Condition:
    """What was last seen counts; where nothing bad was, but nobody looks now, it is not known."""
    otherwise = Condition(
        Type.DEGRADED,
        Status.FALSE,
        Reason.NOTHING_WRONG,
        "nothing on the node is known to be wrong",
    )
    for hidden in found:
        if hidden.ready is Status.UNKNOWN:
            otherwise = Condition(Type.DEGRADED, Status.UNKNOWN, hidden.reason, hidden.message)
            break
    return _any(Type.DEGRADED, (each for each in found if each.degraded), otherwise)


def _converged(facts: NodeFacts) -> str:
    return f"looked at with its newest desired state (generation {facts.generation}): nothing to do"


def _findings(facts: NodeFacts) -> Iterator[_Finding]:
    """What is not as it should be, the gravest first: what hides the most of the rest."""
    if facts.cluster_paused is not None or facts.paused is not None or facts.ignored:
        # Nobody asks its worker, so that nothing is heard of it means nothing.
        yield from _left_alone(facts)
    else:
        yield from _unreachable(facts)
        yield from _unfinished(facts)
    yield from _seen_there(facts)


def _left_alone(facts: NodeFacts) -> Iterator[_Finding]:
    if facts.cluster_paused is not None:
        yield _Finding(
            Reason.CLUSTER_PAUSED,
            f"the whole cluster is paused {_quoted(facts.cluster_paused)}: "
            "`vxctl resume --cluster` when that is done",
            ready=Status.UNKNOWN,
            paused=True,
        )
    if facts.paused is not None:
        yield _Finding(
            Reason.PAUSED,
            f"paused {_quoted(facts.paused)}: `vxctl resume` this node when that is done",
            ready=Status.UNKNOWN,
            paused=True,
        )
    if facts.ignored:
        yield _Finding(
            Reason.IGNORED_BY_LABEL,
            "the Swarm label vxlan-operator.ignore says to leave the node alone: "
            "`docker node update --label-rm vxlan-operator.ignore` to change that",
            ready=Status.UNKNOWN,
            paused=True,
        )


def _unreachable(facts: NodeFacts) -> Iterator[_Finding]:
    if facts.state != "ready":
        yield _Finding(
            Reason.NODE_DOWN,
            f"the Swarm says that the node is {facts.state}: start it, or `docker node rm` it",
            ready=Status.UNKNOWN,
            stalled=True,
        )
    lost = facts.last_run is RunState.LOST
    if facts.seen_at is None:
        yield _Finding(
            Reason.NEVER_SEEN,
            "no worker has ever reported from here: start vxlan-worker on the node, "
            "and look at its log whether it reaches the broker",
            ready=Status.UNKNOWN,
            stalled=True,
        )
    elif facts.silent or (lost and facts.failures >= LOST_IN_A_ROW):
        yield _Finding(
            Reason.WORKER_AWAY,
            (
                f"{facts.failures} runs in a row brought no report"
                if lost and facts.failures >= LOST_IN_A_ROW
                else f"its worker has reported nothing since {_moment(facts.seen_at)}"
            )
            + ": look whether vxlan-worker runs on the node, and whether the broker answers",
            ready=Status.UNKNOWN,
            stalled=True,
        )
    elif lost:
        yield _Finding(
            Reason.RUNS_LOST,
            "the last run brought no report by its deadline; it is tried again: nothing to do yet",
            ready=Status.UNKNOWN,
        )


def _unfinished(facts: NodeFacts) -> Iterator[_Finding]:
    if facts.last_run is RunState.FAILED:
        yield _Finding(
            Reason.RUN_FAILED,
            f"the last run failed: {_quoted(facts.last_error or 'without saying why')}; "
            "it is tried again, but mend what it names",
            ready=Status.FALSE,
            degraded=True,
            stalled=facts.failures >= LOST_IN_A_ROW,
        )
    if facts.last_run is RunState.REFUSED:
        yield _Finding(
            Reason.RUN_REFUSED,
            f"the worker refused the last request: {_quoted(facts.last_error or 'it did not say why')}; "
            "compare the clocks of node and controller if this stays",
            ready=Status.UNKNOWN,
            stalled=facts.failures >= LOST_IN_A_ROW,
        )
    if facts.converged_generation < facts.generation:
        yield _Finding(
            Reason.NOT_CONVERGED,
            f"its networks changed (generation {facts.generation}, looked at with "
            f"{facts.converged_generation}): "
            + ("a run is under way" if facts.running else "a run is due"),
            ready=Status.FALSE,
        )


def _seen_there(facts: NodeFacts) -> Iterator[_Finding]:
    if facts.conflicts:
        yield _Finding(
            Reason.DEVICE_CONFLICT,
            f"{_count(facts.conflicts, 'device')} of other software holds a VNI that a network of "
            "this node needs: move that software to another VNI or port (`vxctl get devices`)",
            ready=Status.FALSE,
            degraded=True,
        )
    left = f"{_count(facts.orphans, 'orphan')} ({facts.blocking} blocking)"
    rejects = Status.FALSE if facts.blocking else None
    if facts.breaker is not None:
        yield _Finding(
            Reason.BREAKER_TRIPPED,
            f"the breaker stopped removals here: {_quoted(facts.breaker)}; "
            + (f"left: {left}; " if facts.orphans else "")
            + "find out why so much leaks, then `vxctl breaker reset`",
            ready=rejects,
            degraded=facts.orphans > 0,
            stalled=True,
        )
    elif facts.orphans and facts.observe:
        yield _Finding(
            Reason.OBSERVE_MODE,
            f"left, as mode observe says: {left}; `vxctl mode enforce` to have them removed",
            ready=rejects,
            degraded=True,
        )
    elif facts.orphans:
        yield _Finding(
            Reason.ORPHANS_LEFT,
            f"not removed: {left}; `vxctl get devices` and `vxctl audit` say why",
            ready=rejects,
            degraded=True,
        )
    if facts.missing:
        yield _Finding(
            Reason.NETWORK_WITHOUT_DEVICE,
            f"no device for {_named(facts.missing)}, whose tasks run here: "
            "look at Docker's log on the node",
            ready=Status.FALSE,
            degraded=True,
        )
    if facts.limits:
        yield _Finding(
            Reason.WORKER_LIMITED,
            f"its worker sees or does not all: {_quoted('; '.join(facts.limits))}",
            degraded=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFacts:
    """What is known of the cluster, as far as its conditions go.

    Attributes:
        synced_at: when the Swarm was last read whole.
        stale: that is too long ago.
        sync_reason: why that failed the last time, as one word; None: it did not.
        sync_error: the same in words.
        paused: by whom and why, in words; None: it is not.
        breaker: why removals were stopped everywhere; None: they were not.
        observe: the cluster's mode leaves orphans.
    """

    synced_at: datetime
    stale: bool = False
    sync_reason: str | None = None
    sync_error: str | None = None
    paused: str | None = None
    breaker: str | None = None
    observe: bool = False


def of_cluster(
    facts: ClusterFacts, nodes: Sequence[tuple[str, Sequence[Condition]]]
) -> list[Condition]:
    """The conditions of the cluster, given those of its nodes, each with its hostname."""
    return [desired_state(facts), _removals(facts), _workers(nodes)]


def desired_state(facts: ClusterFacts) -> Condition:
    """Whether desired state is what the Swarm says."""
    what = Type.DESIRED_STATE_KNOWN
    if facts.sync_error is not None or facts.sync_reason is not None:
        return Condition(
            what,
            Status.FALSE,
            facts.sync_reason or Reason.SWARM_UNREADABLE,
            f"{_quoted(facts.sync_error or 'the Swarm could not be read')}; "
            "desired state stays as it was",
        )
    if facts.stale:
        return Condition(
            what,
            Status.UNKNOWN,
            Reason.READING_STALE,
            f"the Swarm was last read whole at {_moment(facts.synced_at)}: look at the controller's log",
        )
    return Condition(what, Status.TRUE, Reason.SWARM_READ, "the Swarm was read whole")


def _removals(facts: ClusterFacts) -> Condition:
    what = Type.REMOVALS_ALLOWED
    if facts.paused is not None:
        return Condition(
            what,
            Status.FALSE,
            Reason.CLUSTER_PAUSED,
            f"paused {_quoted(facts.paused)}: `vxctl resume --cluster` when that is done",
        )
    if facts.breaker is not None:
        return Condition(
            what,
            Status.FALSE,
            Reason.BREAKER_TRIPPED,
            f"{_quoted(facts.breaker)}: find out why so much leaks, then `vxctl breaker reset`",
        )
    if facts.observe:
        return Condition(
            what,
            Status.FALSE,
            Reason.OBSERVE_MODE,
            "mode observe: orphans are reported and left; `vxctl mode enforce --cluster` changes that",
        )
    return Condition(what, Status.TRUE, Reason.ENFORCING, "orphans are removed")


def _workers(nodes: Sequence[tuple[str, Sequence[Condition]]]) -> Condition:
    what = Type.WORKERS_PRESENT
    expected, away = 0, []
    for name, (_ready, _degraded, stalled, paused) in nodes:
        if paused.status == Status.TRUE or stalled.reason == Reason.NODE_DOWN:
            continue
        expected += 1
        if stalled.reason in (Reason.NEVER_SEEN, Reason.WORKER_AWAY):
            away.append(name)
    remedy = "start vxlan-worker there, and see that it reaches the broker"
    if not away:
        return Condition(
            what,
            Status.TRUE,
            Reason.ALL_PRESENT,
            "every node that is up, and not paused, has a worker that reports",
        )
    if len(away) == expected:
        return Condition(
            what,
            Status.FALSE,
            Reason.NO_WORKERS,
            f"no worker reports, of {_count(expected, 'node')}: look at the broker, then {remedy}",
        )
    return Condition(
        what,
        Status.FALSE,
        Reason.WORKERS_AWAY,
        f"{len(away)} of {expected} nodes have no worker that reports ({_named(away)}): {remedy}",
    )


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


def _quoted(words: str) -> str:
    return words if len(words) <= _LONGEST else words[: _LONGEST - 3] + "..."


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(name[:40] for name in names[:_NAMED])
    more = len(names) - _NAMED
    return shown if more <= 0 else f"{shown} and {more} more"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _moment(at: datetime) -> str:
    # Not how long ago: a message that never stands still would be written again and again.
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")
