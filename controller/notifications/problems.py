"""What is wrong now that people are told of, by the stored conditions and breakers.

It is derived again and again from the present, so no restart and no fail-over loses a problem or its end.
A problem is over when that was seen: a node of which nothing is known has not recovered.
"""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from controller.conditions.age import Age
from controller.conditions.model import Reason, Status, Stored, Type
from controller.db.models import Cluster, Node
from controller.db.notification_models import NotificationTarget
from controller.notifications.events import Event
from controller.notifications.targets import describe

CLUSTER: Final = "cluster"
"""The subject of what is about no node."""

_SILENT: Final = frozenset(
    {Reason.NODE_DOWN, Reason.NEVER_SEEN, Reason.WORKER_AWAY, Reason.KEY_UNTRUSTED}
)
"""A machine that dies is one problem, whether the Swarm or the silence of its worker shows it first."""
_REJECTING: Final = frozenset({Reason.DEVICE_CONFLICT, Reason.VNI_HELD, Reason.TASKS_REJECTED})
_LEFT: Final = frozenset({Reason.OBSERVE_MODE, Reason.ORPHANS_LEFT})
"""Told where an orphan keeps a network's device from being made; others may stay as long as they like."""
_HARMLESS: Final = _LEFT | {
    Reason.LOOKS_DEAD,
    Reason.KEY_NOT_REPLACED,
    Reason.TOO_MANY_MESSAGES,
    Reason.WORKER_LIMITED,
    Reason.NETWORK_WITHOUT_DEVICE,
}

Key = tuple[Event, str]
"""An event and its subject."""


class Problem(NamedTuple):
    """Something that is wrong.

    Attributes:
        node_id, node_name: None: it is about no node.
        since: None: since it was seen.
    """

    message: str
    node_id: str | None = None
    node_name: str | None = None
    since: datetime | None = None


class Seen(NamedTuple):
    """What is wrong, and what of the problems asked about is known to be over.

    Attributes:
        gone: those of `over` whose node left the Swarm.
    """

    wrong: Mapping[Key, Problem]
    over: Collection[Key]
    gone: Collection[Key]


def look(session: Session, open_: Collection[Key], now: datetime) -> Seen | None:
    """Read what is wrong now; None: the conditions are too old to tell.

    Args:
        open_: problems whose end is of interest.
    """
    cluster = session.get(Cluster, 1)
    if cluster is None or Age(cluster.conditions_at, cluster.conditions_until).is_stale(now):
        return None
    wrong = {(event, CLUSTER): Problem(text) for event, text in _of_cluster(cluster)}
    wrong |= _of_targets(session, now)
    over = {
        key
        for key in open_
        if key not in wrong and (key[1] == CLUSTER or key[0] is Event.TARGET_FAILS)
    }
    subjects = {
        subject
        for event, subject in open_
        if subject != CLUSTER and event not in (Event.TARGET_FAILS, Event.CERTIFICATE)
    }
    known: set[str] = set()
    for row in session.execute(_concerned(subjects)):
        known.add(row.id)
        found = dict(_of_node(row.conditions, row.breaker_tripped_at, row.breaker_reason))
        for event, text in found.items():
            wrong[event, row.id] = Problem(text, row.id, row.hostname)
        over |= {
            (event, subject)
            for event, subject in open_
            if subject == row.id and event not in found and _is_over(event, row.conditions)
        }
    # A node that left the Swarm has no problems any more.
    left = subjects - known
    gone = {key for key in open_ if key[1] in left}
    return Seen(wrong, over | gone, gone)


_FAILS_FOR: Final = timedelta(seconds=60)
"""A target that fails for a shorter time is no problem: as its condition says."""


def _of_targets(session: Session, now: datetime) -> Mapping[Key, Problem]:
    """Return which targets fail."""
    failing = select(NotificationTarget).where(NotificationTarget.failing_since < now - _FAILS_FOR)
    found = {}
    for row in session.scalars(failing):
        message = (
            f"{describe(row)} takes nothing: {row.error}; `vxctl notify test {row.name}` shows what it "
            "answers now"
        )
        found[Event.TARGET_FAILS, str(row.id)] = Problem(message, since=row.failing_since)
    return found


def _concerned(subjects: Collection[str]) -> Any:
    return select(
        Node.id, Node.hostname, Node.conditions, Node.breaker_tripped_at, Node.breaker_reason
    ).where(
        Node.gone_at.is_(None),
        or_(
            *(
                Node.conditions[(type_.value, "status")].as_string() == Status.TRUE.value
                for type_ in (Type.DEGRADED, Type.STALLED)
            ),
            Node.breaker_tripped_at.is_not(None),
            Node.id.in_(subjects),
        ),
    )


def _of_cluster(cluster: Cluster) -> Iterator[tuple[Event, str]]:
    conditions: Stored = cluster.conditions
    if cluster.breaker_tripped_at is not None:
        yield (
            Event.BREAKER_TRIPPED,
            f"everywhere: {cluster.breaker_reason or 'too much was removed at once'}",
        )
    known = conditions.get(Type.DESIRED_STATE_KNOWN)
    if known is not None and known["status"] != Status.TRUE:
        yield Event.DESIRED_STATE_UNKNOWN, known["message"]
    workers = conditions.get(Type.WORKERS_PRESENT)
    if workers is not None and workers["reason"] in (
        Reason.BROKER_UNREACHABLE,
        Reason.BROKER_REFUSES,
    ):
        yield Event.BROKER_UNREACHABLE, workers["message"]
    believed = conditions.get(Type.MESSAGES_BELIEVED)
    if believed is not None and believed["status"] == Status.FALSE:
        yield Event.MESSAGES_REFUSED, believed["message"]


def _of_node(
    conditions: Stored, tripped_at: datetime | None, tripped_by: str | None
) -> Iterator[tuple[Event, str]]:
    if tripped_at is not None:
        yield Event.BREAKER_TRIPPED, f"on this node: {tripped_by or 'too much was removed at once'}"
    ready, degraded, stalled = (
        conditions.get(type_, _UNKNOWN) for type_ in (Type.READY, Type.DEGRADED, Type.STALLED)
    )
    if stalled["status"] == Status.TRUE:
        reason = stalled["reason"]
        if reason in _SILENT:
            yield Event.NODE_SILENT, stalled["message"]
        elif reason == Reason.RUN_REFUSED:
            yield Event.CLOCK, stalled["message"]
        elif reason == Reason.RUN_FAILED:
            yield Event.NODE_STALLED, stalled["message"]
    if degraded["status"] == Status.TRUE:
        reason = degraded["reason"]
        blocks = ready["status"] == Status.FALSE and ready["reason"] == reason
        if reason in _REJECTING or (reason in _LEFT and blocks):
            yield Event.TASKS_REJECTED, degraded["message"]


_UNKNOWN: Final = {"status": Status.UNKNOWN.value, "reason": "", "message": ""}


def _is_over(event: Event, conditions: Stored) -> bool:
    """Whether a problem that a node does not show is known to be over."""
    if event is Event.BREAKER_TRIPPED:
        return True
    if event is Event.TASKS_REJECTED:
        degraded = conditions.get(Type.DEGRADED, _UNKNOWN)
        return degraded["status"] == Status.FALSE or degraded["reason"] in _HARMLESS
    return bool(conditions.get(Type.READY, _UNKNOWN)["status"] != Status.UNKNOWN)
