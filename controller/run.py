"""The controller's process: the API in the main thread, its loops beside it."""

import signal
import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Final

import structlog
import uvicorn
from celery import Celery

from contract import VERSION
from contract.broker import celery_app, check_broker, queue_for_controller
from contract.errors import OperatorError
from contract.local import LocalWorker
from contract.logs import configure_logging
from contract.verdicts import Mode
from controller.api import IDENTITY_HEADER
from controller.api.app import build
from controller.api.context import Context
from controller.consumer import Consumer
from controller.database import open_database
from controller.dispatch import ALL, URGENT, Dispatcher
from controller.intake import Intake
from controller.settings import CoreSettings
from controller.states import Priority
from controller.swarm import DockerSwarm
from controller.sync import Sync

log = structlog.get_logger(__name__)

_RETRY_SECONDS: Final = 2.0


def run(
    settings: CoreSettings,
    broker_url: str,
    attach: Callable[[Celery], LocalWorker] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: where everything is.
        broker_url: where the workers are reached.
        attach: for the all-in-one process: builds the worker on the app it is given.

    Raises:
        OperatorError: something it needs is missing; nothing was changed.
    """
    configure_logging(level=settings.log_level)
    listener = _listen(settings.listen)
    swarm = DockerSwarm(settings.docker_host)
    swarm.check()
    app = celery_app("controller", broker_url)
    check_broker(app)
    database = open_database(settings.database_url.get_secret_value())
    resync = timedelta(seconds=settings.resync_seconds)
    dispatcher = Dispatcher(
        database,
        app,
        mode=Mode(settings.mode),
        run_timeout=timedelta(seconds=settings.run_timeout_seconds),
        resync=resync,
    )
    sync = Sync(swarm, database, ring=dispatcher.ring)
    intake = Intake(database, resync=resync, ring=dispatcher.ring)
    worker = None if attach is None else attach(app)
    queues = [queue_for_controller()] + ([] if worker is None else [worker.queue])
    consumer = Consumer(app, intake, queues)
    stopping = threading.Event()

    def sync_once() -> None:
        sync.step()
        stopping.wait(settings.sync_seconds)

    def dispatch_once(lane: Priority) -> None:
        stopping.wait(dispatcher.step(lane))
        dispatcher.wait(lane)

    threads = [
        threading.Thread(target=_repeat, args=(step, stopping), name=name, daemon=True)
        for name, step in (
            ("sync", sync_once),
            ("dispatch", partial(dispatch_once, ALL)),
            ("dispatch urgent", partial(dispatch_once, URGENT)),
        )
    ]
    server = uvicorn.Server(
        uvicorn.Config(
            build(Context(database, mode=Mode(settings.mode), ring=dispatcher.ring)),
            headers=[(IDENTITY_HEADER, VERSION)],
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=5,
        )
    )
    # uvicorn stops at these, and then raises them again for whoever was there before: nobody.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    if worker is not None:
        worker.start()
    consumer.start()
    for thread in threads:
        thread.start()
    log.info("controller started", version=VERSION, listen=settings.listen, mode=settings.mode)
    try:
        server.run(sockets=[listener])
    finally:
        stopping.set()
        dispatcher.ring()
        consumer.stop()
        if worker is not None:
            worker.stop()
        for thread in threads:
            thread.join(5.0)
        database.close()
        log.info("controller stopped")


def _repeat(step: Callable[[], None], stopping: threading.Event) -> None:
    """Do a step again and again; an error (the database away, say) is told, and tried again."""
    while not stopping.is_set():
        try:
            step()
        except Exception:
            log.exception("will try again", seconds=_RETRY_SECONDS)
            stopping.wait(_RETRY_SECONDS)


def _listen(address: str) -> socket.socket:
    """Bind the API's socket before anything else starts: a taken port is told at once."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        return socket.create_server(
            (host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        raise OperatorError(
            f"cannot listen on {address}: {error.strerror or error}",
            "set VXLAN_OPERATOR_LISTEN (or --listen) to a free HOST:PORT of this machine",
        ) from error
