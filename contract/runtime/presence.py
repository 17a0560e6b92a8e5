"""Signs of life of workers: a key of Redis per node, which its worker writes and the leader reads.

Each is an envelope (`contract.signing`), signed as the task `controller.alive`. A message to the controllers'
queue would cost the leader a millisecond; one MGET reads a thousand keys.
"""

from collections.abc import Sequence
from typing import Final

from celery import Celery

from contract.runtime.probe import CommandConnection

_EXPIRES_SECONDS: Final = 3600
"""A new leader sees for so long that a worker lived."""
_BATCH: Final = 1000
"""Keys per command: Redis does nothing else meanwhile."""


def _key(node_id: str) -> str:
    return f"node.{node_id}.alive"


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
                pipeline.set(_key(node_id), envelope, ex=_EXPIRES_SECONDS)
                pipeline.execute()

    def read(self, node_ids: Sequence[str]) -> list[bytes | None]:
        """Return the newest envelopes of these nodes' workers, unopened; None: there is none."""
        with self._connection.pipeline() as pipeline:
            if pipeline is None:
                return [None] * len(node_ids)
            for start in range(0, len(node_ids), _BATCH):
                pipeline.mget([_key(node_id) for node_id in node_ids[start : start + _BATCH]])
            return [raw for batch in pipeline.execute() for raw in batch]

    def close(self) -> None:
        """Drop the connection."""
        self._connection.close()
