"""Networks and services for the tests; the fixture `stack` removes them again."""

from tests.lab import Lab, LabNetwork, Node


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


def scale(lab: Lab, service: str, replicas: int) -> None:
    """Set how many tasks a service has, without waiting for them."""
    lab.manager.docker("service", "scale", "--detach", f"{service}={replicas}")
