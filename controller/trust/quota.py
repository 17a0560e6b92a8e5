"""`Quota`: how much of the controllers' time a node's messages may take; what is beyond it is dropped.

A bucket a node: it holds `CAPACITY` units, and `_PER_SECOND` flow back in. A message costs one unit, and one
more for each `_UNIT_BYTES`. A message that comes while there is something left is taken whole, and what it
costs beyond that is a debt. The report on a request costs nothing, and is always taken: how many of these
come, the controllers decide (`controller.runs.pace`). An honest worker sends less than two messages a second
besides, and at most 64 at once (`worker.outbox`), after the broker was away.

Only what is signed by the node costs anything: nobody else can use up its quota, but who reads the broker
and repeats its messages, and could delete them as well.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from contract.queues import REPORT_TASK
from contract.signing.envelope import node_address
from contract.signing.refusals import Reason, RefusedError
from controller.conditions.node_facts import QUIET, Dropping

CAPACITY: Final = 300.0
_PER_SECOND: Final = 8.0
_UNIT_BYTES: Final = 64 * 2**10
_OWED: Final = 2
"""Reports that may come at no cost: on the newest request, and late on the one before."""
_FORGOTTEN_SECONDS: Final = 3600.0
"""After which a bucket is full in any case."""
_SWEEP_SECONDS: Final = 60.0


@dataclass(slots=True)
class _Bucket:
    """What a node has left at a time, in monotonic seconds; and how many reports it owes."""

    left: float
    at: float
    owed: int = 0


class Quota:
    """Bounds the messages of each node. Thread-safe.

    Args:
        clock: monotonic seconds.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._clock = clock
        self._utcnow = utcnow
        self._lock = threading.Lock()
        self._buckets: dict[str, _Bucket] = {}
        """By address."""
        self._dropping: dict[str, Dropping] = {}
        """The same."""
        self._swept = clock()

    def __len__(self) -> int:
        """Return the number of nodes of which something is remembered."""
        return len(self._buckets)

    def asked(self, node_ids: Iterable[str]) -> None:
        """Note that each of these nodes is about to be sent a request."""
        with self._lock:
            for node_id in node_ids:
                bucket = self._bucket(node_address(node_id))
                bucket.owed = min(bucket.owed + 1, _OWED)

    def check(self, address: str, kid: str) -> None:
        """Let a message that says to be of a node pass, if the node has something left.

        Raises:
            RefusedError: it has not.
        """
        with self._lock:
            bucket = self._bucket(address)
            if bucket.left > 0 or bucket.owed:
                return
        self._drop(address, kid)

    def spend(self, address: str, kid: str, task: str, size: int) -> None:
        """Take what a node's message costs, which it has signed.

        Args:
            size: in bytes.

        Raises:
            RefusedError: it has nothing left.
        """
        with self._lock:
            bucket = self._bucket(address)
            if task == REPORT_TASK and bucket.owed:
                bucket.owed -= 1
                return
            if bucket.left > 0:
                bucket.left -= 1 + size // _UNIT_BYTES
                return
        self._drop(address, kid)

    def dropping(self, node_id: str) -> Dropping | None:
        """Return what was dropped of a node lately; None: nothing."""
        with self._lock:
            return self._dropping.get(node_address(node_id))

    def _bucket(self, address: str) -> _Bucket:
        now = self._clock()
        if now - self._swept >= _SWEEP_SECONDS:
            self._swept = now
            self._sweep(now)
        bucket = self._buckets.setdefault(address, _Bucket(CAPACITY, now))
        bucket.left = min(bucket.left + (now - bucket.at) * _PER_SECOND, CAPACITY)
        bucket.at = now
        return bucket

    def _sweep(self, now: float) -> None:
        """Forget nodes that were neither asked nor heard for long: they may have left the Swarm."""
        self._buckets = {
            address: bucket
            for address, bucket in self._buckets.items()
            if now - bucket.at < _FORGOTTEN_SECONDS
        }
        quiet = self._utcnow() - QUIET
        self._dropping = {
            address: found for address, found in self._dropping.items() if found.newest_at > quiet
        }

    def _drop(self, address: str, kid: str) -> None:
        now = self._utcnow()
        with self._lock:
            before = self._dropping.get(address)
            since = now if before is None or now - before.newest_at > QUIET else before.since
            self._dropping[address] = Dropping(since, now)
        raise RefusedError(Reason.TOO_MANY, "its node sends more than any honest one does", kid)
