"""Removing orphans: record, re-read, compare, delete, look again.

Between the verdict and the deletion anything may have happened, and a delete by ifindex checks
nothing else: it has been seen to delete a bridge. So each device is read afresh just before, and
whatever is not exactly what was judged is refused.

A deletion takes the kernel some 16 ms, nearly all of it waiting for readers (RCU). So many orphans of
the host namespace go together, as a link group: they are marked, looked at again, unmarked where
anything has changed, and deleted in one request, for which the kernel waits once.
"""

import secrets
from collections.abc import Iterable, Sequence
from typing import Protocol
from uuid import UUID

import structlog

from contract.verdicts import Stage
from worker.journal import Record
from worker.judge import Judgement
from worker.ownership import why_foreign
from worker.port import GoneError, Kernel, KernelError
from worker.view import HOST, Device

log = structlog.get_logger(__name__)

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
) -> dict[Judgement, Record]:
    """Remove orphans; return what came of each (applied, vanished, refused, failed).

    Raises:
        JournalError: nothing could be recorded before acting, and nothing was removed; or an
            outcome could not be: nothing more was removed, and the next run finds the plan without it.
    """
    recorder.append(
        record(run_id, Stage.PLANNED, orphan, "about to be removed: " + orphan.reason)
        for orphan in orphans
    )
    removal = _Removal(kernel, recorder, run_id, data_path_port)
    at_home = [orphan for orphan in orphans if orphan.device.identity.place.is_host]
    if len(at_home) >= TOGETHER:
        removal.together(at_home)
    removal.one_by_one(orphan for orphan in orphans if orphan not in removal.outcomes)
    return removal.outcomes


def verify(
    outcomes: dict[Judgement, Record], devices: Sequence[Device], run_id: UUID
) -> list[Record]:
    """Compare a second look with what the kernel confirmed; return the records to write."""
    left = {device.identity for device in devices}
    return [
        record(run_id, Stage.LINGERING, orphan, "a second look still shows it")
        if orphan.device.identity in left
        else record(run_id, Stage.VERIFIED, orphan, "a second look shows that it is gone")
        for orphan, outcome in outcomes.items()
        if outcome.stage is Stage.APPLIED
    ]


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
        self, kernel: Kernel, recorder: Recorder, run_id: UUID, data_path_port: int
    ) -> None:
        self.outcomes: dict[Judgement, Record] = {}
        self._kernel = kernel
        self._recorder = recorder
        self._unrecorded: list[Record] = []
        self._run_id = run_id
        self._port = data_path_port

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
                try:
                    kernel.set_group(ifindex, group)
                except GoneError:
                    self._vanished(orphan, "before its removal")
                else:
                    marked[ifindex] = orphan
            now = {device.identity.ifindex: device for device in kernel.look_at(HOST)}
            for ifindex, orphan in list(marked.items()):
                change = self._why_not(orphan.device, now.get(ifindex))
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
            kernel.delete_group(group)
        except KernelError as error:
            log.warning("cannot remove together, going one by one", error=str(error))
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
                self._kernel.set_group(ifindex, 0)
            except KernelError as error:
                log.info("cannot unmark", ifindex=ifindex, error=str(error))

    def _one(self, orphan: Judgement) -> None:
        identity = orphan.device.identity
        try:
            now = self._kernel.read(identity.place, identity.ifindex)
            if now is None:
                self._vanished(orphan, "before its removal")
                return
            change = self._why_not(orphan.device, now)
            if change is not None:
                self._refused(orphan, change)
                return
            self._kernel.delete(identity.place, identity.ifindex)
        except GoneError:
            self._vanished(orphan, "during its removal")
        except KernelError as error:
            log.warning("removal failed", device=str(identity), error=str(error))
            self._came(orphan, Stage.FAILED, str(error))
        else:
            log.info("removed", device=str(identity), urgency=orphan.urgency, reason=orphan.reason)
            self._came(orphan, Stage.APPLIED, orphan.reason)

    def _why_not(self, judged: Device, now: Device | None) -> str | None:
        """Why a device that was judged an orphan must not be deleted any more; None if it may be."""
        if now is None:
            return "it is no VXLAN device any more, or gone"
        if now.identity != judged.identity:
            return f"the ifindex now belongs to {now.identity}"
        foreign = why_foreign(now, self._port)
        if foreign is not None:
            return f"it is no longer Docker's: {foreign}"
        return now.carrying

    def _vanished(self, orphan: Judgement, when: str) -> None:
        self._came(orphan, Stage.VANISHED, f"gone by itself {when}")

    def _refused(self, orphan: Judgement, change: str) -> None:
        log.info("removal refused", device=str(orphan.device.identity), reason=change)
        self._came(orphan, Stage.REFUSED, f"not removed: {change}")

    def _came(self, orphan: Judgement, stage: Stage, reason: str) -> None:
        outcome = record(self._run_id, stage, orphan, reason)
        self.outcomes[orphan] = outcome
        self._unrecorded.append(outcome)

    def _record(self) -> None:
        told, self._unrecorded = self._unrecorded, []
        self._recorder.append(told)
