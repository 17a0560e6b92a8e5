"""The thread that consumes queue `controller` (and in `vxctl up` the node's queue as well)."""

import threading
from collections.abc import Sequence
from typing import Final

import structlog
from celery import Celery
from celery.worker import WorkController
from celery.worker import state as celery_state
from kombu import Queue

from contract.queues import DRIFT_TASK, REPORT_TASK
from controller.intake import Intake

log = structlog.get_logger(__name__)

_RESTART_SECONDS: Final = 1.0


class Consumer:
    """Runs a Celery consumer in a thread; one a process, because Celery's stop flag is global.

    Args:
        app: the app whose tasks are run; gets the tasks of `intake`.
        intake: what to do with reports and drift.
        queues: what to consume.
    """

    def __init__(self, app: Celery, intake: Intake, queues: Sequence[Queue]) -> None:
        self._app = app
        app.task(name=REPORT_TASK)(intake.report)
        app.task(name=DRIFT_TASK)(intake.drift)
        app.conf.task_queues = list(queues)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="consumer", daemon=True)

    def start(self) -> None:
        """Start consuming."""
        celery_state.should_stop = None
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread, within `timeout` seconds; what was not taken in stays in the queue."""
        self._stopping.set()
        celery_state.should_stop = 0
        self._thread.join(timeout)
        celery_state.should_stop = None

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                WorkController(
                    app=self._app,
                    pool_cls="solo",
                    concurrency=1,
                    hostname="controller@local",
                    without_gossip=True,
                    without_mingle=True,
                    without_heartbeat=True,
                ).start()
            except Exception:
                log.exception("the consumer failed, starting it again")
            self._stopping.wait(_RESTART_SECONDS)
