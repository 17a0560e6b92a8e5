"""Since when each device has been seen to carry nothing: the clock behind the grace period.

The kernel keeps no creation time, and a sandbox that lost its last endpoint a moment ago may be torn
down by dockerd in the next: what counts is the unbroken time of carrying nothing, under one identity.

Looks can miss a moment of use in between. So a stretch of idleness is believed only while the looks
at it lie close together; after a longer gap it begins anew, which costs one grace period and no more.
"""

import threading
import time
from collections.abc import Callable, Iterable

from worker.view import Device, Identity


class IdleClock:
    """Thread-safe: the link watch and the reconcile runs share it.

    Args:
        believed_gap: seconds that may lie between two looks at one stretch of idleness.
        now: a clock in seconds that never goes back.
    """

    def __init__(self, believed_gap: float, now: Callable[[], float] = time.monotonic) -> None:
        self._believed_gap = believed_gap
        self._now = now
        self._since: dict[Identity, float] = {}
        self._looked_at = now()
        self._lock = threading.Lock()

    def saw(self, devices: Iterable[Device]) -> None:
        """Take in a full look: start the clocks of what is idle, drop all others."""
        idle = [device.identity for device in devices if device.carrying is None]
        with self._lock:
            now = self._now()
            before = self._since if now - self._looked_at <= self._believed_gap else {}
            self._since = {identity: before.get(identity, now) for identity in idle}
            self._looked_at = now

    def idle_for(self, identity: Identity) -> float:
        """For how many seconds this device has carried nothing; 0.0 if it was not seen so."""
        with self._lock:
            since = self._since.get(identity)
            return 0.0 if since is None else self._now() - since
