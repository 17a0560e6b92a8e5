"""Becoming the leader and staying it: takes and renews the lease."""

from collections.abc import Callable

import structlog

from controller.leadership.lease import Lease, LeaseLostError

log = structlog.get_logger(__name__)


class Election:
    """Takes the lease when it is free, and renews it.

    Args:
        won: called once, when this process leads.
        lost: called when it no longer leads; does not return.
    """

    def __init__(self, lease: Lease, *, won: Callable[[], None], lost: Callable[[], None]) -> None:
        self._lease = lease
        self._won = won
        self._lost = lost

    def step(self) -> None:
        """Take or renew the lease."""
        if not self._lease.held:
            if self._lease.take():
                try:
                    self._won()
                except Exception:
                    log.exception("cannot begin to lead")
                    # This process must not keep the lease from others.
                    self._lease.release()
                    self._lost()
            return
        try:
            self._lease.renew()
        except LeaseLostError as error:
            log.warning("this controller leads no longer", error=str(error))
            self._lost()
