"""Networks and services for the tests; the fixture `stack` removes them again."""

import json
from collections.abc import Iterable

from tests.lab import Lab, LabError, LabNetwork, Node


def make_network(lab: Lab, name: str) -> LabNetwork:
    """An overlay network."""
    lab.manager.docker("network", "create", "--driver", "overlay", "--label", "test", name)
    return lab.network(name)


def make_service(lab: Lab, name: str, network: str, node: Node, replicas: int = 1) -> None:
    """A service that stays on one node, and is tried again a second after it failed."""
    lab.manager.docker(
        *("service", "create", "--detach", "--no-resolve-image", "--name", name),
        *("--network", network, "--replicas", str(replicas), "--stop-grace-period", "1s"),
        *("--restart-delay", "1s", "--constraint", f"node.hostname=={node.name}"),
        *("bb:1", "sleep", "100000"),
    )


# Of Docker 28.5's address management, when a subnet is given again soon after its network's end. It comes
# just so in a Swarm without any operator, and knows nothing of links, which are all that we touch.
_NOT_OURS = "Pool overlaps with other one on this address space"


def failures(lab: Lab, services: Iterable[str]) -> dict[str, list[str]]:
    """The errors of services' tasks, by service, except such as the operator cannot cause."""
    errors = {
        service: [error for error in lab.task_errors(service) if _NOT_OURS not in error]
        for service in services
    }
    return {service: of_service for service, of_service in errors.items() if of_service}


def address(node: Node, service: str, network: str) -> tuple[str, str]:
    """Container id, and address on the network, of a service's task on a node."""
    label = f"label=com.docker.swarm.service.name={service}"
    container = node.docker("ps", "--quiet", "--filter", label).split()[0]
    inspected = json.loads(node.docker("inspect", container))[0]
    return container, inspected["NetworkSettings"]["Networks"][network]["IPAddress"]


def reaches(source: tuple[Node, str], target: tuple[Node, str], network: str) -> bool:
    """Whether packets pass the overlay network from one service's task to another's, on other nodes."""
    container, _ = address(*source, network)
    _, there = address(*target, network)
    try:
        source[0].docker("exec", container, "/bin/busybox", "ping", "-c", "1", "-W", "2", there)
    except LabError:
        return False
    return True


def scale(lab: Lab, service: str, replicas: int) -> None:
    """Set how many tasks a service has, without waiting for them."""
    lab.manager.docker("service", "scale", "--detach", f"{service}={replicas}")
