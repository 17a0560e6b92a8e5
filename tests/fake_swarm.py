"""A Swarm made of values: builders of its parts, and a `DockerSwarm` that says what it is told."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from contract.verdicts import Mode
from controller.swarm.manager import DockerSwarm
from controller.swarm.model import (
    Subnet,
    SwarmError,
    SwarmIdentity,
    SwarmMovedError,
    SwarmNetwork,
    SwarmNode,
    SwarmTask,
)
from tests.fake_clock import START


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A Swarm's state, whole."""

    swarm_id: str
    data_path_port: int
    nodes: tuple[SwarmNode, ...]
    networks: tuple[SwarmNetwork, ...]
    tasks: tuple[SwarmTask, ...]

    @property
    def identity(self) -> SwarmIdentity:
        """Which Swarm it is."""
        return SwarmIdentity(self.swarm_id, self.data_path_port)


def read_whole(swarm: DockerSwarm) -> Snapshot:
    """Everything that a Swarm says."""
    identity = swarm.identity()
    nodes = tuple(swarm.nodes())
    return Snapshot(
        identity.swarm_id,
        identity.data_path_port,
        nodes,
        tuple(swarm.networks()),
        tuple(swarm.tasks_of_nodes([each.id for each in nodes])),
    )


def swarm_id(name: str) -> str:
    """A valid Swarm id that begins with `name`, always the same one: 25 digits in base 36."""
    return name.lower().ljust(25, "z")[:25]


def node(
    name: str,
    *,
    address: str = "192.0.2.1",
    state: str = "ready",
    mode: Mode | None = None,
    ignore: bool = False,
) -> SwarmNode:
    """A worker node with this hostname."""
    return SwarmNode(
        id=swarm_id(name),
        hostname=name,
        role="worker",
        availability="active",
        state=state,
        address=address,
        label_mode=mode,
        label_ignore=ignore,
    )


def network(
    name: str, *vnis: int, ingress: bool = False, mode: Mode | None = None, ignore: bool = False
) -> SwarmNetwork:
    """A network with these VNIs, and a subnet for each: VNI 4098 has 10.0.2.0/24, and so on."""
    return SwarmNetwork(
        id=swarm_id(name),
        name=name,
        ingress=ingress,
        subnets=tuple(Subnet(vni, cidr(vni)) for vni in vnis),
        label_mode=mode,
        label_ignore=ignore,
    )


def cidr(vni: int) -> str:
    """The subnet of a VNI."""
    return f"10.0.{vni % 256}.0/24"


def task(
    name: str,
    on: str,
    *networks: str,
    attachment: bool = False,
    live: bool = True,
    wanted: bool | None = None,
    error: str = "",
    service: str = "",
    since: datetime | None = START,
    ending: bool = False,
    slot: int = 0,
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
        service_id=swarm_id(service) if service else "",
        since=since,
        ending=ending,
        refused=bool(error) and not live,
        slot=slot,
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


class FakeSwarm(DockerSwarm):
    """Says what it is told, or fails as it is told.

    Attributes:
        answer: what it says.
        waiting: ids of tasks that wait to be started.
        asked: the questions, with what was asked about.
        before: called with each question before it is answered.
    """

    def __init__(self, answer: Snapshot | SwarmError) -> None:
        super().__init__("unix:///values")
        self.answer = answer
        self.waiting: set[str] = set()
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.before: Callable[[str], None] = lambda _question: None

    def identity(self) -> SwarmIdentity:
        """See `DockerSwarm.identity`."""
        return self._said("identity").identity

    def nodes(self, ids: Sequence[str] = ()) -> Sequence[SwarmNode]:
        """See `DockerSwarm.nodes`."""
        return [each for each in self._said("nodes", *ids).nodes if not ids or each.id in ids]

    def networks(self, ids: Sequence[str] = ()) -> Sequence[SwarmNetwork]:
        """See `DockerSwarm.networks`."""
        return [each for each in self._said("networks", *ids).networks if not ids or each.id in ids]

    def tasks_of_nodes(self, ids: Sequence[str]) -> Sequence[SwarmTask]:
        """See `DockerSwarm.tasks_of_nodes`."""
        state = self._said("tasks_of_nodes", *ids)
        if not {each.id for each in state.nodes}.issuperset(ids):
            raise SwarmMovedError("no such node")
        return [each for each in state.tasks if each.node_id in ids]

    def tasks_of_service(self, service_id: str) -> Sequence[SwarmTask]:
        """See `DockerSwarm.tasks_of_service`."""
        state = self._said("tasks_of_service", service_id)
        return [each for each in state.tasks if each.service_id == service_id]

    def restarting(self) -> Sequence[SwarmTask]:
        """See `DockerSwarm.restarting`."""
        return [each for each in self._said("restarting").tasks if each.id in self.waiting]

    def _said(self, question: str, *ids: str) -> Snapshot:
        self.asked.append((question, ids))
        self.before(question)
        if isinstance(self.answer, SwarmError):
            raise self.answer
        return self.answer
