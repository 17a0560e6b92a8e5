"""The worker's process: one Celery consumer in the main thread, until a signal ends it."""

import signal
import time
from types import FrameType
from typing import Final

import structlog
from celery import Celery
from celery.worker import WorkController
from celery.worker import state as celery_state

from contract import VERSION
from contract.runtime.broker import celery_app, check_broker, queue_for_node
from contract.runtime.logs import configure_logging
from worker.agent import Agent
from worker.settings import WorkerSettings

log = structlog.get_logger(__name__)

_RETRY_SECONDS: Final = 1.0


def run(settings: WorkerSettings) -> None:
    """Serve reconcile requests until SIGTERM or SIGINT.

    Raises:
        OperatorError: something it needs is missing; nothing was changed.
    """
    configure_logging(level=settings.log_level)
    app = celery_app("worker", settings.broker_url.get_secret_value())
    app.conf.task_queues = [queue_for_node(settings.node_id)]
    check_broker(app)
    agent = Agent.open(settings, app)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _shut_down)
    agent.start()
    agent.watchdog.start()
    log.info("worker started", node_id=settings.node_id, version=VERSION, mode=settings.mode)
    try:
        # Celery gives up at some errors of Redis, such as a key of another kind in the queue's place.
        while _consume(app, settings.node_id) and not _stop_asked():
            log.error("the consumer failed, starting another", after_seconds=_RETRY_SECONDS)
            time.sleep(_RETRY_SECONDS)
    finally:
        agent.stop()
        log.info("worker stopped", node_id=settings.node_id)


def _consume(app: Celery, node_id: str) -> int:
    """Answer requests until a signal; return Celery's exit code, 0 if it was one."""
    consumer = WorkController(
        app=app,
        # One run at a time is the promise, and with threads Celery 5.7 exits when the broker goes
        # away in the middle of a task.
        pool_cls="solo",
        concurrency=1,
        hostname=f"worker@{node_id}",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    consumer.start()
    return int(consumer.exitcode or 0)


def _shut_down(_signal: int, _frame: FrameType | None) -> None:
    # The loop looks at this between tasks and at least once a second. Raising WorkerShutdown here
    # would be quicker, and would cut short a run in the middle of its removals.
    celery_state.should_stop = 0


def _stop_asked() -> bool:
    return celery_state.should_stop is not None
