"""`python -m tests.swarm.worker_without_proof run`: a worker to whom a device that carries nothing is dead.

It is the real worker without its proof. It must be seen to harm, or tests of the real one show nothing.
"""

from worker import cli


def without_proof() -> None:
    """Take the proof away: PUT THE PATCH OF THAT ONE FUNCTION HERE.

    Nothing is to be patched as long as the grace period is all that the worker waits for.
    """


if __name__ == "__main__":
    without_proof()
    cli.main()
