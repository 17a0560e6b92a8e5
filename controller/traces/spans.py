"""The spans of a run: from the rejection of a task to the task that runs again. Pure.

Ids follow from what a span is about. So a span that is made twice, by two controllers say, is the same span,
and one that is made later finds its parent.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from contract.messages import DeviceIdentity
from contract.verdicts import Stage
from controller.db.models import Rejection, Run
from controller.db.states import RunState
from controller.traces.clocks import NO_SHIFT, NodeClock
from controller.traces.finished import Finished, Removal
from controller.workqueue.priorities import Priority

MAX_REJECTIONS: Final = 10
"""Spans of rejections in a trace: as many as stay open of a VNI."""

PREFIX: Final = "vxlan_operator."

Value = str | bool | int | float | Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A span; times by the controller's clock, or shifted to it.

    Attributes:
        parent: id of the span that it is part of; None: it is the trace's root.
        events: times by name.
        error: why what it shows failed; None: it did not.
    """

    trace_id: UUID
    id: bytes
    parent: bytes | None
    name: str
    start: datetime
    end: datetime
    attributes: Mapping[str, Value]
    events: Mapping[str, datetime] = field(default_factory=dict)
    error: str | None = None


def span_id(run_id: UUID, about: str) -> bytes:
    """Return the id of a run's span, of 8 bytes; `about` is unique in the trace."""
    return hashlib.sha256(run_id.bytes + about.encode()).digest()[:8]


@dataclass(frozen=True, slots=True)
class Subject:
    """A run with what the database has of it.

    Attributes:
        node_name: the hostname of its node.
        rejections: those that its request had, or whose device it removed; the oldest first.
        networks: network ids to names.
    """

    run: Run
    node_name: str
    rejections: Sequence[Rejection]
    networks: Mapping[str, str]


def of_run(subject: Subject, finished: Finished | None) -> list[Span]:
    """Return the spans of a run that is closed; `finished`: None if no report came."""
    return [*_Spans(subject, finished).make()]


def of_recovery(subject: Subject, rejection: Rejection, now: datetime) -> Span | None:
    """Return the span from a removal to the task that runs again; None: that is not known.

    Args:
        now: when that was read.
    """
    run = subject.run
    removed_at, running_at = rejection.removed_at, rejection.running_at
    if removed_at is None or running_at is None or run.closed_at is None:
        return None
    begin, end = run.started_at or run.requested_at, run.finished_at or run.closed_at
    clock = NodeClock.of(begin, end, run.requested_at, run.closed_at)
    start = clock.at(removed_at)
    shown = clock.at(running_at, earliest=start, latest=max(start, now))
    return Span(
        trace_id=run.id,
        id=span_id(run.id, f"running {rejection.task_id}"),
        parent=span_id(run.id, "run"),
        name="task runs again",
        start=start,
        end=shown,
        attributes=_on(subject) | _rejected(subject, rejection) | _shown(clock, running_at, shown),
    )


class _Spans:
    """Makes the spans of one run."""

    def __init__(self, subject: Subject, finished: Finished | None) -> None:
        run = subject.run
        self._subject, self._run, self._finished = subject, run, finished
        end = run.closed_at or run.deadline
        if finished is not None:
            # A report that came after its run was lost belongs to its trace all the same.
            end = max(end, finished.stored_at)
        self._end = max(run.requested_at, end)
        self._clock = (
            NodeClock(NO_SHIFT, run.requested_at, self._end)
            if finished is None
            else NodeClock.of(
                finished.started_at, finished.finished_at, run.requested_at, self._end
            )
        )
        self._root = span_id(run.id, "run")

    def make(self) -> Iterator[Span]:
        run, subject = self._run, self._subject
        rejections = [*self._rejections()]
        due_at = min(run.due_at or run.requested_at, run.requested_at)
        yield Span(
            trace_id=run.id,
            id=self._root,
            parent=None,
            name="run",
            start=min([due_at, *(span.start for span in rejections), *self._first_rejected()]),
            end=self._end,
            attributes=_on(subject)
            | {
                "run.state": run.state.value,
                "run.priority": Priority(run.priority).name.lower(),
                "run.reasons": tuple(run.reasons),
                "run.actor": run.actor,
                "run.generation": run.generation,
                "run.devices": run.devices,
                "run.orphans": run.orphans,
                "run.removed": run.removed,
                "node_clock.shift_seconds": self._clock.shift.total_seconds(),
            },
            error=_error(run),
        )
        yield from rejections
        yield self._part("due", due_at, run.requested_at)
        yield from self._parts_after_claim()

    def _first_rejected(self) -> Iterator[datetime]:
        """When the first of the rejections in a row came, of which only the newest are here."""
        for rejection in self._subject.rejections:
            if rejection.first_at is not None:
                yield min(rejection.first_at + self._clock.shift, rejection.seen_at)

    def _rejections(self) -> Iterator[Span]:
        subject = self._subject
        for rejection in subject.rejections[:MAX_REJECTIONS]:
            # All before the run; the reading that had it came after it.
            at = min(rejection.at + self._clock.shift, rejection.seen_at)
            yield self._part(
                "task rejected",
                at,
                rejection.seen_at,
                _rejected(subject, rejection) | _shown(self._clock, rejection.at, at),
                about=f"rejected {rejection.task_id}",
                error=rejection.error,
            )

    def _parts_after_claim(self) -> Iterator[Span]:
        run, finished = self._run, self._finished
        if finished is None:
            yield self._part("sent", run.requested_at, self._end, error=_error(run))
            return
        start, end = self._clock.at(finished.started_at), self._clock.at(finished.finished_at)
        sent_at = finished.sent_at
        published = {} if sent_at is None else {"taken by the broker": min(sent_at, start)}
        yield self._part("sent", run.requested_at, start, events=published)
        look = span_id(run.id, "look")
        shift = _shown(self._clock, finished.started_at, start)
        yield self._part("look", start, end, shift | {"removals_without_span": finished.more})
        for removal in finished.removals:
            yield self._removal(removal, look, start, end)
        yield from self._verified(finished, look, start, end)
        yield self._part("report", end, self._end)

    def _removal(self, removal: Removal, look: bytes, start: datetime, end: datetime) -> Span:
        first, outcome, subject = removal.first, removal.outcome, self._subject
        begin = self._clock.at(first.at, start, end)
        last = end if outcome is None else self._clock.at(outcome.at, begin, end)
        failed = outcome is not None and outcome.stage in (Stage.FAILED, Stage.UNCERTAIN)
        said = outcome or first
        return self._part(
            "removal",
            begin,
            last,
            _device(first.identity)
            | _network(subject, first.network_id)
            | {
                "removal.stage": said.stage.value,
                "removal.reason": said.reason,
                "device.urgency": first.urgency.value,
                "device.evidence": first.evidence,
            }
            | _shown(self._clock, first.at, begin),
            about=f"removal {first.identity}",
            parent=look,
            error=said.reason if failed else None,
        )

    def _verified(
        self, finished: Finished, look: bytes, start: datetime, end: datetime
    ) -> Iterator[Span]:
        """From the last removal to the second look, if there was one."""
        checks = [removal.check for removal in finished.removals if removal.check is not None]
        if not checks:
            return
        outcomes = [removal.outcome.at for removal in finished.removals if removal.outcome]
        begin = self._clock.at(max(outcomes, default=finished.started_at), start, end)
        last = self._clock.at(max(check.at for check in checks), begin, end)
        lingering = sum(check.stage is Stage.LINGERING for check in checks)
        yield self._part(
            "verified",
            begin,
            last,
            {"verified.gone": len(checks) - lingering, "verified.lingering": lingering},
            parent=look,
            error=f"{lingering} device(s) still there" if lingering else None,
        )

    def _part(
        self,
        name: str,
        start: datetime,
        end: datetime,
        attributes: Mapping[str, Value] | None = None,
        *,
        about: str = "",
        parent: bytes | None = None,
        events: Mapping[str, datetime] | None = None,
        error: str | None = None,
    ) -> Span:
        return Span(
            trace_id=self._run.id,
            id=span_id(self._run.id, about or name),
            parent=parent or self._root,
            name=name,
            start=start,
            end=max(start, end),
            attributes=attributes or {},
            events=events or {},
            error=error,
        )


def _error(run: Run) -> str | None:
    return None if run.state is RunState.SUCCEEDED else run.error or run.state.value


def _on(subject: Subject) -> dict[str, Value]:
    return {"node.id": subject.run.node_id, "node.name": subject.node_name}


def _network(subject: Subject, network_id: str | None) -> dict[str, Value]:
    if network_id is None:
        return {}
    return {"network.id": network_id, "network.name": subject.networks.get(network_id, "")}


def _rejected(subject: Subject, rejection: Rejection) -> dict[str, Value]:
    found: dict[str, Value] = {"task.id": rejection.task_id} | _network(
        subject, rejection.network_id
    )
    if rejection.service_id is not None:
        found["service.id"] = rejection.service_id
    if rejection.vni is not None:
        found["vni"] = rejection.vni
    return found


def _device(identity: DeviceIdentity) -> dict[str, Value]:
    return {
        "device.netns": identity.netns,
        "device.ifindex": identity.ifindex,
        "device.name": identity.name,
        "device.port": identity.port,
        "vni": identity.vni,
    }


def _shown(clock: NodeClock, said: datetime, shown: datetime) -> dict[str, Value]:
    """What a node's clock said, where another time is shown."""
    if said == shown:
        return {}
    found: dict[str, Value] = {"node_clock.said": said.astimezone(UTC).isoformat()}
    if shown - said != clock.shift:
        found["node_clock.cut_seconds"] = (shown - said - clock.shift) / timedelta(seconds=1)
    return found
