"""Removing orphans: record, re-read, compare, delete, look again.

Between the verdict and the deletion anything may have happened, and a delete by ifindex checks
nothing else: it has been seen to delete a bridge. So each device is read afresh just before, and
whatever is not exactly what was judged is refused.

The kernel's answer to a deletion may be lost. Then nobody knows whether it was carried out: the outcome is
uncertain, the deletion is not asked for again in that run, and the second look shows what came of it.

A deletion takes the kernel some 16 ms, nearly all of it waiting for readers (RCU). So many orphans of
the host namespace go together, as a link group: they are marked, looked at again, unmarked where
anything has changed, and deleted in one request, for which the kernel waits once.
"""

import contextlib
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol
from uuid import UUID

import structlog

from contract.verdicts import Proof, Stage
from worker.journal import Record
from worker.judge import Judgement
from worker.kernel.api import (
    GoneError,
    Kernel,
    KernelError,
    UnansweredError,
)
from worker.kernel.model import HOST, Device, VethPair
from worker.ownership import why_foreign
from worker.proof import Joins, blocking, join_under_way, minds_joins

log = structlog.get_logger(__name__)

_LINGERS: Final = {
    Stage.APPLIED: "a second look still shows it",
    Stage.UNCERTAIN: "a second look still shows it: the deletion was not carried out",
}
"""The outcomes that a second look can confirm, and what is said when it does not."""

TOGETHER = 8
"""From so many orphans in the host namespace on, they are deleted together."""


class Recorder(Protocol):
    """Where removals are recorded: the journal, or for `vxlan-worker scan` the screen."""

    def append(self, records: Iterable[Record]) -> None:
        """Keep these records before returning.

        Raises:
            JournalError: they could not be kept.
        """


def remove(
    orphans: Sequence[Judgement],
    kernel: Kernel,
    recorder: Recorder,
    run_id: UUID,
    data_path_port: int,
    joins: Callable[[Iterable[VethPair]], Joins],
) -> dict[Judgement, Record]:
    """Remove orphans; return what came of each (applied, vanished, refused, failed, uncertain).

    Args:
        orphans: what was judged so.
        kernel: where they are.
        recorder: where to record what is to be done, and what came of it.
        run_id: of the run.
        data_path_port: the UDP port of this Swarm's overlay networks.
        joins: tells how long pairs that look like joins under way have been there.

    Raises:
        JournalError: nothing could be recorded before acting, and nothing was removed; or an
            outcome could not be: nothing more was removed, and the next run finds the plan without it.
    """
    recorder.append(
        record(run_id, Stage.PLANNED, orphan, "about to be removed: " + orphan.reason)
        for orphan in orphans
    )
    removal = _Removal(kernel, recorder, run_id, data_path_port, joins)
    at_home = [orphan for orphan in orphans if orphan.device.identity.netns.is_host]
    if len(at_home) >= TOGETHER:
        removal.together(at_home)
    removal.one_by_one(orphan for orphan in orphans if orphan not in removal.outcomes)
    return removal.outcomes


def verify(
    outcomes: dict[Judgement, Record], devices: Sequence[Device], run_id: UUID
) -> list[Record]:
    """Compare a second look with what the kernel was asked to delete; return the records to write."""
    left = {device.identity for device in devices}
    return [
        record(run_id, Stage.LINGERING, orphan, _LINGERS[outcome.stage])
        if orphan.device.identity in left
        else record(run_id, Stage.VERIFIED, orphan, "a second look shows that it is gone")
        for orphan, outcome in outcomes.items()
        if outcome.stage in _LINGERS
    ]


def was_removed(outcome: Record, still_there: bool) -> bool:
    """Whether a device is to be told as removed, and counted by the breakers.

    Args:
        outcome: what came of its removal.
        still_there: whether a second look shows it. Without one it may have been removed, and counts.
    """
    if outcome.stage is Stage.UNCERTAIN:
        return not still_there
    return outcome.stage in (Stage.APPLIED, Stage.VANISHED)


def record(run_id: UUID, stage: Stage, orphan: Judgement, reason: str) -> Record:
    """What is recorded about an orphan at one stage."""
    if orphan.urgency is None:
        raise ValueError(f"not an orphan: {orphan.device.identity}")
    return Record(
        run_id,
        stage,
        orphan.device.identity,
        orphan.urgency,
        None if orphan.network is None else orphan.network.id,
        reason,
        orphan.device.evidence,
    )


class _Removal:
    """The removals of one run, and what came of them so far."""

    def __init__(
        self,
        kernel: Kernel,
        recorder: Recorder,
        run_id: UUID,
        data_path_port: int,
        joins: Callable[[Iterable[VethPair]], Joins],
    ) -> None:
        self.outcomes: dict[Judgement, Record] = {}
        self._kernel = kernel
        self._recorder = recorder
        self._unrecorded: list[Record] = []
        self._run_id = run_id
        self._port = data_path_port
        self._how_long = joins

    def one_by_one(self, orphans: Iterable[Judgement]) -> None:
        """Delete each by itself, and record what came of it before the next: a crash leaves one open."""
        for orphan in orphans:
            try:
                self._one(orphan)
            finally:
                self._record()

    def together(self, orphans: Sequence[Judgement]) -> None:
        """Delete orphans of the host namespace as one link group.

        Where that cannot be done, nothing is deleted, and nothing has come of those concerned.
        """
        try:
            self._together(orphans)
        finally:
            self._record()

    def _together(self, orphans: Sequence[Judgement]) -> None:
        kernel = self._kernel
        # Nobody else uses it, or what they have in it would go too: checked below.
        group = secrets.randbelow(2**31 - 2**16) + 2**16
        marked: dict[int, Judgement] = {}
        try:
            for orphan in orphans:
                ifindex = orphan.device.identity.ifindex
                # Before asking: it is marked even if the kernel's answer is lost.
                marked[ifindex] = orphan
                try:
                    kernel.set_group(ifindex, group)
                except GoneError:
                    del marked[ifindex]
                    self._vanished(orphan, "before its removal")
            joins = self._joins(marked.values())
            now = {device.identity.ifindex: device for device in kernel.look_at(HOST)}
            for ifindex, orphan in list(marked.items()):
                change = self._why_not(orphan, now.get(ifindex), joins)
                if change is not None:
                    kernel.set_group(ifindex, 0)
                    del marked[ifindex]
                    self._refused(orphan, change)
            if not marked:
                return
            if kernel.group_members(group) != marked.keys():
                log.warning("a link group is not ours alone, going one by one", group=group)
                self._unmark(marked)
                return
            self._delete_group(group, marked)
        except KernelError as error:
            log.warning("cannot remove together, going one by one", error=str(error))
            self._unmark(marked)

    def _delete_group(self, group: int, marked: Mapping[int, Judgement]) -> None:
        try:
            self._kernel.delete_group(group)
        except UnansweredError as error:
            for orphan in marked.values():
                self._uncertain(orphan, error)
            self._unmark(marked)
            return
        how = f"removed together with {len(marked) - 1} other(s) as link group {group}; "
        for orphan in marked.values():
            self._came(orphan, Stage.APPLIED, how + orphan.reason)
        log.info("removed together", devices=len(marked), group=group)

    def _unmark(self, marked: Iterable[int]) -> None:
        """A device that stays goes back to the default group; one that is gone has none."""
        for ifindex in marked:
            try:
                with contextlib.suppress(GoneError):
                    self._kernel.set_group(ifindex, 0)
            except KernelError as error:
                log.info("cannot unmark", ifindex=ifindex, error=str(error))

    def _one(self, orphan: Judgement) -> None:
        identity = orphan.device.identity
        try:
            joins = self._joins([orphan])
            now = self._kernel.read(identity.netns, identity.ifindex)
        except KernelError as error:
            self._failed(orphan, error)
            return
        if now is None:
            self._vanished(orphan, "before its removal")
            return
        change = self._why_not(orphan, now, joins)
        if change is not None:
            self._refused(orphan, change)
            return
        try:
            self._kernel.delete(identity.netns, identity.ifindex)
        except GoneError:
            self._vanished(orphan, "during its removal")
        except UnansweredError as error:
            self._uncertain(orphan, error)
        except KernelError as error:
            self._failed(orphan, error)
        else:
            log.info("removed", device=str(identity), urgency=orphan.urgency, reason=orphan.reason)
            self._came(orphan, Stage.APPLIED, orphan.reason)

    def _joins(self, orphans: Iterable[Judgement]) -> Joins:
        """Joins under way, if that matters to one of these.

        To be asked before the devices are read for the last time: a pair that was made by then is seen here,
        or, once one end has been moved, in the device's sandbox.
        """
        if any(minds_joins(orphan.proof, orphan.device.identity) for orphan in orphans):
            return self._how_long(self._kernel.joins_under_way())
        return {}

    def _why_not(self, orphan: Judgement, now: Device | None, joins: Joins) -> str | None:
        """Why a device that was judged an orphan must not be deleted any more; None if it may be."""
        judged = orphan.device
        if now is None:
            return "it is no VXLAN device any more, or gone"
        if now.identity != judged.identity:
            return f"the ifindex now belongs to {now.identity}"
        foreign = why_foreign(now, self._port)
        if foreign is not None:
            return f"it is no longer Docker's: {foreign}"
        if orphan.proof is Proof.BY_HAND and not judged.looks_dead:
            return None  # A person has named just this one, whatever it carries.
        under_way = blocking(joins, orphan.proof, judged.identity) if orphan.proof else {}
        if under_way:
            return join_under_way(under_way).words
        # What others have set up is dead all the same, if dockerd itself has shown it.
        if now.set_up_by_others and orphan.proof is Proof.REJECTED:
            return None
        return now.carrying

    def _vanished(self, orphan: Judgement, when: str) -> None:
        self._came(orphan, Stage.VANISHED, f"gone by itself {when}")

    def _refused(self, orphan: Judgement, change: str) -> None:
        log.info("removal refused", device=str(orphan.device.identity), reason=change)
        self._came(orphan, Stage.REFUSED, f"not removed: {change}")

    def _failed(self, orphan: Judgement, error: KernelError) -> None:
        log.warning("removal failed", device=str(orphan.device.identity), error=str(error))
        self._came(orphan, Stage.FAILED, str(error))

    def _uncertain(self, orphan: Judgement, error: UnansweredError) -> None:
        log.warning("removal uncertain", device=str(orphan.device.identity), error=str(error))
        self._came(orphan, Stage.UNCERTAIN, f"{error}; it may have been carried out")

    def _came(self, orphan: Judgement, stage: Stage, reason: str) -> None:
        outcome = record(self._run_id, stage, orphan, reason)
        self.outcomes[orphan] = outcome
        self._unrecorded.append(outcome)

    def _record(self) -> None:
        told, self._unrecorded = self._unrecorded, []
        self._recorder.append(told)
