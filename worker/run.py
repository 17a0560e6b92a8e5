"""The worker's process: one Celery consumer in the main thread, until a signal ends it."""

import signal
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from contract import VERSION
from contract.runtime.broker import celery_app, check_broker, queue_for_node
from contract.runtime.consumer import consume, stop_consuming
from contract.runtime.logs import configure_logging
from contract.runtime.restart import exit_for_restart
from contract.runtime.startup import (
    UnavailableError,
    until_available,
    waits_at_start,
)
from worker import metrics
from worker.agent import Agent
from worker.docker_socket import node_id
from worker.login import Login
from worker.metrics_server import MetricsServer
from worker.pulse import Pulse
from worker.settings import WorkerSettings
from worker.trust import Paths

log = structlog.get_logger(__name__)

_PATIENCE_SECONDS: Final = 30.0
"""For a controller to make this node's user of the broker, where a person waits."""


def run(settings: WorkerSettings) -> None:
    """Serve reconcile requests until SIGTERM or SIGINT.

    Raises:
        OperatorError: something it needs is missing; nothing was changed.
    """
    configure_logging(level=settings.log_level, form=settings.log_format)
    waits = waits_at_start(settings.wait_at_start)
    pulse = Pulse(Path(settings.alive_file) if settings.alive_file else None)
    pulse.start()
    given = bool(settings.node_id)
    if not given:
        asked = until_available(partial(_asked, settings.docker_socket), waits=waits)
        settings = settings.model_copy(update={"node_id": asked})
    broker, login = settings.broker(), None
    if broker.acl:
        login = Login.open(broker, settings.node_id, Paths(settings.journal).password)
    app = celery_app("worker", broker) if login is None else login.app
    app.conf.task_queues = [queue_for_node(settings.node_id)]
    # Else the consumer, which copes with a broker that is away, waits for it; or the login does.
    if not waits and login is None:
        check_broker(app)
    agent = Agent.open(settings, app, _moved if given else _follow, login)
    until_available(partial(agent.log_in, 0.0 if waits else _PATIENCE_SECONDS), waits=waits)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop_consuming())
    served = None
    if settings.metrics_listen:
        served = MetricsServer(settings.metrics_listen, lambda: metrics.text(agent.facts()))
    agent.start()
    agent.watchdog.start()
    agent.beacon.start()
    pulse.watch(agent.stalled)
    if served is not None:
        served.start()
    log.info("worker started", node_id=settings.node_id, version=VERSION, mode=settings.mode)
    try:
        consume(app, f"worker@{settings.node_id}")
    finally:
        pulse.stop()
        if served is not None:
            served.stop()
        agent.stop()
        log.info("worker stopped", node_id=settings.node_id)


def _asked(docker_socket: Path) -> str:
    """Ask dockerd for this node's id.

    Raises:
        UnavailableError: it is in no Swarm, or does not answer.
    """
    found = node_id(docker_socket)
    if found is None:
        raise UnavailableError(
            f"the Swarm id of this node is unknown: {docker_socket} does not answer, or is in no Swarm",
            "set VXLAN_OPERATOR_NODE_ID (or --node-id): docker info -f '{{.Swarm.NodeID}}' shows it",
        )
    return found


def _follow(node_id: str) -> None:
    exit_for_restart(f"this node left the Swarm and joined again: its id is {node_id} now")


def _moved(node_id: str) -> None:
    log.error(
        "this node has another id in the Swarm than this worker serves: nothing is removed here",
        node_id=node_id,
        hint="restart the worker with VXLAN_OPERATOR_NODE_ID set to that id, or unset: then it follows",
    )
