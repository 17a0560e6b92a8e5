"""The fake Swarm: what a manager's Docker API answers, read by the real `DockerSwarm`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from docker.errors import APIError

from contract.verdicts import Mode
from controller.safety.labels import IGNORE_LABEL, MODE_LABEL
from controller.swarm.manager import DockerSwarm
from tests.fake_docker import VNI_OPTION, Json
from tests.fake_swarm import swarm_id

_PORT = 4789


class FakeManager:
    """A Swarm that a scenario writes, as the JSON of a manager's API; `swarm` reads it.

    Attributes:
        quorum: whether the manager has one; without it each question is refused.
        port: the Swarm's data path port.
        names: Swarm id to the name that the scenario gave.
    """

    def __init__(self) -> None:
        self.quorum = True
        self.port = _PORT
        self.names: dict[str, str] = {}
        self.swarm = _Swarm(self)
        self._nodes: dict[str, Json] = {}
        self._networks: dict[str, Json] = {}
        self._tasks: dict[str, Json] = {}

    # What happens in the Swarm.

    def node(self, name: str, *, state: str, mode: Mode | None) -> None:
        """Let there be a node, or change it."""
        self._nodes[name] = {
            "ID": self._id(name),
            "Spec": {"Role": "worker", "Availability": "active", "Labels": _labels(mode)},
            "Description": {"Hostname": name},
            "Status": {"State": state, "Addr": "192.0.2.1"},
        }

    def network(
        self,
        name: str,
        vnis: Sequence[str],
        subnets: Sequence[str],
        *,
        ingress: bool,
        mode: Mode | None,
        ignore: bool,
    ) -> None:
        """Let there be a network, or change it."""
        labels = _labels(mode) | ({IGNORE_LABEL: "true"} if ignore else {})
        self._networks[name] = {
            "Id": self._id(name),
            "Name": name,
            "Ingress": ingress,
            "Options": {VNI_OPTION: ",".join(vnis)},
            "IPAM": {"Config": [{"Subnet": each} for each in subnets]},
            "Labels": labels,
        }

    def task(
        self,
        name: str,
        *,
        networks: Sequence[str],
        node: str,
        state: str,
        desired: str,
        error: str,
        at: datetime,
        container: bool,
    ) -> None:
        """Let there be a task, or a `docker run` container on attachable networks; or change it."""
        attachments = [
            {"Network": {"ID": swarm_id(each), "DriverState": {"Name": "overlay"}}}
            for each in networks
        ]
        self._tasks[name] = {
            "ID": self._id(name),
            "NodeID": swarm_id(node),
            "Spec": {"NetworkAttachmentSpec" if container else "ContainerSpec": {}},
            "DesiredState": desired,
            "Status": {"State": state, "Err": error, "Timestamp": at.isoformat()},
            "NetworksAttachments": attachments,
        }

    def remove(self, name: str) -> bool:
        """Let a node, network or task be gone; return whether there was one."""
        found = [kind.pop(name, None) for kind in (self._nodes, self._networks, self._tasks)]
        return any(found)

    @property
    def node_names(self) -> Sequence[str]:
        """The nodes, in the order in which they came."""
        return list(self._nodes)

    @property
    def network_names(self) -> Sequence[str]:
        """The networks, in the order in which they came."""
        return list(self._networks)

    def _id(self, name: str) -> str:
        id_ = swarm_id(name)
        self.names[id_] = name
        return id_

    # What `DockerSwarm` asks of Docker's client.

    def info(self) -> Json:
        """See `docker.APIClient`."""
        self._must_have_quorum()
        return {
            "Swarm": {
                "LocalNodeState": "active",
                "ControlAvailable": True,
                "Cluster": {"ID": swarm_id("swarm"), "DataPathPort": self.port},
            }
        }

    def nodes(self, filters: Mapping[str, Any] | None = None) -> list[Json]:
        """See `docker.APIClient`."""
        self._must_have_quorum()
        return list(self._nodes.values())

    def networks(self, filters: Mapping[str, Any] | None = None) -> list[Json]:
        """See `docker.APIClient`."""
        self._must_have_quorum()
        return list(self._networks.values())

    def tasks(self, filters: Mapping[str, Any]) -> list[Json]:
        """See `docker.APIClient`."""
        self._must_have_quorum()
        return [each for each in self._tasks.values() if each["NodeID"] in filters["node"]]

    def close(self) -> None:
        """See `docker.APIClient`."""

    def _must_have_quorum(self) -> None:
        if not self.quorum:
            raise APIError("The swarm does not have a leader")


class _Swarm(DockerSwarm):
    """The real reader, with the fake manager for Docker's client."""

    def __init__(self, manager: FakeManager) -> None:
        super().__init__("unix:///the/scenario")
        self._manager_of_scenario = manager

    def _connected(self) -> Any:
        return self._manager_of_scenario


def _labels(mode: Mode | None) -> dict[str, str]:
    return {} if mode is None else {MODE_LABEL: mode.value}
