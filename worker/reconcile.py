"""One run, from a request to its report: look, judge, remove, verify, report."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
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
from contract.verdicts import Mode, Outcome, Stage, Verdict
from worker.allowance import Allowance, allowance
from worker.idle import ATTEMPT_SECONDS, LATE_SECONDS, IdleClock
from worker.joins import JoinClock
from worker.journal import Journal, JournalError, Record
from worker.judge import Holding, Judgement, judge_minding_joins, without_device
from worker.kernel.api import Kernel, KernelError
from worker.kernel.model import Identity, View
from worker.networks import Networks
from worker.proof import JOIN_PAUSE_SECONDS, RequestProver, Waits
from worker.remove import remove, verify, was_removed

log = structlog.get_logger(__name__)

ENTRIES_PER_REPORT = 500
"""Maximum number of journal entries in a report: the rest follows with the next."""

CLOCKS_MAY_DIFFER = timedelta(minutes=5)
"""A request dated further ahead of our clock is refused: after it, all others would be too old."""

MAX_REQUEST_LIFETIME = timedelta(minutes=75)
"""From a request's date to its deadline: `RUN_TIMEOUT_SECONDS` is an hour at most. Else it is forged."""

FENCE_HOLDS = timedelta(minutes=5)
"""Time after a leader's last request in which earlier leaders are refused.

Not for ever: a controller with a new database counts its leaders from the beginning.
"""

MISSING_FOR = timedelta(seconds=30)
"""Minimum time that a network lacks its device before that is reported: desired state may be old."""

_UNRECORDED = "the worker stopped after planning this removal, or could not record its outcome"
_DETECTION = UUID("5f0f2f0e-3b59-5c0b-9d1c-6a8e8c0b7f11")


class Reconciler:
    """Runs requests for one node, one at a time.

    Args:
        node_id: the Swarm id of this node.
        kernel: where to look and act.
        journal: where to record before acting.
        clock: since when devices are idle.
        waits: minimum times of idleness.
        mode: of this node; the request can only be stricter.
        max_removals: maximum number of removals a run.
        boot_id: distinguishes this boot's ifindexes from another's.
        utcnow: the time of day.
    """

    def __init__(
        self,
        *,
        node_id: str,
        kernel: Kernel,
        journal: Journal,
        clock: IdleClock,
        waits: Waits,
        mode: Mode,
        max_removals: int,
        boot_id: str,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._node_id = node_id
        self._kernel = kernel
        self._journal = journal
        self._clock = clock
        self._waits = waits
        self._mode = mode
        self._max_removals = max_removals
        self._boot_id = boot_id
        self._utcnow = utcnow
        self._fence = 0
        self._last_request_at: datetime | None = None
        self._newest_issued_at: datetime | None = None
        self._detected: set[Identity] = set()
        self._joins = JoinClock(clock)
        self._missing_since: dict[str, datetime] = {}
        # Celery's solo pool runs one task at a time; this holds for any other caller too.
        self._one_run = threading.Lock()

    def run(self, request: ReconcileRequest) -> ReconcileReport:
        """Carry out a request, as far as the kernel's evidence allows; a failure is in the report."""
        started = self._utcnow()
        with self._one_run, structlog.contextvars.bound_contextvars(run_id=str(request.run_id)):
            refusal = self._refusal(request, started)
            if refusal is not None:
                log.warning("request refused", reason=refusal)
                return self._report(request, started, Outcome.REFUSED, error=refusal)
            self._fence, self._last_request_at = request.fence, started
            self._newest_issued_at = request.issued_at
            try:
                return self._reconcile(request, started)
            except KernelError as error:
                log.warning("cannot look at this node", error=str(error))
                return self._report(request, started, Outcome.FAILED, error=str(error))

    def _refusal(self, request: ReconcileRequest, now: datetime) -> str | None:
        if request.node_id != self._node_id:
            return f"the request is for node {request.node_id}, this is {self._node_id}"
        if now > request.deadline:
            late = (now - request.deadline).total_seconds()
            return f"the request came {late:.1f} s after its deadline, or the clocks differ"
        if request.deadline - request.issued_at > MAX_REQUEST_LIFETIME:
            return "the request is valid for longer than any controller makes one"
        if request.issued_at - now > CLOCKS_MAY_DIFFER:
            ahead = (request.issued_at - now).total_seconds()
            return f"the request is dated {ahead:.0f} s ahead of this node's clock"
        if self._last_request_at is not None and request.fence < self._fence:
            if now - self._last_request_at < FENCE_HOLDS:
                return (
                    f"the request is from a controller that no longer leads (fence {request.fence}, "
                    f"after {self._fence})"
                )
            return None
        newest = self._newest_issued_at
        # Only among requests of one leader: two leaders have two clocks.
        if request.fence == self._fence and newest is not None and request.issued_at < newest:
            return "the request is older than one that was already run"
        return None

    def _reconcile(self, request: ReconcileRequest, started: datetime) -> ReconcileReport:
        # Without the capability an empty view would mean nothing.
        self._kernel.check_capability()
        view = self._kernel.look()
        self._clock.saw(view.devices)
        files = self._files(view, request)
        judgements = self._judge(view, request, files)
        orphans = [judged for judged in judgements if judged.verdict is Verdict.ORPHAN]

        outcomes: dict[Judgement, Record] = {}
        left: set[Identity] = set()
        allowed = Allowance([], [])
        limitations, error = list(view.limitations), None
        try:
            # Before acknowledging: a plan that was reported already would be forgotten without an outcome.
            self._conclude(view)
            if request.acknowledged is not None:
                self._journal.acknowledge(request.acknowledged)
            self._record_detections(orphans, request.run_id)
            allowed = allowance(
                orphans,
                request,
                mode=self._mode,
                max_removals=self._max_removals,
                journal_full=self._journal.full,
            )
            limitations += allowed.limitations
            if allowed.remove:
                outcomes = remove(
                    allowed.remove,
                    self._kernel,
                    self._journal,
                    request.run_id,
                    request.data_path_port,
                    joins=self._joins.saw,
                )
                # If this look fails, the next run's first look is the second.
                second = self._kernel.look()
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
        vanished = {
            orphan for orphan, outcome in outcomes.items() if outcome.stage is Stage.VANISHED
        }
        removed = {
            orphan
            for orphan, outcome in outcomes.items()
            if was_removed(outcome, orphan.device.identity in left)
        }
        failed = [outcome for outcome in outcomes.values() if outcome.stage is Stage.FAILED]
        if failed and error is None:
            error = f"{len(failed)} removal(s) failed, the first: {failed[0].reason}"
        wanted = {vni for network in request.desired for vni in network.vnis}
        return self._report(
            request,
            started,
            Outcome.DONE if error is None else Outcome.FAILED,
            error=error,
            limitations=tuple(limitations),
            missing=self._missing(view, request),
            devices=tuple(
                _device_report(judged, judged in removed, files)
                for judged in judgements[:MAX_DEVICES]
                if judged not in vanished
            ),
            recheck_after=0.0
            if allowed.more and (vanished or removed)
            else _recheck_after(judgements, outcomes.values()),
            wants_reading=any(judged.wants_reading for judged in judgements),
            then_run=any(
                judged.wants_reading and judged.recheck_after is None for judged in judgements
            ),
            expects_rejection=any(
                judged.verdict is Verdict.SETTLING and judged.device.identity.vni in wanted
                for judged in judgements
            ),
        )

    def _judge(
        self, view: View, request: ReconcileRequest, files: Mapping[int, str]
    ) -> list[Judgement]:
        """Judge the devices of a look, and note those that dockerd found in its way."""
        networks = Networks.of(request.desired, request.known, request.data_path_port)
        holding = Holding(partial(self._rejection_by, request.rejections), files)
        prover = RequestProver(
            clock=self._clock,
            waits=self._waits,
            reading=request.reading,
            rejections=request.rejections,
            joins={},
            now=self._utcnow(),
        )
        judgements = judge_minding_joins(
            view.devices,
            networks,
            lambda joins: replace(prover, joins=joins),
            lambda: self._joins.saw(self._kernel.joins_under_way()),
            holding,
        )
        for judged in judgements:
            identity = judged.device.identity
            if judged.verdict is Verdict.CONFLICT or holding.rejection(identity):
                self._clock.in_the_way(identity)
        return judgements

    def _files(self, view: View, request: ReconcileRequest) -> Mapping[int, str]:
        """Map nsids to files, if a person may want to enter a namespace; opening them takes a while."""
        for device in view.devices:
            if not device.identity.netns.is_host and (
                device.looks_dead or self._rejection_by(request.rejections, device.identity)
            ):
                return self._kernel.sandbox_files()
        return {}

    def _rejection_by(
        self, rejections: Sequence[Rejection], identity: Identity
    ) -> Rejection | None:
        """Return the newest rejection that a device must be the cause of, because it was there before."""
        since = self._clock.seen_since(identity)
        went = self._clock.went(identity.vni)
        now = self._utcnow()

        def is_about_it(rejection: Rejection) -> bool:
            at = rejection.at
            return (
                rejection.vni == identity.vni
                and rejection.doubt is None
                and at <= now
                and since is not None
                and at - since > timedelta(seconds=ATTEMPT_SECONDS)
                and (went is None or at - went > timedelta(seconds=LATE_SECONDS))
            )

        return max(filter(is_about_it, rejections), key=lambda one: one.at, default=None)

    def _record_detections(self, orphans: list[Judgement], run_id: UUID) -> None:
        """Record the orphans that were not orphans before.

        The id follows from the device, so that a restarted worker cannot make a second audit row.
        """
        self._journal.append(
            Record.of(orphan, run_id, Stage.DETECTED, orphan.reason)._replace(
                id=uuid5(_DETECTION, f"{self._boot_id} {self._node_id} {orphan.device.identity}")
            )
            for orphan in orphans
            if orphan.device.identity not in self._detected
        )
        self._detected = {orphan.device.identity for orphan in orphans}

    def _missing(self, view: View, request: ReconcileRequest) -> tuple[str, ...]:
        """Return the networks without a device for longer than a start, or old desired state, explains."""
        now = self._utcnow()
        self._missing_since = {
            network.id: self._missing_since.get(network.id, now)
            for network in without_device(view.devices, request.desired)
        }
        return tuple(
            network
            for network, since in self._missing_since.items()
            if now - since >= max(timedelta(seconds=self._waits.grace), MISSING_FOR)
        )

    def _conclude(self, view: View) -> None:
        """Record what a look shows of earlier removals: their plans without outcome, and outcomes."""
        open_ = self._journal.unconcluded()
        uncertain = [
            plan.followed_by(Stage.UNCERTAIN, _UNRECORDED)
            for plan in open_
            if plan.stage is Stage.PLANNED
        ]
        self._journal.append(uncertain + verify(open_ + uncertain, view.devices))

    def _report(
        self, request: ReconcileRequest, started: datetime, outcome: Outcome, **found: Any
    ) -> ReconcileReport:
        """Make the report; `found`: its fields from a look, and the error."""
        return ReconcileReport(
            run_id=request.run_id,
            node_id=self._node_id,
            generation=request.generation,
            worker_version=VERSION,
            started_at=started,
            finished_at=self._utcnow(),
            outcome=outcome,
            stamp=self._clock.stamp(),
            journal_id=self._journal.id,
            entries=tuple(self._journal.pending(ENTRIES_PER_REPORT)),
            **found,
        )


def read_boot_id(path: Path = Path("/proc/sys/kernel/random/boot_id")) -> str:
    """Read the kernel's random id of this boot (man 4 random)."""
    return path.read_text().strip()


def _recheck_after(judgements: Iterable[Judgement], outcomes: Iterable[Record]) -> float | None:
    """Return the seconds until another run is worth while; None: when something happens."""
    waits = [judged.recheck_after for judged in judgements if judged.recheck_after is not None]
    if any(outcome.stage is Stage.REFUSED for outcome in outcomes):
        # It changed between the look and its removal: a look soon shows into what.
        waits.append(JOIN_PAUSE_SECONDS)
    return min(waits, default=None)


def _device_report(judgement: Judgement, removed: bool, files: Mapping[int, str]) -> DeviceReport:
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
    )
