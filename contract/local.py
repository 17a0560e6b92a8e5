"""What `vxctl up` asks of a worker that lives in its own process."""

from pathlib import Path
from typing import Final, Protocol

from celery import Celery
from kombu import Queue

from contract.verdicts import Mode

ENTRY_POINT_GROUP: Final = "vxlan_operator.local_worker"
"""The entry points that name a `LocalWorkerFactory`: controller and worker never import each other."""


class LocalWorker(Protocol):
    """A worker that registers its task with an app that somebody else consumes for."""

    @property
    def queue(self) -> Queue:
        """The queue that the consumer has to serve for it."""

    def start(self) -> None:
        """Start its threads."""

    def stop(self) -> None:
        """End its threads."""


class LocalWorkerFactory(Protocol):
    """Builds the worker of node `node_id`.

    Raises:
        OperatorError: something it needs is missing.
    """

    def __call__(
        self,
        app: Celery,
        *,
        node_id: str,
        journal: Path,
        grace: float,
        unclaimed: float,
        mode: Mode,
    ) -> LocalWorker: ...
