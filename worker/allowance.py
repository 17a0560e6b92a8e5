"""Which orphans a run may remove, and why not the others. Pure.

This node's own settings, the request, and the modes of networks can each only forbid. What is left alone is
reported as an orphan.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from contract.messages import ORPHANS_LEFT, ReconcileRequest
from contract.verdicts import HeldBack, Mode, Urgency
from worker.judge import Judgement
from worker.kernel.model import some

_ORDER: Final = {Urgency.BLOCKING: 0, Urgency.STALE: 1, Urgency.UNKNOWN: 2}


class Allowance(NamedTuple):
    """The orphans to remove, the most urgent first; why others are left alone, as text.

    Attributes:
        more: whether another run, at once, may remove some of those.
        held: why orphans are left for which the controller cannot know it.
    """

    remove: list[Judgement]
    limitations: list[str]
    more: bool = False
    held: Mapping[Judgement, HeldBack] = {}


def allowance(
    orphans: Sequence[Judgement],
    request: ReconcileRequest,
    *,
    mode: Mode,
    max_removals: int,
    journal_full: bool,
    port_confirmed: bool = True,
) -> Allowance:
    """Decide which orphans to remove; `mode` and `max_removals` are this node's own settings.

    `port_confirmed`: whether this node shows that the request's data path port is the Swarm's.
    """
    if not orphans:
        return Allowance([], [])
    if Mode.OBSERVE in (mode, request.mode):
        where = "this node's own mode" if mode is Mode.OBSERVE else "the request's mode"
        limitation = f"{len(orphans)} {ORPHANS_LEFT} alone: {where} is observe"
        held = dict.fromkeys(orphans, HeldBack.WORKER_MODE) if mode is Mode.OBSERVE else {}
        return Allowance([], [limitation], held=held)

    if not port_confirmed:
        limitation = (
            f"{len(orphans)} orphan(s) left alone: nothing on this node shows that UDP port "
            f"{request.data_path_port} is the Swarm's data path port (VXLAN_OPERATOR_DATA_PATH_PORT does)"
        )
        return Allowance([], [limitation], held=dict.fromkeys(orphans, HeldBack.PORT))

    limitations = []
    # Another network may have the VNI too.
    observed = {
        vni: network.name
        for network in (*request.desired, *request.known)
        if network.mode is Mode.OBSERVE
        for vni in network.vnis
    }
    removable = [orphan for orphan in orphans if orphan.device.identity.vni not in observed]
    vnis = [orphan.device.identity.vni for orphan in orphans]
    if left := [vni for vni in vnis if vni in observed]:
        names = some(sorted({observed[vni] for vni in left}))
        limitations.append(
            f"{len(left)} {ORPHANS_LEFT} alone: the mode of their network is observe ({names})"
        )
    if removable and journal_full:
        limitations.append(
            f"{len(removable)} {ORPHANS_LEFT} alone: the journal is full of entries that the "
            "controller has not acknowledged"
        )
        return Allowance([], limitations, held=dict.fromkeys(removable, HeldBack.JOURNAL))

    removable.sort(key=lambda orphan: _ORDER[orphan.urgency or Urgency.UNKNOWN])
    budget = request.max_removals
    if budget < min(max_removals, len(removable)):
        # Another run at once would have no more left of it: the controller asks again when there is.
        limitations.append(
            f"{len(removable) - budget} {ORPHANS_LEFT} alone: the breaker allows this node {budget} more "
            "removal(s) for now (`vxctl breaker`)"
        )
        held = dict.fromkeys(removable[budget:], HeldBack.BREAKER)
        return Allowance(removable[:budget], limitations, held=held)
    if max_removals < len(removable):
        limitations.append(
            f"{len(removable) - max_removals} {ORPHANS_LEFT} for the next run: "
            f"at most {max_removals} removals a run"
        )
    held = dict.fromkeys(removable[max_removals:], HeldBack.LIMIT)
    return Allowance(removable[:max_removals], limitations, more=bool(held), held=held)
