"""A Swarm made of values: builders of its parts, and a `controller.swarm.Swarm` that says what it is told."""

from collections.abc import Sequence

from controller.swarm import Snapshot, SwarmError, SwarmNetwork, SwarmNode, SwarmTask


def swarm_id(name: str) -> str:
    """A valid Swarm id that begins with `name`, always the same one: 25 digits in base 36."""
    return name.lower().ljust(25, "z")[:25]


def node(name: str, *, address: str = "192.0.2.1", state: str = "ready") -> SwarmNode:
    """A worker node with this hostname."""
    return SwarmNode(
        id=swarm_id(name),
        hostname=name,
        role="worker",
        availability="active",
        state=state,
        address=address,
    )


def network(name: str, *vnis: int, ingress: bool = False) -> SwarmNetwork:
    """A network with these VNIs."""
    return SwarmNetwork(id=swarm_id(name), name=name, ingress=ingress, vnis=vnis)


def task(
    name: str,
    on: str,
    *networks: str,
    attachment: bool = False,
    live: bool = True,
    wanted: bool | None = None,
    error: str = "",
) -> SwarmTask:
    """A task on a node, attached to networks, all given by name; one that is not live has ended."""
    return SwarmTask(
        id=swarm_id(name),
        node_id=swarm_id(on),
        networks=tuple(swarm_id(each) for each in networks),
        attachment=attachment,
        wanted=live if wanted is None else wanted,
        running=live,
        error=error,
    )


INGRESS = network("ingress", 4096, ingress=True)
SHOP = network("shop", 4097)
MAIL = network("mail", 4098)


def snapshot(
    *nodes: str | SwarmNode,
    networks: Sequence[SwarmNetwork] = (INGRESS, SHOP, MAIL),
    tasks: Sequence[SwarmTask] = (),
    swarm: str = "swarm",
    port: int = 4789,
) -> Snapshot:
    """A Swarm of these nodes (`one` and `two` unless told), given by name or whole."""
    return Snapshot(
        swarm_id=swarm_id(swarm),
        data_path_port=port,
        nodes=tuple(
            node(each) if isinstance(each, str) else each for each in nodes or ("one", "two")
        ),
        networks=tuple(networks),
        tasks=tuple(tasks),
    )


class FakeSwarm:
    """Says what it is told, or fails as it is told."""

    def __init__(self, answer: Snapshot | SwarmError) -> None:
        self.answer = answer

    def snapshot(self) -> Snapshot:
        """See `Swarm.snapshot`."""
        if isinstance(self.answer, SwarmError):
            raise self.answer
        return self.answer
