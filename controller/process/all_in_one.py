"""`vxctl up`: controller and worker of one machine in one process, with SQLite and no Redis.

The one module that imports both sides; import-linter sees to that.
"""

from datetime import UTC, datetime
from functools import partial

from celery import Celery

from contract.runtime.broker import MEMORY_BROKER, queue_for_node
from contract.runtime.dockerd import Docker
from contract.runtime.errors import OperatorError, UsageError
from contract.runtime.logs import configure_logging
from contract.runtime.startup import (
    UnavailableError,
    until_available,
    waits_at_start,
)
from contract.signing.keys import PublicKey
from controller.db.engine import Database
from controller.process.controller import LocalWorker, run
from controller.process.settings import LocalSettings
from controller.swarm.manager import DockerSwarm
from controller.swarm.managers import Managers
from controller.swarm.model import SwarmError
from controller.trust.store import pin


def up(settings: LocalSettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        OperatorError: something it needs is missing; nothing was changed.
    """
    try:
        from worker.agent import Agent
        from worker.settings import WorkerSettings
    except ImportError as error:
        raise OperatorError(
            f"the worker cannot be loaded: {error}", "pip install 'vxlan-operator[worker]'"
        ) from error
    configure_logging(level=settings.log_level, form=settings.log_format)
    docker, *others = settings.dockers()
    if others:
        raise UsageError(
            "vxctl up is about this machine alone, and several managers are given",
            f"set VXLAN_OPERATOR_DOCKER_HOST={docker.url}",
        )
    node_id = until_available(
        partial(_node_id, docker), waits=waits_at_start(settings.wait_at_start)
    )
    shared = settings.model_dump(include={*WorkerSettings.model_fields})

    def attach(app: Celery, database: Database, controllers: PublicKey) -> LocalWorker:
        given = {"node_id": node_id, "controller_key": controllers.text}
        agent = Agent.open(WorkerSettings.load(shared | given), app)
        with database.write() as session:
            pin(session, node_id, agent.key, datetime.now(UTC))
        return LocalWorker(queue_for_node(node_id), agent.start, agent.stop)

    run(settings, MEMORY_BROKER, attach)


def _node_id(docker: Docker) -> str:
    swarm = DockerSwarm(Managers([docker]))
    try:
        return swarm.local_node_id()
    except SwarmError as error:
        raise UnavailableError(
            str(error),
            "run it on a Swarm manager, or set VXLAN_OPERATOR_DOCKER_HOST (or --docker-host)",
        ) from error
    finally:
        swarm.close()
