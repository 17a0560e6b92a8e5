"""`python -m tests.swarm.worker_without_proof run`: a worker to whom a device that carries nothing is dead.

It is the real worker without its proof. It must be seen to harm, or tests of the real one show nothing.
"""

from contract.verdicts import Proof
from worker import cli
from worker.kernel.model import Device
from worker.networks import Networks
from worker.proof import Found, RequestProver


def after_the_grace_period(prover: RequestProver, device: Device, _networks: Networks) -> Found:
    """Call a device dead when it has carried nothing for its grace period, as this program once did."""
    idle = prover.clock.idle(device.identity)
    grace = prover.waits.of(device.identity)
    if idle is None or idle.seconds < grace:
        return Found(
            None, "the grace period lasts", grace - (0.0 if idle is None else idle.seconds)
        )
    return Found(Proof.REJECTED, "the grace period is over")


if __name__ == "__main__":
    RequestProver.__call__ = after_the_grace_period  # type: ignore[assignment, method-assign]
    cli.main()
