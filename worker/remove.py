"""Removing orphans: write the plan, ask the kernel, write the outcome, look again.

The kernel's answer to a deletion may be lost. Then nobody knows whether it was carried out: the outcome is
uncertain, the deletion is not asked for again in that run, and the second look shows what came of it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol
from uuid import UUID

import structlog

from contract.verdicts import Stage
from worker.journal import Record
from worker.judge import Judgement
from worker.kernel.api import GoneError, Kernel, KernelError, UnansweredError
from worker.kernel.model import Device, VethPair
from worker.link_group import remove_as_group
from worker.proof import Joins
from worker.recheck import Recheck, Result

log = structlog.get_logger(__name__)

MIN_GROUP = 8
"""From this number of orphans in the host namespace on, they are deleted as a link group."""

_TROUBLES: Final = frozenset({Stage.FAILED, Stage.UNCERTAIN})
_LINGERS: Final = {
    Stage.APPLIED: "a second look still shows it",
    Stage.UNCERTAIN: "a second look still shows it: the deletion was not carried out",
}
"""The outcomes that a second look can confirm, and the reason when it does not."""


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
    """Remove orphans; return the outcome of each (applied, vanished, refused, failed, uncertain).

    Args:
        orphans: as they were judged.
        kernel: where they are.
        recorder: where to write plans and outcomes.
        run_id: of the run.
        data_path_port: the UDP port of this Swarm's overlay networks.
        joins: tells how long pairs that look like joins under way have been there.

    Raises:
        JournalError: the plan could not be written, and nothing was removed; or an outcome could not be:
            nothing more was removed, and the next run finds the plan without it.
    """
    recheck = Recheck(kernel, data_path_port, joins)
    outcomes: dict[Judgement, Record] = {}

    def write(results: Mapping[Judgement, Result]) -> None:
        records = {
            orphan: Record.of(orphan, run_id, result.stage, result.reason)
            for orphan, result in results.items()
        }
        outcomes.update(records)
        for record in records.values():
            say = log.warning if record.stage in _TROUBLES else log.info
            say("removal", stage=record.stage, device=str(record.identity), reason=record.reason)
        recorder.append(records.values())

    recorder.append(
        Record.of(orphan, run_id, Stage.PLANNED, f"about to be removed: {orphan.reason}")
        for orphan in orphans
    )
    in_host = [orphan for orphan in orphans if orphan.device.identity.netns.is_host]
    if len(in_host) >= MIN_GROUP:
        write(remove_as_group(in_host, kernel, recheck))
    for orphan in orphans:
        if orphan not in outcomes:
            # An outcome is on disk before the next deletion: a crash leaves one plan open.
            write({orphan: _remove_one(orphan, kernel, recheck)})
    return outcomes


def _remove_one(orphan: Judgement, kernel: Kernel, recheck: Recheck) -> Result:
    netns, ifindex = orphan.device.identity[:2]
    try:
        joins = recheck.joins([orphan])
        obstacle = recheck.obstacle(orphan, kernel.read(netns, ifindex), joins)
    except KernelError as error:
        return Result(Stage.FAILED, str(error))
    if obstacle is not None:
        return obstacle
    try:
        kernel.delete(netns, ifindex)
    except GoneError:
        return Result(Stage.VANISHED, "gone by itself during its removal")
    except UnansweredError as error:
        return Result.uncertain(error)
    except KernelError as error:
        return Result(Stage.FAILED, str(error))
    return Result(Stage.APPLIED, orphan.reason)


def verify(outcomes: Iterable[Record], devices: Iterable[Device]) -> list[Record]:
    """Compare outcomes with a later look at all devices; return the records to write."""
    left = {device.identity for device in devices}
    return [
        outcome.followed_by(Stage.LINGERING, _LINGERS[outcome.stage])
        if outcome.identity in left
        else outcome.followed_by(Stage.VERIFIED, "a second look shows that it is gone")
        for outcome in outcomes
        if outcome.stage in _LINGERS
    ]


def was_removed(outcome: Record, still_there: bool) -> bool:
    """Whether a device is reported as removed, and counted by the breakers.

    Args:
        outcome: of its removal.
        still_there: whether a second look shows it. Without one it may have been removed, and counts.
    """
    return outcome.stage is Stage.APPLIED or (outcome.stage is Stage.UNCERTAIN and not still_there)
