"""From what is known of a node to its conditions. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from contract.verdicts import Verdict
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
from controller.db.states import RunState

LOST_IN_A_ROW: Final = 3
"""After so many runs in a row that were lost or failed, more of the same will not help."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A device that has the VNI which dockerd found taken.

    Attributes:
        device: its name and place, as a person finds it.
        verdict, reason: as its worker judged it.
    """

    device: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class Rejecting:
    """A network whose tasks the node rejects with the words of the fault.

    Attributes:
        network: its name; or the subnet, where the network cannot be told.
        vni: None: it cannot be told.
        at: when the last task was rejected, by the node's clock.
        doubt: why that proves nothing about any device; None: nothing is against it.
        holders: what has the VNI, as the node's last report shows.
    """

    network: str
    vni: int | None
    at: datetime
    doubt: str | None = None
    holders: Sequence[Holder] = ()


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
        lookalikes: devices that have looked dead for a while, without proof.
        rejecting: networks whose tasks the node rejects with the words of the fault.
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
    limitations: Sequence[str] = ()
    breaker: str | None = None
    observe: bool = False
    conflicts: int = 0
    blocking: int = 0
    orphans: int = 0
    lookalikes: int = 0
    rejecting: Sequence[Rejecting] = ()


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
            f"the whole cluster is paused {quoted(facts.cluster_paused)}: "
            "`vxctl resume --cluster` when that is done",
            ready=Status.UNKNOWN,
            paused=True,
        )
    if facts.paused is not None:
        yield _Finding(
            Reason.PAUSED,
            f"paused {quoted(facts.paused)}: `vxctl resume` this node when that is done",
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
    # In its other states (`unknown`, `disconnected`) a node may well work: its worker tells.
    if facts.state == "down":
        yield _Finding(
            Reason.NODE_DOWN,
            "the Swarm says that the node is down: start it, or `docker node rm` it",
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
                else f"its worker has reported nothing since {format_time(facts.seen_at)}"
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
            f"the last run failed: {quoted(facts.last_error or 'without saying why')}; "
            "it is tried again, but mend what it names",
            ready=Status.FALSE,
            degraded=True,
            stalled=facts.failures >= LOST_IN_A_ROW,
        )
    if facts.last_run is RunState.REFUSED:
        yield _Finding(
            Reason.RUN_REFUSED,
            f"the worker refused the last request: {quoted(facts.last_error or 'it did not say why')}; "
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
            f"{counted(facts.conflicts, 'device')} of other software holds a VNI that a network of "
            "this node needs: move that software to another VNI or port (`vxctl get devices`)",
            ready=Status.FALSE,
            degraded=True,
        )
    yield from _held(facts)
    left = f"{counted(facts.orphans, 'orphan')} ({facts.blocking} blocking)"
    rejects = Status.FALSE if facts.blocking else None
    if facts.breaker is not None:
        yield _Finding(
            Reason.BREAKER_TRIPPED,
            f"the breaker stopped removals here: {quoted(facts.breaker)}; "
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
    yield from _rejecting(facts)
    if facts.lookalikes:
        yield _Finding(
            Reason.LOOKS_DEAD,
            f"{counted(facts.lookalikes, 'device')} without proof of being dead: not removed; "
            "`vxctl describe node` says what is waited for",
            degraded=True,
        )
    if facts.missing:
        yield _Finding(
            Reason.NETWORK_WITHOUT_DEVICE,
            f"no device for {named(facts.missing)}, whose tasks run here: "
            "look at Docker's log on the node",
            ready=Status.FALSE,
            degraded=True,
        )
    if facts.limitations:
        yield _Finding(
            Reason.WORKER_LIMITED,
            f"its worker sees or does not all: {quoted('; '.join(facts.limitations))}",
            degraded=True,
        )


def _held(facts: NodeFacts) -> Iterator[_Finding]:
    """What dockerd found taken by a device that is not removed by itself: a person is needed."""
    for each in facts.rejecting:
        for holder in each.holders:
            if holder.verdict is Verdict.IN_USE:
                yield _Finding(
                    Reason.VNI_HELD,
                    f"tasks of network {quoted(each.network)} are rejected here "
                    f"(last {format_time(each.at)}): {holder.device} {quoted(holder.reason)}",
                    ready=Status.FALSE,
                    degraded=True,
                    stalled=True,
                )


def _rejecting(facts: NodeFacts) -> Iterator[_Finding]:
    """Tasks that the node rejects, and what has the VNI."""
    for each in facts.rejecting:
        rejected = (
            f"tasks of network {quoted(each.network)} are rejected here because of a leaked device "
            f"(last {format_time(each.at)})"
        )
        if each.holders:
            holder = each.holders[0]
            found = f"VNI {each.vni} is held by {holder.device}, {holder.verdict}: {quoted(holder.reason)}"
        elif each.vni is None:
            found = f"which VNI it is about cannot be told: {quoted(each.doubt or '')}"
        else:
            found = (
                f"no device with VNI {each.vni} was seen at the last look: it is gone by now, or hides in a "
                "namespace that this host has no number for, or an interface of another kind has its name "
                f"(`ip link show | grep vx-{each.vni:06x}` on the node); if tasks are still rejected in a "
                "minute, restart dockerd there"
            )
        yield _Finding(
            Reason.TASKS_REJECTED, f"{rejected}; {found}", ready=Status.FALSE, degraded=True
        )
