"""Removal by link group: many orphans of the host namespace in one request.

A deletion takes the kernel some 16 ms, nearly all of it waiting for readers (RCU). For a link group it waits
once: the orphans are marked, looked at again, unmarked where anything has changed, and deleted together.
"""

import contextlib
import secrets
from collections.abc import Mapping, Sequence

import structlog

from contract.verdicts import Stage
from worker.judge import Judgement
from worker.kernel.api import GoneError, Kernel, KernelError, UnansweredError
from worker.kernel.model import HOST
from worker.recheck import Recheck, Result

log = structlog.get_logger(__name__)


def remove_as_group(
    orphans: Sequence[Judgement], kernel: Kernel, recheck: Recheck
) -> Mapping[Judgement, Result]:
    """Delete orphans of the host namespace together; one without an outcome was not deleted."""
    # Nobody else uses this number, or what they have in the group would go too: checked below.
    group = secrets.randbelow(2**31 - 2**16) + 2**16
    results: dict[Judgement, Result] = {}
    marked: dict[int, Judgement] = {}
    try:
        for orphan in orphans:
            ifindex = orphan.device.identity.ifindex
            # Before asking: it is marked even if the kernel's answer is lost.
            marked[ifindex] = orphan
            with contextlib.suppress(GoneError):  # The look below does not show it either.
                kernel.set_group(ifindex, group)
        joins = recheck.joins(orphans)
        now = {device.identity.ifindex: device for device in kernel.look_at(HOST)}
        for ifindex, orphan in list(marked.items()):
            obstacle = recheck.obstacle(orphan, now.get(ifindex), joins)
            if obstacle is not None:
                with contextlib.suppress(GoneError):
                    kernel.set_group(ifindex, 0)
                del marked[ifindex]
                results[orphan] = obstacle
        if not marked:
            return results
        if kernel.group_members(group) == marked.keys():
            try:
                kernel.delete_group(group)
            except UnansweredError as error:
                results |= dict.fromkeys(marked.values(), Result.uncertain(error))
            else:
                how = f"removed together with {len(marked) - 1} other(s) as link group {group}; "
                for orphan in marked.values():
                    results[orphan] = Result(Stage.APPLIED, how + orphan.reason)
                return results
        else:
            log.warning("a link group is not ours alone, going one by one", group=group)
    except KernelError as error:
        log.warning("cannot remove together, going one by one", error=str(error))
    for ifindex in marked:
        try:
            with contextlib.suppress(GoneError):
                kernel.set_group(ifindex, 0)
        except KernelError as error:
            log.info("cannot unmark", ifindex=ifindex, error=str(error))
    return results
