"""From what is known of the cluster, and the conditions of its nodes, to its conditions. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from controller.conditions.model import (
    Condition,
    Reason,
    Status,
    Type,
    counted,
    format_time,
    named,
    quoted,
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
            f"{quoted(facts.sync_error or 'the Swarm could not be read')}; "
            "desired state stays as it was",
        )
    if facts.stale:
        return Condition(
            what,
            Status.UNKNOWN,
            Reason.READING_STALE,
            f"the Swarm was last read whole at {format_time(facts.synced_at)}: look at the controller's log",
        )
    return Condition(what, Status.TRUE, Reason.SWARM_READ, "the Swarm was read whole")


def _removals(facts: ClusterFacts) -> Condition:
    what = Type.REMOVALS_ALLOWED
    if facts.paused is not None:
        return Condition(
            what,
            Status.FALSE,
            Reason.CLUSTER_PAUSED,
            f"paused {quoted(facts.paused)}: `vxctl resume --cluster` when that is done",
        )
    if facts.breaker is not None:
        return Condition(
            what,
            Status.FALSE,
            Reason.BREAKER_TRIPPED,
            f"{quoted(facts.breaker)}: find out why so much leaks, then `vxctl breaker reset`",
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
            f"no worker reports, of {counted(expected, 'node')}: look at the broker, then {remedy}",
        )
    return Condition(
        what,
        Status.FALSE,
        Reason.WORKERS_AWAY,
        f"{len(away)} of {expected} nodes have no worker that reports ({named(away)}): {remedy}",
    )
