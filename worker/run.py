"""The worker's process: one Celery consumer in the main thread, until a signal ends it."""

import signal
from types import FrameType

import structlog
from celery.exceptions import WorkerShutdown
from celery.worker import WorkController
from celery.worker import state as celery_state

from contract import VERSION
from contract.broker import celery_app, check_broker, queue_for_node
from contract.logs import configure_logging
from worker.agent import Agent
from worker.settings import WorkerSettings

log = structlog.get_logger(__name__)


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
    consumer = WorkController(
        app=app,
        # One run at a time is the promise, and with threads Celery 5.7 exits when the broker goes
        # away in the middle of a task.
        pool_cls="solo",
        concurrency=1,
        hostname=f"worker@{settings.node_id}",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _shut_down)
    agent.start()
    log.info("worker started", node_id=settings.node_id, version=VERSION, mode=settings.mode)
    try:
        consumer.start()
    finally:
        agent.stop()
        log.info("worker stopped", node_id=settings.node_id)


def _shut_down(_signal: int, _frame: FrameType | None) -> None:
    # Ends the run in progress first, if there is one: the loop looks at this between tasks.
    celery_state.should_stop = 0
    raise WorkerShutdown(0)
