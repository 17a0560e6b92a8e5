"""`vxctl up`: controller and worker of one machine in one process, with SQLite and no Redis."""

from importlib.metadata import entry_points

from celery import Celery

from contract.local import ENTRY_POINT_GROUP, LocalWorker, LocalWorkerFactory
from contract.runtime.broker import MEMORY_BROKER
from contract.runtime.errors import OperatorError
from contract.verdicts import Mode
from controller.process.controller import run
from controller.process.settings import LocalSettings
from controller.swarm.manager import DockerSwarm
from controller.swarm.model import SwarmError


def up(settings: LocalSettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        OperatorError: something it needs is missing; nothing was changed.
    """
    factory = _factory()
    swarm = DockerSwarm(settings.docker_host)
    try:
        node_id = swarm.local_node_id()
    except SwarmError as error:
        raise OperatorError(
            str(error),
            "run it on a Swarm manager, or set VXLAN_OPERATOR_DOCKER_HOST (or --docker-host)",
        ) from error
    finally:
        swarm.close()

    def attach(app: Celery) -> LocalWorker:
        return factory(
            app,
            node_id=node_id,
            journal=settings.journal,
            grace=settings.grace_seconds,
            unclaimed=settings.unclaimed_seconds,
            mode=Mode(settings.mode),
        )

    run(settings, MEMORY_BROKER, attach)


def _factory() -> LocalWorkerFactory:
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            factory: LocalWorkerFactory = entry_point.load()
        except ImportError as error:
            raise OperatorError(
                f"the worker cannot be loaded: {error}", "pip install 'vxlan-operator[worker]'"
            ) from error
        return factory
    raise OperatorError("the worker is not installed", "pip install 'vxlan-operator[worker]'")
