"""Becoming the leader, and staying it: takes the lease and renews it."""

from collections.abc import Callable

import structlog

from controller.leadership.lease import Lease, LeaseLostError

log = structlog.get_logger(__name__)


class Election:
    """Tries to become the leader, and then to stay it.

    Args:
        lease: this process's.
        won: called once, when it leads.
        lost: called when it no longer does; does not return.
    """

    def __init__(self, lease: Lease, *, won: Callable[[], None], lost: Callable[[], None]) -> None:
        self._lease = lease
        self._won = won
        self._lost = lost

    def step(self) -> None:
        """Take or renew the lease."""
        if not self._lease.held:
            if self._lease.take():
                self._begin()
            return
        try:
            self._lease.renew()
        except LeaseLostError as error:
            log.warning("this controller leads no longer", error=str(error))
            self._lost()

    def _begin(self) -> None:
        """Have the work begin; who cannot do it must not keep the lease from those who can."""
        try:
            self._won()
        except Exception:
            log.exception("cannot begin to lead")
            self._lease.release()
            self._lost()
