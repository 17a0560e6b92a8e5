"""Proof for `vxlan-worker scan --fix`: a person asks for the removal of what was idle for long enough."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from contract.messages import NetworkRef
from contract.verdicts import Proof
from worker.idle import IdleClock
from worker.kernel.model import Device, VethPair, some
from worker.networks import Networks
from worker.proof import JOIN_PAUSE_SECONDS, Finding, Joins, format_time, join_under_way


def as_joins(pairs: Iterable[VethPair]) -> Joins:
    """Count each pair as a join under way: one scan cannot tell which was left behind."""
    return dict.fromkeys(pairs, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ByHand:
    """A `Prover` that takes a person's order for proof.

    Attributes:
        grace, sandbox_grace: seconds in the host namespace, and in a sandbox.
        patience: seconds after which waiting ends, though the grace period does not.
        attached: names of a network's containers, or the error that dockerd's socket gave.
    """

    clock: IdleClock
    grace: float
    sandbox_grace: float
    patience: float
    joins: Joins
    attached: Callable[[NetworkRef], Sequence[str] | str]

    def __call__(self, device: Device, networks: Networks) -> Finding:
        identity = device.identity
        if device.set_up_by_others:
            return Finding(
                None,
                "set up by other software than Docker, whose device would be in its sandbox; if tasks are "
                f"rejected because of it: `ip link delete {identity.name}`",
            )
        idle = self.clock.idle(identity)
        if idle is None:
            return Finding(None, "it was in use at the last look", JOIN_PAUSE_SECONDS)
        grace = self.grace if identity.netns.is_host else self.sandbox_grace
        if idle.seconds < grace:
            left = min(grace, self.patience) - idle.seconds
            reason = f"idle for {idle.seconds:.0f} s so far; `--fix` removes it after {grace:g} s"
            return Finding(None, reason, left if left > 0 else None)
        if self.joins:
            return join_under_way(self.joins)
        containers, network = "", networks.having(identity.vni)
        if network is not None and not identity.netns.is_host:
            attached = self.attached(network)
            if isinstance(attached, str):
                return Finding(None, f"dockerd may be held up in the middle of a join: {attached}")
            if attached:
                names = f"network {network.name} here: {some(attached)}"
                return Finding(None, f"dockerd reports containers of {names}")
            containers = f"; dockerd reports no container of network {network.name} here"
        return Finding(
            Proof.BY_HAND,
            f"idle since {format_time(idle.since)}, for the grace period of {grace:g} s and "
            f"more; no join is under way{containers}",
        )
