"""Failed logins: a token bucket for each client address, in bounded memory."""

import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Final

CAPACITY: Final = 10.0
"""Failed logins at once."""
SECONDS_EACH: Final = 6.0
"""In which one more is allowed."""
_MAX_ADDRESSES: Final = 10_000


class FailedLogins:
    """Counts failed logins. Valid tokens are never refused, so nobody is locked out behind a shared address.

    Args:
        monotonic: the clock, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Count a failed login; return the seconds until the next one is answered, 0: this one is."""
        key, now = _network(address), self._monotonic()
        left, at = self._buckets.pop(key, (CAPACITY, now))
        left = min(CAPACITY, left + (now - at) / SECONDS_EACH)
        allowed = left >= 1
        self._buckets[key] = (left - 1 if allowed else left, now)
        if len(self._buckets) > _MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - left) * SECONDS_EACH


def _network(address: str) -> str:
    """Return the address, or the /64 of an IPv6 address, all of which one client may have."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(IPv6Address(int(parsed) >> 64 << 64))
    return str(parsed)
