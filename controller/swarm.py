"""What the Swarm says: nodes, networks and tasks, from a manager's Docker API. The only user of its SDK."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import docker
import requests
from docker.errors import APIError, DockerException

from contract.errors import OperatorError

_VNI_OPTION: Final = "com.docker.network.driver.overlay.vxlanid_list"
"""Decimal VNIs, comma separated, one a subnet (moby libnetwork/drivers/overlay/ovmanager)."""

_DEFAULT_DATA_PATH_PORT: Final = 4789
_TIMEOUT_SECONDS: Final = 15
_ENDED: Final = frozenset({"complete", "shutdown", "failed", "rejected", "remove", "orphaned"})
"""Task states from which no task returns (swarmkit api/types.proto)."""

_REFUSED: Final = frozenset({"failed", "rejected"})
"""Ended, but against Swarm's will."""

_RUNS_TO_THE_END: Final = "complete"
"""The desired state of a job's task; a service's is `running`, or `ready` until its turn comes."""


class SwarmError(Exception):
    """The Swarm's state could not be read whole: nothing is known, and nothing may be changed."""


@dataclass(frozen=True, slots=True)
class SwarmNode:
    """A node as the Swarm describes it."""

    id: str
    hostname: str
    role: str
    availability: str
    state: str
    address: str


@dataclass(frozen=True, slots=True)
class SwarmNetwork:
    """An overlay network of the Swarm."""

    id: str
    name: str
    ingress: bool
    vnis: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SwarmTask:
    """A task: a service's, or the attachment of a `docker run` container to a network.

    Attributes:
        wanted: Swarm wants it on its node, whether it runs there, is about to, or was just refused.
        running: it runs, says its node.
        error: what the node said when it refused or failed it.
    """

    id: str
    node_id: str
    networks: tuple[str, ...]
    attachment: bool
    wanted: bool
    running: bool
    error: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The Swarm's state, read whole."""

    swarm_id: str
    data_path_port: int
    nodes: tuple[SwarmNode, ...]
    networks: tuple[SwarmNetwork, ...]
    tasks: tuple[SwarmTask, ...]


class Swarm(Protocol):
    """Where the controller reads the Swarm's state."""

    def snapshot(self) -> Snapshot:
        """Read everything.

        Raises:
            SwarmError: something could not be read, or makes no sense.
        """


class DockerSwarm:
    """The Swarm behind a manager's Docker API. For one thread.

    Args:
        url: unix:///PATH or tcp://HOST:PORT.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: docker.APIClient | None = None

    def check(self) -> None:
        """Make sure that this is a manager that answers.

        Raises:
            OperatorError: it is not.
        """
        try:
            self._manager()
        except SwarmError as error:
            raise OperatorError(
                str(error),
                "set VXLAN_OPERATOR_DOCKER_HOST (or --docker-host) to the Docker API of a Swarm manager",
            ) from error

    def local_node_id(self) -> str:
        """The Swarm id of the node that answers.

        Raises:
            SwarmError: it cannot be asked, or is no manager.
        """
        swarm = self._manager()
        with self._making_sense():
            return str(swarm["NodeID"])

    def snapshot(self) -> Snapshot:
        """See `Swarm.snapshot`."""
        info = self._manager()
        cluster = info["Cluster"]
        nodes = self._ask("nodes")
        networks = self._ask("networks", filters={"driver": "overlay", "scope": "swarm"})
        tasks = self._ask("tasks")
        # Attachable networks' containers are tasks too, but not in the list unless asked for.
        attachments = self._ask("tasks", filters={"runtime": "attachment"})
        with self._making_sense():
            placed = [task for each in (*tasks, *attachments) if (task := _task(each))]
            found = Snapshot(
                swarm_id=cluster["ID"],
                data_path_port=cluster.get("DataPathPort") or _DEFAULT_DATA_PATH_PORT,
                nodes=tuple(_node(each) for each in nodes),
                networks=tuple(_network(each) for each in networks),
                tasks=tuple({task.id: task for task in placed}.values()),
            )
        if not found.networks and any(task.networks for task in found.tasks):
            raise SwarmError(
                f"the Docker API at {self._url} listed no overlay networks, though tasks use some"
            )
        if not found.nodes:
            raise SwarmError(f"the Docker API at {self._url} listed no nodes, which cannot be")
        return found

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _manager(self) -> Mapping[str, Any]:
        """The `Swarm` part of `docker info`, from a manager."""
        info = self._ask("info")
        with self._making_sense():
            swarm: Mapping[str, Any] = info.get("Swarm") or {}
            state = swarm.get("LocalNodeState")
        if state != "active":
            raise SwarmError(f"the Docker at {self._url} is in no Swarm (state {state!r})")
        if not swarm.get("ControlAvailable") or not swarm.get("Cluster"):
            raise SwarmError(f"the Docker at {self._url} is not a manager of its Swarm")
        return swarm

    @contextmanager
    def _making_sense(self) -> Iterator[None]:
        """Read an answer, which may be anything."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SwarmError(
                f"the Docker API at {self._url} gave an answer that cannot be understood: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _ask(self, what: str, **arguments: Any) -> Any:
        try:
            if self._client is None:
                self._client = docker.APIClient(base_url=self._url, timeout=_TIMEOUT_SECONDS)
            return getattr(self._client, what)(**arguments)
        except APIError as error:
            raise SwarmError(
                f"the Docker API at {self._url} refused to list {what}: {error.explanation or error}"
            ) from error
        except (DockerException, requests.RequestException, OSError, ValueError) as error:
            # The connection may be broken in a way that a new one is not.
            self.close()
            raise SwarmError(f"the Docker API at {self._url} does not answer: {error}") from error
        except (KeyError, TypeError) as error:
            # The SDK stumbles over an error whose body is JSON, but not Docker's.
            raise SwarmError(
                f"the Docker API at {self._url} gave an error that is not Docker's: {error}"
            ) from error


def _node(raw: Mapping[str, Any]) -> SwarmNode:
    return SwarmNode(
        id=raw["ID"],
        hostname=raw["Description"].get("Hostname") or raw["ID"],
        role=raw["Spec"]["Role"],
        availability=raw["Spec"]["Availability"],
        state=raw["Status"]["State"],
        address=raw["Status"].get("Addr") or "",
    )


def _network(raw: Mapping[str, Any]) -> SwarmNetwork:
    listed = (raw.get("Options") or {}).get(_VNI_OPTION) or ""
    vnis = {int(vni) for vni in listed.split(",") if vni}
    if not all(0 <= vni < 2**24 for vni in vnis):
        raise ValueError(f"network {raw['Name']} has a VNI of more than 24 bits: {listed}")
    return SwarmNetwork(
        id=raw["Id"],
        name=raw["Name"],
        ingress=bool(raw.get("Ingress")),
        vnis=tuple(sorted(vnis)),
    )


def _task(raw: Mapping[str, Any]) -> SwarmTask | None:
    """A task that is on a node; None for one that waits for a node."""
    node_id = raw.get("NodeID")
    if not node_id:
        return None
    attachments: Sequence[Mapping[str, Any]] = raw.get("NetworksAttachments") or ()
    status = raw["Status"]
    return SwarmTask(
        id=raw["ID"],
        node_id=node_id,
        networks=tuple(each["Network"]["ID"] for each in attachments),
        attachment="NetworkAttachmentSpec" in raw["Spec"],
        wanted=_wanted(raw["DesiredState"], status["State"]),
        running=status["State"] == "running",
        error=status.get("Err") or "",
    )


def _wanted(desired: str, state: str) -> bool:
    """Whether Swarm wants a task on its node.

    A task that was rejected keeps its desired state until its successor's turn comes, for the whole
    restart delay: were it not counted, the network would seem unwanted just when the fault is there.
    """
    if desired == _RUNS_TO_THE_END:
        return state not in _ENDED
    return desired not in _ENDED and (state not in _ENDED or state in _REFUSED)
