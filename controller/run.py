"""The controller's process: everybody serves the API, and the one that leads does all the rest."""

import signal
import socket
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from functools import partial
from typing import Final, TypeVar

import structlog
import uvicorn
from celery import Celery

from contract import VERSION
from contract.broker import celery_app, check_broker, queue_for_controller
from contract.errors import OperatorError
from contract.local import LocalWorker
from contract.logs import configure_logging
from contract.restart import start_anew, started_anew
from contract.selftest import LONGEST_SILENCE
from contract.verdicts import Mode
from controller.api import IDENTITY_HEADER
from controller.api.app import build
from controller.api.context import Context
from controller.audit.custodian import Custodian
from controller.audit.retention import Retention
from controller.breaker import Limits
from controller.conditions.keep import Conditions
from controller.conditions.words import longest_silence
from controller.consumer import Consumer
from controller.database import Database, open_database
from controller.dispatch import ALL, URGENT, Dispatcher
from controller.housekeeping import Housekeeping
from controller.intake import Intake
from controller.leader import (
    RENEW_SECONDS,
    Election,
    FencedDatabase,
    Lease,
    only_one,
    this_process,
)
from controller.loops import Loops, every
from controller.settings import CoreSettings
from controller.states import Priority
from controller.swarm.events import Events, Hints
from controller.swarm.manager import DockerSwarm
from controller.swarm.sync import Sync

log = structlog.get_logger(__name__)

_STOP_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 2.0
_HOUSEKEEPING_SECONDS: Final = 5.0
"""A batch each is twice of what 5,000 nodes write at the default resync."""

_GATHER_SECONDS: Final = 0.2
"""Events come in bursts: so long they are gathered before there is a look."""

_T = TypeVar("_T")


def run(
    settings: CoreSettings,
    broker_url: str,
    attach: Callable[[Celery], LocalWorker] | None = None,
    silence: float | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: where everything is.
        broker_url: where the workers are reached.
        attach: for the all-in-one process: builds the worker on the app it is given.
        silence: seconds without a message after which the consumer is tested; None: never.

    Raises:
        OperatorError: something it needs is missing; nothing was changed.
    """
    configure_logging(level=settings.log_level)
    listener = _listen(settings.listen)
    swarm = DockerSwarm(settings.docker_host)
    _need(swarm.check)
    app = celery_app("controller", broker_url)
    _need(partial(check_broker, app))
    url = settings.database_url.get_secret_value()
    with only_one(url), closing(_need(partial(open_database, url))) as database:
        worker = None if attach is None else attach(app)
        _serve(settings, listener, swarm, app, database, worker, silence)


def _serve(
    settings: CoreSettings,
    listener: socket.socket,
    swarm: DockerSwarm,
    app: Celery,
    database: Database,
    worker: LocalWorker | None,
    silence: float | None,
) -> None:
    mode = Mode(settings.mode)
    resync = timedelta(seconds=settings.resync_seconds)
    limits = Limits(
        window=timedelta(seconds=settings.breaker_window_seconds),
        node_removals=settings.breaker_node_removals,
        nodes_share=settings.breaker_nodes_share,
        nodes_least=settings.breaker_nodes_least,
    )
    lease = Lease(database, this_process())

    # What only the leader does writes to a database that takes nothing from anybody else.
    led = FencedDatabase(database, lease)
    dispatcher = Dispatcher(
        led,
        app,
        mode=mode,
        run_timeout=timedelta(seconds=settings.run_timeout_seconds),
        resync=resync,
        fence=lease.fence,
        limits=limits,
    )
    hints = Hints()
    events = Events(DockerSwarm(settings.docker_host), hints)
    sync = Sync(
        swarm,
        led,
        hints=hints,
        ring=dispatcher.ring,
        period=settings.sync_seconds,
        resync=settings.resync_seconds,
        share=settings.sync_share,
    )
    keeper = Housekeeping(led, retention=timedelta(days=settings.run_retention_days))
    conditions = Conditions(led, mode=mode, resync=resync)
    intake = Intake(led, resync=resync, limits=limits, ring=dispatcher.ring)
    queues = [queue_for_controller()] + ([] if worker is None else [worker.queue])
    consumer = Consumer(app, intake, queues, silence or LONGEST_SILENCE)

    def dispatch(lane: Priority) -> float:
        peace = dispatcher.step(lane)
        if not peace:
            dispatcher.wait(lane)
        return peace

    def read() -> float:
        sync.step()
        return _GATHER_SECONDS if hints.wait(settings.sync_seconds) else 0.0

    def hear() -> float:
        return 0.0 if events.step() else settings.sync_seconds

    work = Loops(
        {
            **({} if silence is None else {"self-test": consumer.check}),
            "sync": read,
            "dispatch": partial(dispatch, ALL),
            "dispatch urgent": partial(dispatch, URGENT),
            "housekeeping": every(_HOUSEKEEPING_SECONDS, keeper.step),
            "conditions": conditions.step,
            "audit": _custodian(settings, led).step,
        }
    )

    # Not one of those that are waited for at the end: it may be in the middle of a long silence.
    hearing = Loops({"events": hear})

    def lead() -> None:
        consumer.start()
        work.start()
        hearing.start()

    election = Election(lease, won=lead, lost=partial(start_anew, "the lease is lost"))
    candidacy = Loops({"lease": every(RENEW_SECONDS, election.step)})
    context = Context(
        database,
        mode=mode,
        ring=dispatcher.ring,
        leading=lease.still_leads,
        breaker=limits,
        stale_after=longest_silence(resync),
    )
    server = uvicorn.Server(
        uvicorn.Config(
            build(context),
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
    candidacy.start()
    log.info("controller started", version=VERSION, listen=settings.listen, mode=settings.mode)
    try:
        server.run(sockets=[listener])
    finally:
        candidacy.stop(_STOP_SECONDS)
        hearing.stop(0.0)
        dispatcher.ring()
        hints.wake()
        work.stop(_STOP_SECONDS)
        if lease.held:
            consumer.stop()
        if worker is not None:
            worker.stop()
        lease.release()
        log.info("controller stopped")


def _custodian(settings: CoreSettings, database: Database) -> Custodian:
    days, folder = settings.audit_retention_days, settings.audit_archive_directory
    return Custodian(database, Retention(database, days=days, folder=folder) if days else None)


def _need(check: Callable[[], _T]) -> _T:
    """Do a check of what the controller needs, or end with what is wrong.

    A process that was started anew waits instead: it needs no person for what was there a moment ago.
    """
    while True:
        try:
            return check()
        except OperatorError as error:
            if not started_anew():
                raise
            log.warning("will try again", error=str(error), seconds=_RETRY_SECONDS)
        time.sleep(_RETRY_SECONDS)


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
