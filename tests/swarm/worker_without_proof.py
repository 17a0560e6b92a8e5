"""`python -m tests.swarm.worker_without_proof run`: a worker that takes idle devices for dead.

It is the real worker without its proof. It must be seen to harm, or tests of the real one show nothing.
"""

from contract.verdicts import Proof
from worker import cli
from worker.kernel.model import Device
from worker.networks import Networks
from worker.proof import Finding, RequestProver


def after_the_grace_period(prover: RequestProver, device: Device, _networks: Networks) -> Finding:
    """Call a device dead when it was idle for its grace period, as this program once did."""
    idle = prover.clock.idle(device.identity)
    grace = prover.waits.of(device.identity)
    if idle is None or idle.seconds < grace:
        return Finding(
            None, "the grace period lasts", grace - (0.0 if idle is None else idle.seconds)
        )
    return Finding(Proof.REJECTED, "the grace period is over")


if __name__ == "__main__":
    RequestProver.__call__ = after_the_grace_period  # type: ignore[assignment, method-assign]
    cli.main()
