"""Networks and services for the tests; the fixture `stack` removes them again."""

import json
import time
from collections.abc import Iterable

from tests.lab import Lab, LabError, LabNetwork, Node, sandbox
from tests.servers import await_true


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


# Docker's nodes tell each other by gossip who is on which network. When a node leaves a network and is
# back within a second, as when a task starts just while Docker takes the last endpoint of another away,
# others may miss it (as in moby/moby#53437). Until two states are compared, every 30 s with a node picked
# at random, they have no FDB and neighbour entries for its tasks. So it was in Swarms without any operator,
# always on busy cores: 26.1.5, 2 of 114 pairs of tasks (for 31 and 46 s); 28.5.2, 1 of 114 (23 s).
_GOSSIP_SECONDS = 120.0


def await_packets(one: tuple[Node, str], other: tuple[Node, str], network: LabNetwork) -> None:
    """Wait until packets pass between two services' tasks on two nodes; their devices must be there.

    Which tasks a Docker has heard of has nothing to do with links, which are all that we touch. So it gets
    time to hear of these two, and has no excuse once it has.
    """

    def lost() -> list[str]:
        return [node.name for node, _ in (one, other) if not _carries(node, network)]

    def known() -> bool:
        return _knows(one[0], other, network) and _knows(other[0], one, network)

    def passed() -> bool:
        return reaches(one, other, network.name)

    assert lost() == [], f"the device of {network.name} is gone"
    until = time.monotonic() + _GOSSIP_SECONDS
    while not passed():
        left = max(0.0, until - time.monotonic())
        await_true(known, f"Docker's nodes hear of each other's tasks in {network.name}", left)
        await_true(lambda: passed() or not known(), f"packets pass in {network.name}")
    assert lost() == [], f"the device of {network.name} is gone"


def _carries(node: Node, network: LabNetwork) -> bool:
    """Whether the kernel shows a network's device in its sandbox on a node, UP and on a bridge."""
    enter = ("nsenter", f"--net={sandbox(node, network)}", "--")
    shown = node.run([*enter, "ip", "-json", "-details", "link", "show"], inside=True).stdout
    return any(
        link.get("linkinfo", {}).get("info_data", {}).get("id") == network.vnis[0]
        and "master" in link
        and "UP" in link["flags"]
        for link in json.loads(shown)
    )


def _knows(node: Node, target: tuple[Node, str], network: LabNetwork) -> bool:
    """Whether a node's Docker has heard of a service's task on another node."""
    _, there = address(*target, network.name)
    inspected = json.loads(node.docker("network", "inspect", "--verbose", network.name))[0]
    services = (inspected.get("Services") or {}).values()
    return any(task["EndpointIP"] == there for each in services for task in each["Tasks"])


def reaches(source: tuple[Node, str], target: tuple[Node, str], network: str) -> bool:
    """Whether packets pass the overlay network from one service's task to another's, on other nodes."""
    container, _ = address(*source, network)
    _, there = address(*target, network)
    try:
        source[0].docker("exec", container, "/bin/busybox", "ping", "-c", "1", "-W", "2", there)
    except LabError:
        return False
    return True


_ENDED = ("complete", "shutdown", "failed", "rejected", "remove", "orphaned")


def await_steady(lab: Lab, service: str, node: Node) -> None:
    """Wait until a service of one task has that and no other, which runs and is to run on."""

    def steady() -> bool:
        tasks = [task for task in lab.tasks(service) if task.state not in _ENDED]
        return [(task.node_id, task.state, task.desired_state) for task in tasks] == [
            (node.swarm_id, "running", "running")
        ]

    await_true(steady, f"{service} runs on {node.name}", 90.0)


def scale(lab: Lab, service: str, replicas: int) -> None:
    """Set how many tasks a service has, without waiting for them."""
    lab.manager.docker("service", "scale", "--detach", f"{service}={replicas}")
