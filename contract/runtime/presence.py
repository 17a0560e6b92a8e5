"""Signs of life of workers: a key of Redis per node, which its worker writes and the leader reads.

Each is an envelope (`contract.signing`), signed as the task `controller.alive`. A message to the controllers'
queue would cost the leader a millisecond; one pipeline reads a thousand keys. Of each no more is read than a
sign can have: any node can write to Redis whatever it likes.
"""

from collections.abc import Sequence
from typing import Final

from celery import Celery

from contract.queues import ALIVE_TASK, alive_key
from contract.runtime.probe import CommandConnection
from contract.signing.bounds import BOUNDS

_EXPIRES_SECONDS: Final = 3600
"""A new leader sees for so long that a worker lived."""
_BATCH: Final = 1000
"""Keys per pipeline: so many answers are in memory at once."""


def _sign(answer: bytes | Exception) -> bytes | None:
    if isinstance(answer, Exception):
        # One node must not keep the signs of all from being read: it can make a list of its key.
        if str(answer).startswith("WRONGTYPE"):
            return None
        raise answer
    return answer or None


class Presence:
    """Writes and reads signs of life, by a connection of its own. Not thread-safe.

    All methods raise the errors of the broker's client, after two seconds without an answer.
    """

    def __init__(self, app: Celery) -> None:
        self._connection = CommandConnection(app)

    def write(self, node_id: str, envelope: str) -> None:
        """Write the signed `SignOfLife` of a node's worker."""
        with self._connection.pipeline() as pipeline:
            if pipeline is not None:
                pipeline.set(alive_key(node_id), envelope, ex=_EXPIRES_SECONDS)
                pipeline.execute()

    def read(self, node_ids: Sequence[str]) -> list[bytes | None]:
        """Return the newest envelopes of these nodes' workers, unopened; None: there is none."""
        with self._connection.pipeline() as pipeline:
            if pipeline is None:
                return [None] * len(node_ids)
            found: list[bytes | None] = []
            for start in range(0, len(node_ids), _BATCH):
                for node_id in node_ids[start : start + _BATCH]:
                    pipeline.getrange(alive_key(node_id), 0, BOUNDS[ALIVE_TASK].size)
                found += map(_sign, pipeline.execute(raise_on_error=False))
            return found

    def close(self) -> None:
        """Drop the connection."""
        self._connection.close()
