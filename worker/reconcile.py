"""One run, from a request to its report: look, judge, remove, verify, report."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID, uuid5

import structlog

from contract import VERSION
from contract.messages import (
    MAX_DEVICES,
    MAX_TEXT,
    DeviceReport,
    ReconcileReport,
    ReconcileRequest,
    Rejection,
)
from contract.verdicts import HeldBack, Mode, Outcome, Stage, Verdict
from worker.allowance import Allowance, allowance
from worker.idle import ATTEMPT_SECONDS, LATE_SECONDS, IdleClock
from worker.journal import Journal, JournalError, Record
from worker.judge import Holding, Judgement, judge_minding_joins
from worker.kernel.api import Kernel, KernelError
from worker.kernel.model import Identity, VethPair, View
from worker.memory import Memory
from worker.networks import Networks
from worker.ownership import why_foreign
from worker.ports import confirmed, live_ports
from worker.proof import JOIN_PAUSE_SECONDS, Joins, RequestProver, Waits
from worker.recheck import Recheck
from worker.remove import remove, verify, was_removed
from worker.scan_journal import take_over
from worker.watch import Shown, shown_by

log = structlog.get_logger(__name__)

ENTRIES_PER_REPORT = 500
"""Maximum number of journal entries in a report: the rest follows with the next."""

CLOCKS_MAY_DIFFER = timedelta(minutes=5)
"""A request dated further ahead of our clock is refused: after it, all others would be too old."""

MAX_REQUEST_LIFETIME = timedelta(minutes=75)
"""From a request's date to its deadline: `RUN_TIMEOUT_SECONDS` is an hour at most. Else it is forged."""

FENCE_HOLDS = timedelta(minutes=5)
"""Minimum time after a leader's last request in which earlier leaders, and earlier requests of its own, are
refused, also by a worker that was restarted; longer for requests that are good for longer. Not for ever: a
controller with a new database, or one restored from a backup, counts its leaders from the beginning; and
clocks are set back."""

MISSING_FOR = timedelta(seconds=30)
"""Minimum time that a network lacks its device before that is reported: desired state may be old."""

_UNRECORDED = "the worker stopped after planning this removal, or could not record its outcome"
_STAYED: Final = {Stage.REFUSED: HeldBack.CHANGED, Stage.FAILED: HeldBack.FAILED}
"""What keeps an orphan whose removal ended so."""
_DETECTION = UUID("5f0f2f0e-3b59-5c0b-9d1c-6a8e8c0b7f11")


@dataclass(kw_only=True, eq=False)
class Reconciler:
    """Runs requests for one node, one at a time.

    Attributes:
        mode, max_removals: this node's own limits of a run; a request can only be stricter.
        boot_id: distinguishes this boot's ifindexes from another's.
        memory: what was heard before.
        data_path_port: the Swarm's, by this node's own settings; 0: none is set.
        notes: returns what a report should say besides, as limitations.
        reported: takes what a report shows of the devices.
        other_id: returns the id that this node has in its Swarm, if it is another than the one served.
    """

    node_id: str
    kernel: Kernel
    journal: Journal
    clock: IdleClock
    waits: Waits
    mode: Mode
    max_removals: int
    boot_id: str
    memory: Memory = field(default_factory=Memory)
    data_path_port: int = 0
    notes: Callable[[], Sequence[str]] = tuple
    reported: Callable[[Shown], None] = lambda _: None
    other_id: Callable[[], str | None] = lambda: None
    utcnow: Callable[[], datetime] = lambda: datetime.now(UTC)

    def __post_init__(self) -> None:
        self._detected: set[Identity] = set()
        self._pairs_since: dict[VethPair, float] = {}
        self._missing_since: dict[str, datetime] = {}
        # Celery's solo pool runs one task at a time; this holds for any other caller too.
        self._one_run = threading.Lock()

    def run(self, request: ReconcileRequest) -> ReconcileReport:
        """Carry out a request, as far as the kernel's evidence allows; a failure is in the report."""
        started = self.utcnow()
        with self._one_run, structlog.contextvars.bound_contextvars(run_id=str(request.run_id)):
            refusal = self._refusal(request, started)
            if refusal is not None:
                log.warning("request refused", reason=refusal)
                # Or it could come again after a restart, when another clock lets it in.
                self.memory.refused()
                return self._report(request, started, Outcome.REFUSED, error=refusal)
            # Before anything is done: whenever this process ends, the request is not run again.
            self.memory.ran(request.fence, request.issued_at, started)
            try:
                return self._reconcile(request, started)
            except KernelError as error:
                log.warning("cannot look at this node", error=str(error))
                return self._report(request, started, Outcome.FAILED, error=str(error))

    def _refusal(self, request: ReconcileRequest, now: datetime) -> str | None:
        if request.node_id != self.node_id:
            return f"the request is for node {request.node_id}, this is {self.node_id}"
        # What its former Swarm wants on it says nothing of the devices that are here now.
        if (other := self.other_id()) is not None:
            return (
                f"this node left the Swarm, and has the id {other} in the one it joined; set "
                "VXLAN_OPERATOR_NODE_ID to that id, or to nothing, and restart its worker"
            )
        if now > request.deadline:
            late = (now - request.deadline).total_seconds()
            return f"the request came {late:.1f} s after its deadline, or the clocks differ"
        if request.deadline - request.issued_at > MAX_REQUEST_LIFETIME:
            return "the request is valid for longer than any controller makes one"
        if request.issued_at - now > CLOCKS_MAY_DIFFER:
            ahead = (request.issued_at - now).total_seconds()
            return f"the request is dated {ahead:.0f} s ahead of this node's clock"
        return self._overtaken(request, now)

    def _overtaken(self, request: ReconcileRequest, now: datetime) -> str | None:
        """Return why a request comes too late after another; None: it does not."""
        memory = self.memory
        if memory.ran_at is None:
            return None
        since = now - memory.ran_at
        # In either direction: this machine's clock may have been set back.
        hold = FENCE_HOLDS
        if since >= timedelta(0):
            # As long as the older one is good for, or it could be kept back until the fence is down.
            hold = max(hold, request.deadline - request.issued_at)
        if abs(since) >= hold:
            return None
        if request.fence < memory.fence:
            return (
                f"the request is from a controller that no longer leads (fence {request.fence}, "
                f"after {memory.fence})"
            )
        newest = memory.issued_at
        # Only among requests of one leader: two leaders have two clocks.
        if request.fence == memory.fence and newest is not None and request.issued_at < newest:
            return "the request is older than one that was already run"
        return None

    def _reconcile(self, request: ReconcileRequest, started: datetime) -> ReconcileReport:
        # Without the capability an empty view would mean nothing.
        self.kernel.check_capability()
        # Before the look that their plans are compared with.
        unrecorded = take_over(self.journal)
        view = self.kernel.look()
        self.clock.saw(view.devices)
        port_confirmed = self._confirmed(view, request.data_path_port)
        judgements, files = self._judge(view, request)
        orphans = [judged for judged in judgements if judged.verdict is Verdict.ORPHAN]

        outcomes: dict[Judgement, Record] = {}
        left: set[Identity] = set()
        allowed = Allowance([], [])
        limitations, error = [*view.limitations, *self.notes(), *unrecorded[:1]], None
        try:
            # Before acknowledging: a plan that was reported already would be forgotten without an outcome.
            self._conclude(view)
            if request.acknowledged is not None:
                self.journal.acknowledge(request.acknowledged)
            self._record_detections(orphans, request.run_id)
            allowed = allowance(
                orphans,
                request,
                mode=self.mode,
                max_removals=self.max_removals,
                journal_full=self.journal.full,
                port_confirmed=port_confirmed,
            )
            limitations += allowed.limitations
            if allowed.remove:
                recheck = Recheck(self.kernel, request.data_path_port, self._joins)
                outcomes = remove(
                    allowed.remove, self.kernel, self.journal.append, request.run_id, recheck
                )
                # If this look fails, the next run's first look is the second.
                second = self.kernel.look()
                left = {device.identity for device in second.devices}
                self._conclude(second)
        except KernelError as failure:
            # What was removed is reported all the same, and counts.
            error = f"the second look after the removals failed: {failure}"
            log.warning("cannot verify", error=error)
        except JournalError as failure:
            error = f"{failure}; nothing is removed without a record"
            log.warning("cannot record", error=error)

        # Gone by itself: the device is not there any more, and is no removal that the breakers count.
        vanished = {orphan for orphan, last in outcomes.items() if last.stage is Stage.VANISHED}
        removed = {
            orphan
            for orphan, last in outcomes.items()
            if was_removed(last, orphan.device.identity in left)
        }
        held = dict(allowed.held) | {
            orphan: _STAYED[last.stage]
            for orphan, last in outcomes.items()
            if last.stage in _STAYED
        }
        failed = [last.reason for last in outcomes.values() if last.stage is Stage.FAILED]
        if failed and error is None:
            error = f"{len(failed)} removal(s) failed, the first: {failed[0]}"
        waits = [judged.recheck_after for judged in judgements if judged.recheck_after is not None]
        if any(last.stage is Stage.REFUSED for last in outcomes.values()):
            # It changed between the look and its removal: a look soon shows into what.
            waits.append(JOIN_PAUSE_SECONDS)
        if allowed.more and (vanished or removed):
            waits.append(0.0)
        self.reported(
            shown_by(
                judged.device
                for judged in judgements
                if judged not in vanished and judged not in removed
            )
        )
        wanted = {vni for network in request.desired for vni in network.vnis}
        return self._report(
            request,
            started,
            Outcome.DONE if error is None else Outcome.FAILED,
            error=error,
            limitations=tuple(limitations),
            missing=self._missing(view, request),
            devices=tuple(
                _device_report(judged, judged in removed, files, held.get(judged))
                for judged in judgements[:MAX_DEVICES]
                if judged not in vanished
            ),
            recheck_after=min(waits, default=None),
            wants_reading=any(judged.wants_reading for judged in judgements),
            then_run=any(
                judged.wants_reading and judged.recheck_after is None for judged in judgements
            ),
            expects_rejection=any(
                judged.verdict is Verdict.SETTLING and judged.device.identity.vni in wanted
                for judged in judgements
            ),
        )

    def _confirmed(self, view: View, port: int) -> bool:
        """Whether this node shows that a port is the Swarm's; note what it shows."""
        live = live_ports(view.devices)
        remembered = self.memory.port
        if port in live and port != remembered:
            self.memory.showed(port)
        return confirmed(port, setting=self.data_path_port, live=live, remembered=remembered)

    def _judge(
        self, view: View, request: ReconcileRequest
    ) -> tuple[list[Judgement], Mapping[int, str]]:
        """Judge devices, and note those that dockerd found in its way; return the netns files as well."""
        networks = Networks.of(request.desired, request.known, request.data_path_port)
        rejection_by = partial(self._rejection_by, request.rejections)
        # A person may want to enter the namespaces of these; opening the files takes a while.
        wants_files = any(
            not device.identity.netns.is_host
            and (device.looks_dead or rejection_by(device.identity))
            for device in view.devices
        )
        holding = Holding(rejection_by, self.kernel.sandbox_files() if wants_files else {})
        prover = RequestProver(
            clock=self.clock,
            waits=self.waits,
            reading=request.reading,
            rejections=request.rejections,
            joins={},
            now=self.utcnow(),
        )
        judgements = judge_minding_joins(
            view.devices,
            networks,
            lambda joins: replace(prover, joins=joins),
            lambda: self._joins(self.kernel.joins_under_way()),
            holding,
        )
        for judged in judgements:
            identity = judged.device.identity
            if judged.verdict is Verdict.CONFLICT or holding.rejection(identity):
                self.clock.in_the_way(identity)
        return judgements, holding.files

    def _joins(self, pairs: Iterable[VethPair]) -> Joins:
        """Take in all veth pairs of a look; return them with the seconds since the first sight."""
        now = self.clock.stamp().seconds
        self._pairs_since = {pair: self._pairs_since.get(pair, now) for pair in pairs}
        return {pair: now - since for pair, since in self._pairs_since.items()}

    def _rejection_by(
        self, rejections: Sequence[Rejection], identity: Identity
    ) -> Rejection | None:
        """Return the newest rejection that a device must be the cause of, because it was there before."""
        since, went = self.clock.seen_since(identity), self.clock.went(identity.vni)
        if since is None:
            return None
        after = since + timedelta(seconds=ATTEMPT_SECONDS)
        if went is not None:
            after = max(after, went + timedelta(seconds=LATE_SECONDS))
        now = self.utcnow()
        of_it = (
            rejection
            for rejection in rejections
            if (rejection.vni, rejection.doubt) == (identity.vni, None)
            and after < rejection.at <= now
        )
        return max(of_it, key=lambda rejection: rejection.at, default=None)

    def _record_detections(self, orphans: list[Judgement], run_id: UUID) -> None:
        """Record new orphans; their ids follow from the devices: no second audit row after a restart."""
        self.journal.append(
            Record.of(orphan, run_id, Stage.DETECTED, orphan.reason)._replace(
                id=uuid5(_DETECTION, f"{self.boot_id} {self.node_id} {orphan.device.identity}")
            )
            for orphan in orphans
            if orphan.device.identity not in self._detected
        )
        self._detected = {orphan.device.identity for orphan in orphans}

    def _missing(self, view: View, request: ReconcileRequest) -> tuple[str, ...]:
        """Return the networks with a task and no device of Docker's for longer than a start explains."""
        now = self.utcnow()
        port = request.data_path_port
        present = {one.identity.vni for one in view.devices if not why_foreign(one, port)}
        # One VNI of several is enough: Docker makes the device of a subnet for its first container.
        self._missing_since = {
            network.id: self._missing_since.get(network.id, now)
            for network in request.desired
            if network.running and present.isdisjoint(network.vnis)
        }
        return tuple(
            network
            for network, since in self._missing_since.items()
            if now - since >= max(timedelta(seconds=self.waits.grace), MISSING_FOR)
        )

    def _conclude(self, view: View) -> None:
        """Record what a look shows of earlier removals: plans without outcome, and outcomes."""
        open_ = self.journal.unconcluded()
        uncertain = [
            plan.followed_by(Stage.UNCERTAIN, _UNRECORDED)
            for plan in open_
            if plan.stage is Stage.PLANNED
        ]
        self.journal.append(uncertain + verify(open_ + uncertain, view.devices))

    def _report(
        self, request: ReconcileRequest, started: datetime, outcome: Outcome, **found: Any
    ) -> ReconcileReport:
        return ReconcileReport(
            run_id=request.run_id,
            node_id=self.node_id,
            generation=request.generation,
            worker_version=VERSION,
            max_removals=self.max_removals,
            started_at=started,
            finished_at=self.utcnow(),
            outcome=outcome,
            stamp=self.clock.stamp(),
            journal_id=self.journal.id,
            entries=tuple(self.journal.pending(ENTRIES_PER_REPORT)),
            **found,
        )


def _device_report(
    judgement: Judgement, removed: bool, files: Mapping[int, str], held_back: HeldBack | None
) -> DeviceReport:
    nsid = judgement.device.identity.netns.nsid
    return DeviceReport(
        identity=judgement.device.identity.message(),
        verdict=judgement.verdict,
        urgency=judgement.urgency,
        network_id=None if judgement.network is None else judgement.network.id,
        reason=judgement.reason[:MAX_TEXT],
        evidence=judgement.device.evidence[:MAX_TEXT],
        proof=judgement.proof,
        netns_file=None if nsid is None else files.get(nsid),
        removed=removed,
        held_back=held_back,
    )
