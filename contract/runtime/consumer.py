"""The one Celery consumer of a process: one task at a time, started again when Celery gives up."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from celery import Celery
from celery.worker import WorkController
from celery.worker import state as celery_state

from contract.runtime.refusals import refusals

log = structlog.get_logger(__name__)

_RETRY_SECONDS: Final = 1.0

EXPIRED: Final = "expired"
FAILED: Final = "failed"


def consume(app: Celery, hostname: str) -> None:
    """Run the tasks of `app.conf.task_queues` in the calling thread, until `stop_consuming`."""
    while celery_state.should_stop is None:
        try:
            _consumer(app, hostname).start()
        except Exception:
            log.exception("the consumer cannot start")
        # Celery gives up at some errors of Redis, such as a key of another kind in the queue's place.
        if celery_state.should_stop is None:
            log.error("the consumer failed, starting another", after_seconds=_RETRY_SECONDS)
            time.sleep(_RETRY_SECONDS)
    refusals.flush(last=True)


def stop_consuming() -> None:
    """End `consume` after its present task, within a second: for a signal handler or any thread.

    Raising WorkerShutdown in a signal handler would be quicker, and would cut a task short.
    """
    celery_state.should_stop = 0


def _consumer(app: Celery, hostname: str) -> WorkController:
    return WorkController(
        app=app,
        # One task at a time is the promise, and with threads Celery 5.7 exits when the broker goes
        # away in the middle of a task.
        pool_cls="solo",
        concurrency=1,
        hostname=hostname,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )


def at_once(
    dropped: Callable[[str], None], task: Any, _app: Celery, consumer: Any
) -> Callable[..., None]:
    """Celery's `Task.Strategy` for tasks that take a message and are done: call the function, and no more.

    Celery's own makes a request of each message, which takes three times as long as opening and storing what
    most say. As there: acknowledged first, dropped when expired, and an error is logged and ends nothing.
    `dropped` is called with `EXPIRED` or `FAILED`.
    """

    def received(message: Any, _body: Any, ack: Callable[..., None], *_: Any) -> None:
        ack(log, consumer.connection_errors)
        expires = message.headers.get("expires")
        if expires is not None and datetime.fromisoformat(expires) < datetime.now(UTC):
            dropped(EXPIRED)
            log.info("dropped a message that came too late", task=task.name)
            return
        arguments, _keywords, _links = message.payload
        try:
            task.run(*arguments)
        except Exception:
            dropped(FAILED)
            log.exception("a message could not be handled", task=task.name)

    return received
