"""The worker inside another process, for `vxctl up`; found there by its entry point, never imported."""

from pathlib import Path

from celery import Celery
from kombu import Queue

from contract.runtime.broker import queue_for_node
from contract.verdicts import Mode
from worker.agent import Agent
from worker.settings import WorkerSettings


class LocalWorker:
    """Implements `contract.local.LocalWorker`."""

    def __init__(
        self,
        app: Celery,
        *,
        node_id: str,
        journal: Path,
        grace: float,
        unclaimed: float,
        mode: Mode,
    ) -> None:
        settings = WorkerSettings(
            node_id=node_id,
            journal=journal,
            grace_seconds=grace,
            unclaimed_seconds=unclaimed,
            mode=mode.value,
        )
        self.queue: Queue = queue_for_node(node_id)
        self._agent = Agent.open(settings, app)

    def start(self) -> None:
        """Start watching and sending."""
        self._agent.start()

    def stop(self) -> None:
        """Stop and close everything."""
        self._agent.stop()
