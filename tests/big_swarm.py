"""A Swarm of thousands of nodes, made up as it is asked for: as values, or as a manager's Docker API."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from controller.swarm.model import (
    Subnet,
    SwarmNetwork,
    SwarmNode,
    SwarmTask,
)
from tests.fake_docker import FakeDocker, Json, raw_network, raw_node, raw_task
from tests.fake_swarm import snapshot

_FILLER: Final = {"Labels": {f"com.example.label{each}": "x" * 60 for each in range(8)}}
"""What makes a task as large as a real one: 1.5 kB on an empty service, more on a real one."""


class BigSwarm:
    """So many nodes, networks and tasks, each task on several networks; the same each time.

    Args:
        nodes: how many.
        networks: how many besides the ingress network.
        tasks: how many on each node.
        attached: to how many networks each task is attached.
    """

    def __init__(self, nodes: int, networks: int, *, tasks: int, attached: int) -> None:
        self.node_ids = [_id("n", number) for number in range(nodes)]
        self._numbers = {id_: number for number, id_ in enumerate(self.node_ids)}
        self._network_ids = [_id("x", number) for number in range(networks)]
        self._tasks = tasks
        self._attached = attached

    def nodes(self) -> list[SwarmNode]:
        """The nodes."""
        return [
            SwarmNode(id_, f"node{number}", "worker", "active", "ready", "192.0.2.1")
            for number, id_ in enumerate(self.node_ids)
        ]

    def networks(self) -> list[SwarmNetwork]:
        """The networks."""
        ingress = SwarmNetwork(_id("i", 0), "ingress", ingress=True, subnets=(Subnet(4096),))
        return [
            ingress,
            *(
                SwarmNetwork(id_, f"net{number}", ingress=False, subnets=(Subnet(4097 + number),))
                for number, id_ in enumerate(self._network_ids)
            ),
        ]

    def tasks_of(self, node_ids: Sequence[str]) -> Iterator[SwarmTask]:
        """The tasks of these nodes."""
        for node_id in node_ids:
            node = self._numbers[node_id]
            for number in range(self._tasks):
                task = node * self._tasks + number
                first = task * self._attached
                yield SwarmTask(
                    id=_id("t", task),
                    node_id=node_id,
                    networks=tuple(
                        self._network_ids[(first + each) % len(self._network_ids)]
                        for each in range(self._attached)
                    ),
                    attachment=False,
                    wanted=True,
                    running=True,
                    error="",
                    service_id=_id("s", task % 5_000),
                )


class BigDocker(FakeDocker):
    """The Docker API of a manager of such a Swarm; knows questions about nodes, not about services."""

    def __init__(self, path: Path, swarm: BigSwarm) -> None:
        super().__init__(path, snapshot())
        self._swarm = swarm
        self.info["Swarm"]["NodeID"] = swarm.node_ids[0]
        self._nodes = json.dumps([raw_node(each) for each in swarm.nodes()]).encode()
        self._networks = json.dumps([raw_network(each) for each in swarm.networks()]).encode()

    def answer(self, what: str, filters: Json) -> object:
        """See `FakeDocker.answer`."""
        if what == "nodes":
            return self._nodes
        if what == "networks":
            return self._networks
        if what != "tasks":
            return super().answer(what, filters)
        if "node" not in filters or filters["runtime"]:
            return []
        return [self._task(each) for each in self._swarm.tasks_of(filters["node"])]

    @staticmethod
    def _task(task: SwarmTask) -> Json:
        raw = raw_task(task)
        raw["Spec"]["ContainerSpec"] = _FILLER
        return raw


def _id(kind: str, number: int) -> str:
    return f"{kind}{number:024}"
