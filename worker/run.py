"""The worker's process: one Celery consumer in the main thread, until a signal ends it."""

import signal

import structlog

from contract import VERSION
from contract.runtime.broker import celery_app, check_broker, queue_for_node
from contract.runtime.consumer import consume, stop_consuming
from contract.runtime.logs import configure_logging
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
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop_consuming())
    agent.start()
    agent.watchdog.start()
    log.info("worker started", node_id=settings.node_id, version=VERSION, mode=settings.mode)
    try:
        consume(app, f"worker@{settings.node_id}")
    finally:
        agent.stop()
        log.info("worker stopped", node_id=settings.node_id)
