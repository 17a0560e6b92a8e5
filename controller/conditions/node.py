"""Derives the conditions of a node from facts. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from contract.messages import KEY_KEPT
from contract.verdicts import HeldBack, Verdict
from controller.conditions.holds import CLUSTER, LABEL, Hold, listed, ordered
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
from controller.conditions.node_facts import NodeFacts, Sign, Unreplaced
from controller.db.states import RunState

MAX_FAILURES: Final = 3
"""Consecutive lost or failed runs after which repeating them is not expected to help."""


@dataclass(frozen=True, slots=True)
class _Finding:
    """Something wrong with a node, and the conditions that it changes."""

    reason: Reason
    message: str
    ready: Status | None = None
    """The status of `Ready`; None: unchanged."""
    unfinished: bool = False
    """A node that is ready all the same is not `Converged`: something is left there."""
    degraded: bool = False
    stalled: bool = False
    paused: bool = False


def of_node(facts: NodeFacts) -> Conditions:
    """Return the conditions of a node; the gravest finding gives a condition's reason."""
    found = list(_findings(facts))
    state = f"reconciled with its newest desired state (generation {facts.generation})"
    converged = Condition(Status.TRUE, Reason.CONVERGED, f"{state}: nothing to do")
    for finding in found:
        if finding.unfinished:
            converged = Condition(Status.TRUE, finding.reason, f"{state}; {finding.message}")
            break
    state = "nothing on the node is known to be wrong"
    undegraded = Condition(Status.FALSE, Reason.NOTHING_WRONG, state)
    state = "the operator needs no help with this node"
    progressing = Condition(Status.FALSE, Reason.PROGRESSING, state)
    not_paused = Condition(Status.FALSE, Reason.NOT_PAUSED, "the node is reconciled")
    # What was seen last counts. If that was nothing bad, and nobody looks now, it is unknown.
    unseen = [finding for finding in found if finding.ready is Status.UNKNOWN]
    undegraded = _first(unseen, Status.UNKNOWN, undegraded)
    ready = (Condition(row.ready, row.reason, row.message) for row in found if row.ready)
    return {
        Type.READY: next(ready, converged),
        Type.DEGRADED: _first([row for row in found if row.degraded], Status.TRUE, undegraded),
        Type.STALLED: _first([row for row in found if row.stalled], Status.TRUE, progressing),
        Type.PAUSED: _first([row for row in found if row.paused], Status.TRUE, not_paused),
    }


def _first(findings: Sequence[_Finding], status: Status, default: Condition) -> Condition:
    return Condition(status, findings[0].reason, findings[0].message) if findings else default


def _findings(facts: NodeFacts) -> Iterator[_Finding]:
    """Yield what is wrong, the gravest first: what hides most of the rest."""
    if pauses := _pauses(facts):
        # Its worker is not asked, so its silence means nothing.
        yield from _left_alone(pauses)
    else:
        yield from _unreachable(facts)
        yield from _unfinished(facts)
    yield from _seen_there(facts)


def _pauses(facts: NodeFacts) -> Sequence[Hold]:
    return [hold for hold in facts.holds if hold.reason is HeldBack.PAUSE]


def _left_alone(pauses: Sequence[Hold]) -> Iterator[_Finding]:
    for hold in pauses:
        reason = Reason.PAUSED
        if hold.where == CLUSTER:
            reason = Reason.CLUSTER_PAUSED
        elif hold.by is not None and hold.by.startswith(LABEL):
            reason = Reason.IGNORED_BY_LABEL
        message = f"{hold}; {hold.until}"
        yield _Finding(reason, message, Status.UNKNOWN, paused=True)


def _unreachable(facts: NodeFacts) -> Iterator[_Finding]:
    # In the other states (`unknown`, `disconnected`) a node may work: its worker shows.
    if facts.state == "down":
        message = (
            "the Swarm reported the node as down when it was last read "
            f"({format_time(facts.unread_since)}), and cannot be read now"
            if facts.unread_since is not None
            else "the Swarm reports this id of the node as down, and a node with its hostname and address is "
            f"there as {facts.joined_again_as}: it left the Swarm and joined again; remove the old id: "
            f"`docker node rm {facts.id}`"
            if facts.joined_again_as is not None
            else "the Swarm reports the node as down, but its worker still reports: the host is up and "
            "dockerd is not, so start dockerd there (`systemctl start docker`)"
            if facts.reports
            else "the Swarm reports the node as down: start it, or dockerd on it; only if it never comes "
            f"back: `docker node rm {facts.id}`"
        )
        # A former id waits for nothing: the node is there under its new one.
        stalled = facts.joined_again_as is None
        yield _Finding(Reason.NODE_DOWN, message, Status.UNKNOWN, stalled=stalled)
    lost = facts.last_run is RunState.LOST
    if facts.broker is not None:
        # The silence of a worker says nothing while nobody could hear it.
        message = f"nothing is known of the node now: {facts.broker.message}"
        yield _Finding(Reason(facts.broker.reason), message, Status.UNKNOWN)
    elif facts.untrusted and _is_unheard(facts, lost=lost):
        yield _Finding(Reason.KEY_UNTRUSTED, _key(facts), Status.UNKNOWN, stalled=True)
    elif (served := _other_id(facts)) is not None:
        message = (
            f"a worker runs on this node and serves the id {served}, which the node had before "
            f"it left and joined the Swarm: restart that worker with VXLAN_OPERATOR_NODE_ID={facts.id}"
        )
        reason = Reason.NEVER_SEEN if facts.seen_at is None else Reason.WORKER_AWAY
        yield _Finding(reason, message, Status.UNKNOWN, stalled=True)
    elif facts.sign is not None:
        yield _Finding(Reason.WORKER_AWAY, _silence(facts.sign), Status.UNKNOWN, stalled=True)
    elif facts.seen_at is None:
        message = (
            "no worker has ever reported from this node: start vxlan-worker there, "
            "and check in its log that it reaches the broker"
        )
        yield _Finding(Reason.NEVER_SEEN, message, Status.UNKNOWN, stalled=True)
    elif _is_unheard(facts, lost=lost):
        silence = (
            f"{facts.failures} runs in a row brought no report"
            if lost and facts.failures >= MAX_FAILURES
            else f"its worker has reported nothing since {format_time(facts.seen_at)}"
        )
        message = (
            f"{silence}: check that vxlan-worker runs on the node, that its clock is right, that the "
            "broker answers, and that `vxlan-worker key` there shows the controllers' key of `vxctl keys`"
        )
        yield _Finding(Reason.WORKER_AWAY, message, Status.UNKNOWN, stalled=True)
    elif facts.stale:
        message = (
            f"last looked at {format_time(facts.seen_at)}, and the controller has listened only for "
            "a moment: the next run shows"
        )
        yield _Finding(Reason.NOT_LOOKED_AT, message, Status.UNKNOWN)
    elif lost:
        message = (
            "the last run brought no report by its deadline, and is tried again: nothing to do yet"
        )
        yield _Finding(Reason.RUNS_LOST, message, Status.UNKNOWN)


def _is_unheard(facts: NodeFacts, *, lost: bool) -> bool:
    """Whether nothing that counts has come from the node's worker for too long."""
    in_vain = lost and facts.failures >= MAX_FAILURES
    return facts.sign is not None or facts.seen_at is None or facts.silent or in_vain


def _key(facts: NodeFacts) -> str:
    key = facts.untrusted[0]
    more = f" (and {len(facts.untrusted) - 1} more)" if len(facts.untrusted) > 1 else ""
    trust = f"`vxctl node trust {facts.typed} {key}`"
    if facts.revoked:
        return (
            f"what calls itself this node's worker signs with the key {key}, which was revoked{more}, so "
            "what it says does nothing: if that key may be in other hands, remove node.key on the node, "
            f"restart its worker, and trust the new key; if it was revoked by mistake: {trust}"
        )
    return (
        f"what calls itself this node's worker signs with the key {key}, for which nobody vouches{more}, "
        f"so what it says does nothing: if `vxlan-worker key` on the node shows that key, {trust}; the key "
        "of a second `vxlan-worker key rotate` within ten minutes is taken by itself once they are over"
    )


def _kept(facts: NodeFacts, kept: Unreplaced) -> str:
    said = [text for text in facts.limitations if text.startswith(KEY_KEPT)]
    why = f"it says that {quoted(said[0])}" if said else "its log may say why"
    return (
        f"its worker was asked at {format_time(kept.asked_at)} to replace the key {kept.key}, and has not: "
        f"{why}; `vxctl node rotate {facts.typed} --withdraw` lets it keep the key"
    )


def _other_id(facts: NodeFacts) -> str | None:
    """Return the id that the worker on this node serves, if that is another than the node's."""
    if facts.sign is not None:
        return None if facts.sign.serves == facts.id else facts.sign.serves
    return facts.served_as


def _silence(sign: Sign) -> str:
    """Describe the end of a worker as it was seen."""
    at = "" if sign.at is None else f" at {format_time(sign.at)}"
    if sign.ended:
        return f"its worker was stopped{at}: start vxlan-worker on the node"
    last = f"the last came{at}" if at else f"none has come since {format_time(sign.since)}"
    return (
        f"its worker gives no sign of life, which is due every {sign.every:g} s; {last}: "
        "look on the node whether vxlan-worker runs, whether the clock is right, and in the log whether it "
        "reaches the broker"
    )


def _unfinished(facts: NodeFacts) -> Iterator[_Finding]:
    error = quoted(facts.last_error or "no reason was reported")
    stalled = facts.failures >= MAX_FAILURES
    if facts.last_run is RunState.FAILED:
        message = f"the last run failed: {error}; it is tried again, but fix the cause"
        yield _Finding(Reason.RUN_FAILED, message, Status.FALSE, degraded=True, stalled=stalled)
    if facts.last_run is RunState.REFUSED:
        message = (
            f"the worker refused the last request: {error}; "
            "if this stays, compare the clocks of node and controller"
        )
        yield _Finding(Reason.RUN_REFUSED, message, Status.UNKNOWN, stalled=stalled)
    if facts.converged_generation < facts.generation:
        message = (
            f"its networks changed (generation {facts.generation}, reconciled: "
            f"{facts.converged_generation}): a run is {'under way' if facts.running else 'due'}"
        )
        yield _Finding(Reason.NOT_CONVERGED, message, Status.FALSE)


def _seen_there(facts: NodeFacts) -> Iterator[_Finding]:
    if facts.conflicts:
        message = (
            f"{counted(facts.conflicts, 'device')} of other software holds a VNI that a network of "
            "this node needs: move that software to another VNI or port "
            f"(`vxctl get devices --node {facts.typed} --verdict conflict`)"
        )
        yield _Finding(Reason.DEVICE_CONFLICT, message, Status.FALSE, degraded=True)
    yield from _held(facts)
    yield from _left(facts)
    yield from _rejecting(facts)
    if facts.lookalikes:
        message = (
            f"{counted(facts.lookalikes, 'device')} without proof of being dead: not removed; "
            f"`vxctl describe node {facts.typed}` shows the proof that is missing"
        )
        yield _Finding(Reason.LOOKS_DEAD, message, unfinished=True, degraded=True)
    if facts.missing:
        message = (
            f"no device for {named(facts.missing)}, whose tasks run here: "
            "look at Docker's log on the node (`journalctl -u docker`)"
        )
        yield _Finding(Reason.NETWORK_WITHOUT_DEVICE, message, Status.FALSE, degraded=True)
    if facts.unreplaced is not None and not _pauses(facts):
        # The worker of a paused node is not asked.
        yield _Finding(Reason.KEY_NOT_REPLACED, _kept(facts, facts.unreplaced), degraded=True)
    if facts.dropped_since is not None:
        message = (
            f"its worker has sent more than any honest one does, and messages of it are dropped since "
            f"{format_time(facts.dropped_since)}: find out what uses node.key on the node; `vxctl node keys "
            f"{facts.typed}` shows the key, to be revoked if it is in other hands"
        )
        yield _Finding(Reason.TOO_MANY_MESSAGES, message, degraded=True)
    if facts.limitations:
        limitations = quoted("; ".join(facts.limitations))
        message = f"its worker cannot see or do everything: {limitations}"
        yield _Finding(Reason.WORKER_LIMITED, message, degraded=True)


def _left(facts: NodeFacts) -> Iterator[_Finding]:
    """Yield why orphans are not removed: by whom, since when, why, and what ends it."""
    tripped = [hold for hold in facts.holds if hold.reason is HeldBack.BREAKER]
    if not facts.orphans and not tripped:
        return
    left = f"not removed: {counted(facts.orphans, 'orphan')} ({facts.blocking} blocking)"
    if not facts.orphans:
        left = "nothing is removed here"
    causes = [(hold, facts.orphans) for hold in facts.holds] + list(facts.held)
    if causes:
        message = left + listed(_scoped(causes, facts.orphans))
    else:
        message = f"{left}: nothing forbids it; `vxctl requeue {facts.typed}` starts a run now"
    observe = any(hold.reason is HeldBack.MODE for hold in facts.holds)
    reason = (
        Reason.BREAKER_TRIPPED
        if tripped
        else Reason.OBSERVE_MODE
        if observe
        else Reason.ORPHANS_LEFT
    )
    yield _Finding(
        reason,
        message,
        Status.FALSE if facts.blocking else None,
        unfinished=facts.orphans > 0,
        degraded=facts.orphans > 0,
        stalled=bool(tripped),
    )


def _scoped(causes: Sequence[tuple[Hold, int]], orphans: int) -> list[tuple[str, Hold]]:
    """Return causes in the order in which a person meets them, each with what it applies to.

    Args:
        causes: each with how many of the orphans it holds back.
    """
    for_all = all(count >= orphans for _, count in causes)
    counts = dict(causes)
    return [
        ("" if for_all else "all" if counts[hold] >= orphans else f"{counts[hold]} of them", hold)
        for hold in ordered(counts)
    ]


def _held(facts: NodeFacts) -> Iterator[_Finding]:
    """Yield VNIs that dockerd found taken by a device in use: only a person can remove that."""
    for rejecting in facts.rejecting:
        for holder in rejecting.holders:
            if holder.verdict is Verdict.IN_USE and holder.in_the_way:
                message = (
                    f"tasks of network {quoted(rejecting.network)} are rejected here "
                    f"(last {format_time(rejecting.at)}): {holder.device} {quoted(holder.reason)}"
                )
                yield _Finding(Reason.VNI_HELD, message, Status.FALSE, degraded=True, stalled=True)


_WHAT_NEXT: Final = {
    Verdict.SETTLING: "; a rejection from after it went idle proves it dead, and then it is removed: "
    "`vxctl describe node {typed}` shows what is missing",
    Verdict.ORPHAN: "; the next run removes it, unless `vxctl suppressed` names it",
}
"""By the verdict about the device that is in the way; `typed`: the node, as it can be typed."""


def _rejecting(facts: NodeFacts) -> Iterator[_Finding]:
    """Yield networks whose tasks are rejected, with the device that has the VNI."""
    for rejecting in facts.rejecting:
        if rejecting.holders:
            holder = rejecting.holders[0]
            next_ = _WHAT_NEXT.get(holder.verdict, "")
            found = (
                f"VNI {rejecting.vni} is held by {holder.device}, {holder.verdict}: "
                f"{quoted(holder.reason)}{next_.format(typed=facts.typed)}"
            )
        elif rejecting.vni is None:
            found = f"the VNI is unknown: {quoted(rejecting.doubt or '')}"
        else:
            found = (
                f"the last run saw no device with VNI {rejecting.vni}: it is gone by now, or is in a netns "
                "without an nsid, or an interface of another kind has its name "
                f"(`ip link show | grep vx-{rejecting.vni:06x}` on the node); if tasks are still "
                "rejected in a minute, restart dockerd there"
            )
        message = (
            f"tasks of network {quoted(rejecting.network)} are rejected here because of a leaked device "
            f"(last {format_time(rejecting.at)}); {found}"
        )
        yield _Finding(Reason.TASKS_REJECTED, message, Status.FALSE, degraded=True)
