"""Derives the conditions of the cluster from facts and from the conditions of its nodes. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from contract.verdicts import HeldBack
from controller.conditions.holds import Hold, listed, ordered
from controller.conditions.model import (
    Condition,
    Conditions,
    Reason,
    Status,
    Type,
    counted,
    format_time,
    named,
    quoted,
)

_MAX_TARGETS: Final = 3
"""Of notifications, in a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedFacts:
    """What the leader refused of the messages that it received.

    Attributes:
        counts: since it started, by reason.
        reason, detail: of the newest.
        key: that the newest names; None: none.
        owner: the node whose key that is, as it can be typed; None: nobody's here.
        at: when the newest came.
    """

    counts: Mapping[str, int]
    reason: str
    detail: str
    key: str | None
    owner: str | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFacts:
    """What the conditions of the cluster depend on.

    Attributes:
        synced_at: when the Swarm was last read in full.
        stale: whether that is too long ago.
        sync_reason: why the last reading failed, as a CamelCase reason; None: it succeeded.
        sync_error: the same as a sentence.
        manager: of several, the one that was asked.
        away: why others could not be asked; None: they could, or there are none.
        holds: what holds removals back everywhere: a pause, the breaker, the mode.
        broker: why the leader cannot use the broker; None: it can.
        refused: messages that did nothing lately; None: there were none.
        untaken: targets that do not take notifications, and why, a sentence each.
    """

    synced_at: datetime
    stale: bool = False
    sync_reason: str | None = None
    sync_error: str | None = None
    manager: str | None = None
    away: str | None = None
    holds: Sequence[Hold] = ()
    broker: Condition | None = None
    refused: RefusedFacts | None = None
    untaken: Sequence[str] = ()


def of_cluster(facts: ClusterFacts, nodes: Sequence[tuple[str, Conditions]]) -> Conditions:
    """Return the conditions of the cluster; `nodes`: hostname and conditions of each node."""
    return {
        Type.DESIRED_STATE_KNOWN: desired_state(facts),
        Type.REMOVALS_ALLOWED: _removals(facts),
        Type.WORKERS_PRESENT: _workers(nodes)
        if facts.broker is None
        else Condition(Status.UNKNOWN, facts.broker.reason, facts.broker.message),
        Type.MESSAGES_BELIEVED: _messages(facts.refused),
        Type.NOTIFICATIONS_TAKEN: _notifications(facts.untaken),
    }


def desired_state(facts: ClusterFacts) -> Condition:
    """Return the condition DesiredStateKnown."""
    if facts.sync_error is not None or facts.sync_reason is not None:
        error = quoted(facts.sync_error or "the Swarm could not be read")
        reason = facts.sync_reason or Reason.SWARM_UNREADABLE
        return Condition(Status.FALSE, reason, f"{error}; desired state stays as it was")
    if facts.stale:
        at = format_time(facts.synced_at)
        message = f"the Swarm was last read in full at {at}: look at the controller's log"
        return Condition(Status.UNKNOWN, Reason.READING_STALE, message)
    by = f", by {facts.manager}" if facts.manager else ""
    away = f"; of the other managers: {quoted(facts.away)}" if facts.away else ""
    return Condition(Status.TRUE, Reason.SWARM_READ, f"the Swarm was read in full{by}{away}")


def _removals(facts: ClusterFacts) -> Condition:
    holds = ordered(facts.holds)
    if not holds:
        return Condition(Status.TRUE, Reason.ENFORCING, "orphans are removed")
    reason = _HOLDS[holds[0].reason]
    what = (
        "no runs" if holds[0].reason is HeldBack.PAUSE else "orphans are reported and not removed"
    )
    return Condition(Status.FALSE, reason, what + listed([("", hold) for hold in holds]))


_HOLDS: Final = {
    HeldBack.PAUSE: Reason.CLUSTER_PAUSED,
    HeldBack.BREAKER: Reason.BREAKER_TRIPPED,
    HeldBack.MODE: Reason.OBSERVE_MODE,
}


def _messages(refused: RefusedFacts | None) -> Condition:
    if refused is None:
        return Condition(Status.TRUE, Reason.NOTHING_REFUSED, "every message was believed")
    counts = ", ".join(f"{reason} {count}" for reason, count in sorted(refused.counts.items()))
    whose = ""
    if refused.key is not None:
        of = "which is no node's" if refused.owner is None else f"of node {refused.owner}"
        # Of what is no valid signature anybody can write whose it is.
        whose = f", naming the key {refused.key}, {of}"
    message = (
        f"messages were refused, and did nothing ({counts}); the newest{whose}, at "
        f"{format_time(refused.at)}: {refused.detail}; `vxctl node keys` shows whose keys are believed"
    )
    return Condition(Status.FALSE, Reason.MESSAGES_REFUSED, message)


def _notifications(untaken: Sequence[str]) -> Condition:
    if not untaken:
        message = "no target refuses notifications, and none was given up within a day"
        return Condition(Status.TRUE, Reason.ALL_TAKEN, message)
    more = len(untaken) - _MAX_TARGETS
    found = "; ".join(map(quoted, untaken[:_MAX_TARGETS])) + (
        f"; and {more} more" if more > 0 else ""
    )
    message = f"{found}; `vxctl notify list` shows all, and what each answered last"
    return Condition(Status.FALSE, Reason.TARGETS_FAIL, message)


def _workers(nodes: Sequence[tuple[str, Conditions]]) -> Condition:
    expected, away = 0, []
    for name, conditions in nodes:
        stalled = conditions[Type.STALLED].reason
        down = conditions[Type.READY].reason == Reason.NODE_DOWN
        if conditions[Type.PAUSED].status == Status.TRUE or down:
            continue
        expected += 1
        if stalled in (Reason.NEVER_SEEN, Reason.WORKER_AWAY, Reason.KEY_UNTRUSTED):
            away.append(name)
    if not away:
        message = "every node that is up and not paused has a worker that reports"
        return Condition(Status.TRUE, Reason.ALL_PRESENT, message)
    remedy = "start vxlan-worker there, and check that it reaches the broker"
    if len(away) == expected:
        count = counted(expected, "node")
        message = f"none of {count} has a worker that reports: check the broker, then {remedy}"
        return Condition(Status.FALSE, Reason.NO_WORKERS, message)
    count = f"{len(away)} of {expected} nodes"
    message = f"{count} have no worker that reports ({named(away)}): {remedy}"
    return Condition(Status.FALSE, Reason.WORKERS_AWAY, message)
