"""How large a task's message may be, and how long it may be valid."""

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Final, NamedTuple

from contract.queues import ALIVE_TASK, DRIFT_TASK, HELLO_TASK, RECONCILE_TASK, REPORT_TASK

MAX_MESSAGE_BYTES: Final = 32 * 2**20
"""Bytes. A report of 20,000 devices, of networks with the longest of names, has 24 million."""


class Bounds(NamedTuple):
    """Bounds of the messages of a task.

    Attributes:
        size: maximum number of bytes of an envelope.
        lifetime: for which a message is signed, and the maximum that is accepted.
    """

    size: int
    lifetime: timedelta


BOUNDS: Final[Mapping[str, Bounds]] = MappingProxyType(
    {
        # A run takes an hour at most. Its own deadline is in the request: a worker whose clock is wrong can
        # report that only if it still accepts the envelope.
        RECONCILE_TASK: Bounds(MAX_MESSAGE_BYTES, timedelta(minutes=75)),
        REPORT_TASK: Bounds(MAX_MESSAGE_BYTES, timedelta(minutes=75)),
        DRIFT_TASK: Bounds(128 * 2**10, timedelta(minutes=10)),
        HELLO_TASK: Bounds(32 * 2**10, timedelta(minutes=10)),
        # A new leader sees for an hour that a worker lived.
        ALIVE_TASK: Bounds(4 * 2**10, timedelta(minutes=60)),
    }
)
