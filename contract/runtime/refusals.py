"""What a process refused: counted by reason, the newest kept, and logged in one line per ten seconds."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

import structlog

from contract.signing.refusals import Reason, RefusedError

log = structlog.get_logger(__name__)

_LOG_SECONDS: Final = 10.0
OF_KEYS: Final = frozenset({Reason.UNKNOWN_KEY, Reason.UNTRUSTED_KEY, Reason.REVOKED_KEY})
_OF_CLOCKS: Final = frozenset({Reason.EXPIRED, Reason.FROM_THE_FUTURE, Reason.REPLAYED})


class Refused(NamedTuple):
    """A message that was refused.

    Attributes:
        kid: id of the key that it named; None: none.
        at: by this machine's clock.
    """

    reason: Reason
    detail: str
    kid: str | None
    at: datetime


class Refusals:
    """Counts refused messages. Thread-safe.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: Counter[Reason] = Counter()
        self._unlogged = 0
        self._newest: Refused | None = None
        self._log_at = clock()

    def add(self, error: RefusedError, *, shown: bool = True) -> None:
        """Count a message that was refused, and log it, if it is time to.

        Args:
            shown: False: it is counted, and neither logged nor shown as the newest.
        """
        with self._lock:
            self._counts[error.reason] += 1
            if not shown:
                return
            self._unlogged += 1
            self._newest = Refused(error.reason, str(error), error.kid, datetime.now(UTC))
        self.flush()

    def flush(self, *, last: bool = False) -> None:
        """Log what was not logged yet, if it is time to or this is the last call.

        To be called at least every second.
        """
        with self._lock:
            early = self._clock() < self._log_at and not last
            if self._newest is None or not self._unlogged or early:
                return
            count, newest, self._unlogged = self._unlogged, self._newest, 0
            self._log_at = self._clock() + _LOG_SECONDS
        log.warning(
            "dropped invalid messages",
            count=count,
            newest_because=newest.detail,
            reason=newest.reason.value,
            key=newest.kid,
            hint=_hint(newest.reason),
        )

    @property
    def counts(self) -> Mapping[Reason, int]:
        """Messages refused since this process started, by reason."""
        with self._lock:
            return dict(self._counts)

    @property
    def newest(self) -> Refused | None:
        """The one refused last of those that are shown; None: none was."""
        with self._lock:
            return self._newest


def _hint(reason: Reason) -> str:
    if reason in OF_KEYS:
        return "`vxctl keys` shows whose keys are believed, `vxlan-worker key` a node's own"
    if reason in _OF_CLOCKS:
        return "compare the clocks of controllers and nodes; else somebody repeats old messages"
    if reason is Reason.TOO_MANY:
        return "`vxctl status` names the node: find out what uses its key"
    return "something else than vxlan-operator, or another version of it, writes to this broker"


refusals: Final = Refusals()
"""Of this process: whatever refuses messages adds to it."""
