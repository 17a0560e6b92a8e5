"""The controller's process: it serves the API, and leads if no other controller does."""

import gc
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from ipaddress import ip_address
from typing import Final

import structlog
from celery import Celery
from kombu import Queue
from sqlalchemy import select

from contract import VERSION
from contract.runtime.broker import celery_app, check_broker, queue_for_controller
from contract.runtime.broker_settings import Broker
from contract.runtime.errors import OperatorError
from contract.runtime.logs import configure_logging
from contract.runtime.restart import exit_for_restart
from contract.runtime.startup import until_available, waits_at_start
from contract.signing.keys import PublicKey
from contract.verdicts import Mode
from controller.access import first_token
from controller.access.token_file import first_token_file
from controller.access.trusted_proxy import TrustedProxy
from controller.access.usage import WRITE_SECONDS, Usage
from controller.api.context import Context
from controller.api.same_site import Hosts
from controller.conditions.model import max_silence
from controller.db.engine import Database, open_database
from controller.db.models import Cluster
from controller.db.states import Role
from controller.health.live import Health
from controller.health.probes import BrokerTest, DatabaseTest
from controller.health.trail import TrailTest
from controller.leadership.election import Election
from controller.leadership.lease import Lease, this_process
from controller.leadership.sqlite_lock import only_one
from controller.process.arenas import bound_arenas
from controller.process.http import HttpServer, raise_descriptor_limit
from controller.process.leader_loops import LeaderLoops
from controller.process.loops import Loops, every
from controller.process.settings import CoreSettings
from controller.process.tls import Tls
from controller.process.waiting import WaitingApi
from controller.safety.breaker import BreakerLimits
from controller.swarm.manager import DockerSwarm
from controller.swarm.managers import Managers
from controller.traces.collector import Collector
from controller.trust import given_token
from controller.trust.keyring import Keyring
from controller.trust.own_key import ensure as ensure_key
from controller.trust.own_key import key_file
from controller.web.app import Served

log = structlog.get_logger(__name__)

_STOP_SECONDS: Final = 5.0
_NEW_OBJECTS: Final = 10_000
"""So many more than before are looked through for garbage."""


@dataclass(frozen=True, slots=True)
class LocalWorker:
    """The worker inside this process, for `vxctl up`: its queue, and how to start and stop it."""

    queue: Queue
    start: Callable[[], None]
    stop: Callable[[], None]


def run(
    settings: CoreSettings,
    broker: Broker | str,
    attach: Callable[[Celery, Database, PublicKey], LocalWorker] | None = None,
    silence: float | None = None,
    join_token_file: str = "",
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        attach: in the all-in-one process, builds the worker, which believes the given key.
        silence: seconds without a message after which the consumer is tested; None: never.
        join_token_file: file with a join token to store; empty: none.

    Raises:
        OperatorError: something it needs is missing; nothing was changed.
    """
    configure_logging(level=settings.log_level, form=settings.log_format)
    raise_descriptor_limit()
    bound_arenas()
    proxy = _proxy(settings)
    settings.outgoing()  # A contradiction in them is an error at once.
    tls = Tls.of(settings.listen_cert, settings.listen_key)
    listener = listen(settings.listen)
    if tls is None and settings.listen_plain == "false":
        _refuse_plain(listener, settings.listen)
    address = settings.collector()
    collector = None if address is None else Collector(address)
    swarm = DockerSwarm(Managers(settings.dockers()))
    app = celery_app("controller", broker)
    waits = waits_at_start(settings.wait_at_start)
    if not waits:
        swarm.check()
        check_broker(app)
    url = settings.database_url.get_secret_value()
    with only_one(url), ExitStack() as opened:
        with WaitingApi(listener, tls) as waiting:
            wait = partial(until_available, waits=waits, tell=waiting.tell)
            database = opened.enter_context(closing(wait(partial(open_database, url))))
            # A controller that has read the Swarm before shows what it knows, and what is away as conditions.
            swarm.managers.swarm_id = _swarm_read_before(database)
            if swarm.managers.swarm_id is None:
                wait(swarm.check)
        first_token.ensure(database, first_token_file(settings.api_token_file, url))
        file = key_file(settings.signing_key, url)
        key = ensure_key(database, file)
        keys = Keyring(database, file, key)
        if join_token_file:
            given_token.ensure(database, join_token_file, key.public)
        worker = None if attach is None else attach(app, database, key.public)
        _serve(
            settings,
            listener,
            tls,
            swarm,
            app,
            database,
            keys=keys,
            proxy=proxy,
            worker=worker,
            silence=silence,
            keeps_users=isinstance(broker, Broker) and broker.acl,
            collector=collector,
        )


def _serve(
    settings: CoreSettings,
    listener: socket.socket,
    tls: Tls | None,
    swarm: DockerSwarm,
    app: Celery,
    database: Database,
    *,
    keys: Keyring,
    proxy: TrustedProxy | None,
    worker: LocalWorker | None,
    silence: float | None,
    keeps_users: bool,
    collector: Collector | None,
) -> None:
    limits = BreakerLimits(
        window=timedelta(seconds=settings.breaker_window_seconds),
        node_removals=settings.breaker_node_removals,
        max_nodes_share=settings.breaker_max_nodes_share,
        min_nodes=settings.breaker_min_nodes,
    )
    process, health = this_process(), Health()
    lease = Lease(database, process)
    leading = LeaderLoops(
        settings,
        limits=limits,
        swarm=swarm,
        app=app,
        database=database,
        health=health,
        lease=lease,
        keys=keys,
        queues=[queue_for_controller()] + ([] if worker is None else [worker.queue]),
        silence=silence,
        keeps_users=keeps_users,
        collector=collector,
    )
    election = Election(
        lease, won=leading.start, lost=partial(exit_for_restart, "the lease is lost")
    )
    usage = Usage()
    # Apart from each other, and from the leader's work: what hangs must not keep these from being known.
    alone = Loops(
        {
            "lease": every(lease.renew_seconds, election.step),
            "broker test": BrokerTest(app, health.broker).step,
            "database test": DatabaseTest(database, health.database, process).step,
            "audit trail test": TrailTest(database, health.trail).step,
            # A controller that does not lead, too, puts the key of a rotation in its place.
            "keys": keys.step,
            "last used": every(WRITE_SECONDS, partial(usage.write, database)),
        }
    )
    context = Context(
        database,
        mode=Mode(settings.mode),
        notify=leading.notify,
        requeue=leading.requeue,
        leading=lease.still_leads,
        breaker=limits,
        stale_after=max_silence(timedelta(seconds=settings.resync_seconds)),
        hosts=Hosts.of(settings.listen, settings.allowed_hosts),
        health=health,
        usage=usage,
        proxy=proxy,
        outgoing=settings.outgoing(),
        keys=keys,
        trace_url=settings.trace_url,
    )
    served = Served(context)
    server = HttpServer(served, ending=served.end_streams, tls=tls)
    # uvicorn stops at these, and then raises them again for the previous handlers.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    if worker is not None:
        worker.start()
    alone.start()
    tune_garbage_collection()
    log.info(
        "controller started",
        version=VERSION,
        listen=settings.listen,
        tls=tls is not None,
        mode=settings.mode,
    )
    try:
        server.run(sockets=[listener])
    finally:
        alone.stop(_STOP_SECONDS)
        leading.stop()
        if worker is not None:
            worker.stop()
        lease.release()
        log.info("controller stopped")


def tune_garbage_collection() -> None:
    """Exempt all present objects, which stay, from garbage collection, and look for new garbage less often.

    A full collection of them takes 85 ms, and all threads wait for it. By Python's own threshold of 700
    objects, 5,000 nodes that report at once cost 1,100 collections of what is nearly all in use: 7 % of the
    processor time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)


def _swarm_read_before(database: Database) -> str | None:
    """Return the id of the Swarm that the database is about; None: none was read yet."""
    with database.read() as session:
        return session.scalar(select(Cluster.swarm_id))


def _proxy(settings: CoreSettings) -> TrustedProxy | None:
    """Return the proxy that may name users, if there is one; raise `UsageError` for a wrong setting."""
    return TrustedProxy.of(
        settings.auth_proxy_from,
        settings.auth_proxy_user_header,
        settings.auth_proxy_groups_header,
        {
            Role.READ: settings.auth_proxy_read_group,
            Role.OPERATE: settings.auth_proxy_operate_group,
            Role.ADMIN: settings.auth_proxy_admin_group,
        },
    )


def listen(address: str) -> socket.socket:
    """Bind the API's socket, before anything else starts: a taken port is an error at once.

    Args:
        address: HOST:PORT; port 0: a free one.

    Raises:
        OperatorError: the address is not of this machine, or in use.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        listener = socket.create_server(
            (host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        raise OperatorError(
            f"cannot listen on {address}: {error.strerror or error}",
            "set VXLAN_OPERATOR_LISTEN (or --listen) to a free HOST:PORT of this machine",
        ) from error
    # Connections inherit it. asyncio does not set it here (the socket has no protocol number), and then a
    # body waits for the client's acknowledgement of the headers: 40 ms for each answer.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _refuse_plain(listener: socket.socket, address: str) -> None:
    """Refuse to send tokens over a network in the clear, unless told to.

    Raises:
        OperatorError: the socket is not on loopback; it is closed.
    """
    if ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback:
        return
    listener.close()
    raise OperatorError(
        f"{address} is not loopback, and without TLS everybody on the way can read tokens",
        "set VXLAN_OPERATOR_LISTEN_CERT and VXLAN_OPERATOR_LISTEN_KEY; or, on a trusted network or behind "
        "a proxy with TLS, VXLAN_OPERATOR_LISTEN_PLAIN=true",
    )
