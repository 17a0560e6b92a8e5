"""Removing orphans: record, re-read, compare, delete, look again.

Between the verdict and the deletion anything may have happened, and a delete by ifindex checks
nothing else: it has been seen to delete a bridge. So each device is read afresh just before, and
whatever is not exactly what was judged is refused.
"""

from collections.abc import Sequence
from uuid import UUID

import structlog

from contract.verdicts import Stage
from worker.journal import Journal, Record
from worker.judge import Judgement
from worker.kernel import GoneError, Kernel, KernelError
from worker.ownership import why_foreign
from worker.view import Device

log = structlog.get_logger(__name__)


def remove(
    orphans: Sequence[Judgement],
    kernel: Kernel,
    journal: Journal,
    run_id: UUID,
    data_path_port: int,
) -> dict[Judgement, Record]:
    """Remove orphans; return what came of each (applied, vanished, refused, failed).

    Raises:
        JournalError: nothing could be recorded before acting, and nothing was removed; or the
            outcome could not be, and the next run finds the plan without it.
    """
    journal.append(
        record(run_id, Stage.PLANNED, orphan, "about to be removed: " + orphan.reason)
        for orphan in orphans
    )
    outcomes: dict[Judgement, Record] = {}
    try:
        for orphan in orphans:
            outcomes[orphan] = _remove_one(orphan, kernel, run_id, data_path_port)
    finally:
        journal.append(outcomes.values())
    return outcomes


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
    """What the journal says about an orphan at one stage."""
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


def _remove_one(orphan: Judgement, kernel: Kernel, run_id: UUID, data_path_port: int) -> Record:
    identity = orphan.device.identity
    try:
        now = kernel.read(identity.place, identity.ifindex)
        if now is None:
            return record(run_id, Stage.VANISHED, orphan, "gone by itself before its removal")
        change = _why_not(orphan.device, now, data_path_port)
        if change is not None:
            log.info("removal refused", device=str(identity), reason=change)
            return record(run_id, Stage.REFUSED, orphan, f"not removed: {change}")
        kernel.delete(identity.place, identity.ifindex)
    except GoneError:
        return record(run_id, Stage.VANISHED, orphan, "gone by itself during its removal")
    except KernelError as error:
        log.warning("removal failed", device=str(identity), error=str(error))
        return record(run_id, Stage.FAILED, orphan, str(error))
    log.info("removed", device=str(identity), urgency=orphan.urgency, reason=orphan.reason)
    return record(run_id, Stage.APPLIED, orphan, orphan.reason)


def _why_not(judged: Device, now: Device, data_path_port: int) -> str | None:
    """Why a device that was judged an orphan must not be deleted any more; None if it may be."""
    if now.identity != judged.identity:
        return f"the ifindex now belongs to {now.identity}"
    foreign = why_foreign(now, data_path_port)
    if foreign is not None:
        return f"it is no longer Docker's: {foreign}"
    return now.carrying
