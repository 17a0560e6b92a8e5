"""The last look at an orphan before its deletion: is it still exactly what was judged?

Between the verdict and the deletion anything may have happened, and a delete by ifindex checks nothing
else: it has been seen to delete a bridge.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from contract.verdicts import Proof, Stage
from worker.judge import Judgement
from worker.kernel.api import Kernel, UnansweredError
from worker.kernel.model import Device, VethPair
from worker.ownership import why_foreign
from worker.proof import Joins, blocking, join_under_way, minds_joins


class Result(NamedTuple):
    """The outcome of a removal."""

    stage: Stage
    reason: str

    @classmethod
    def uncertain(cls, error: UnansweredError) -> "Result":
        """Return the outcome of a deletion that the kernel did not answer."""
        return cls(Stage.UNCERTAIN, f"{error}; it may have been carried out")


class Recheck:
    """The rules of the last look; `ages`: the ages of pairs that look like joins under way."""

    def __init__(
        self, kernel: Kernel, data_path_port: int, ages: Callable[[Iterable[VethPair]], Joins]
    ) -> None:
        self._kernel = kernel
        self._port = data_path_port
        self._ages = ages

    def joins(self, orphans: Iterable[Judgement]) -> Joins:
        """List joins under way, if one of these proofs minds them.

        To be called before the devices are read for the last time: a pair that was made by then is seen here,
        or, once one end is in the container, the other is an endpoint in the device's sandbox.
        """
        if any(minds_joins(orphan.proof, orphan.device.identity) for orphan in orphans):
            return self._ages(self._kernel.joins_under_way())
        return {}

    def obstacle(self, orphan: Judgement, now: Device | None, joins: Joins) -> Result | None:
        """Return why an orphan must stay; None if it may go. `now`: the VXLAN device with its ifindex."""
        if now is None:
            return Result(Stage.VANISHED, "gone by itself before its removal")
        change = self._change(orphan, now, joins)
        return None if change is None else Result(Stage.REFUSED, f"not removed: {change}")

    def _change(self, orphan: Judgement, now: Device, joins: Joins) -> str | None:
        judged = orphan.device
        if now.identity != judged.identity:
            return f"the ifindex now belongs to {now.identity}"
        foreign = why_foreign(now, self._port)
        if foreign is not None:
            return f"it is no longer Docker's: {foreign}"
        named = not judged.looks_dead or judged.set_up_by_others
        if orphan.proof is Proof.BY_HAND and named:
            return None  # A person has named just this one, in use or not.
        under_way = blocking(joins, orphan.proof, judged.identity) if orphan.proof else {}
        if under_way:
            return join_under_way(under_way).reason
        # What others have set up is dead all the same, if dockerd itself has shown it.
        if now.set_up_by_others and orphan.proof is Proof.REJECTED:
            return None
        return now.activity
