"""Removing orphans: write the plan, ask the kernel, write the outcome, look again.

The kernel's answer to a deletion may be lost. Then the outcome is uncertain, the deletion is not asked for
again in that run, and the second look shows what came of it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final
from uuid import UUID

import structlog

from contract.verdicts import Stage
from worker.journal import Record
from worker.judge import Judgement
from worker.kernel.api import GoneError, Kernel, KernelError, UnansweredError
from worker.kernel.model import Device
from worker.link_group import remove_as_group
from worker.recheck import Recheck, Result

log = structlog.get_logger(__name__)

MIN_GROUP = 8
"""From this number of orphans in the host namespace on, they are deleted as a link group."""

_LINGERS: Final = {
    Stage.APPLIED: "a second look still shows it",
    Stage.UNCERTAIN: "a second look still shows it: the deletion was not carried out",
}
"""The outcomes that a second look can confirm, and the reason when it does not."""


def remove(
    orphans: Sequence[Judgement],
    kernel: Kernel,
    record: Callable[[Iterable[Record]], None],
    run_id: UUID,
    recheck: Recheck,
) -> dict[Judgement, Record]:
    """Remove orphans; return the outcomes (applied, vanished, refused, failed, uncertain).

    `record` keeps plans and outcomes before it returns, in the journal or on the screen.

    Raises:
        JournalError: the plan could not be written, and nothing was removed; or an outcome could not be:
            nothing more was removed, and the next run finds the plan without it.
    """
    outcomes: dict[Judgement, Record] = {}

    def write(results: Mapping[Judgement, Result]) -> None:
        records = {
            orphan: Record.of(orphan, run_id, result.stage, result.reason)
            for orphan, result in results.items()
        }
        outcomes.update(records)
        for one in records.values():
            say = log.warning if one.stage in (Stage.FAILED, Stage.UNCERTAIN) else log.info
            say("removal", stage=one.stage, device=str(one.identity), reason=one.reason)
        record(records.values())

    record(
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
    """Whether to report and count a device as removed: applied, or uncertain and not seen again."""
    return outcome.stage is Stage.APPLIED or (outcome.stage is Stage.UNCERTAIN and not still_there)
