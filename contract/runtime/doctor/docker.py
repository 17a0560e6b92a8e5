"""Checks of Docker and the Swarm, asked over dockerd's API, with Docker's own words."""

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from contract.runtime.doctor.checks import Result, fail, ok, warn

_TIMEOUT_SECONDS: Final = 4.0
_MAX_BYTES: Final = 4 << 20
_CHECK: Final = "docker"
_SWARM: Final = "swarm"
STATE_REMEDIES: Final = {
    "inactive": "this node is in no Swarm: `docker swarm init`, or `docker swarm join`",
    "pending": "wait until the node has joined, or look at dockerd's log",
    "locked": "`docker swarm unlock` on this manager",
    "error": "look at dockerd's log; `docker swarm leave` and join again if nothing else helps",
}
"""Swarm states other than `active` (moby api/types/swarm: LocalNodeState), and what to do."""
NO_QUORUM: Final = (
    "bring back enough managers, or `docker swarm init --force-new-cluster` as a last resort"
)
"""What to do where more than half of the managers are not reachable."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class DockerError(Exception):
    """Dockerd gave no answer, or an error: its words.

    Attributes:
        hangs: whether something took the question and did not answer in time.
    """

    hangs: bool = False


def get(docker_host: str, path: str) -> Any:
    """GET a JSON answer of dockerd at `unix:///PATH` or `tcp://HOST:PORT`.

    Raises:
        DockerError: it does not answer, or with an error.
    """
    parts = urlsplit(docker_host)
    connection: http.client.HTTPConnection
    try:
        if parts.scheme == "unix":
            connection = _UnixConnection(parts.path)
        elif parts.scheme in ("tcp", "http") and parts.hostname:
            connection = http.client.HTTPConnection(
                parts.hostname, parts.port or 2375, timeout=_TIMEOUT_SECONDS
            )
        else:
            raise DockerError(f"{docker_host!r} is neither unix:///PATH nor tcp://HOST:PORT")
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            answer = json.loads(response.read(_MAX_BYTES))
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, TimeoutError):
            silent = DockerError(f"{docker_host} gave no answer within {_TIMEOUT_SECONDS:g} s")
            silent.hangs = True
            raise silent from error
        text = str(error) or type(error).__name__
        raise DockerError(f"no Docker API at {docker_host}: {text}") from error
    if response.status != http.client.OK:
        words = answer.get("message") if isinstance(answer, dict) else None
        raise DockerError(str(words or f"HTTP {response.status}"))
    return answer


def check(docker_host: str, *, manager: bool, node_id: str | None = None) -> Iterator[Result]:
    """Check dockerd and its Swarm.

    Args:
        manager: whether a manager is needed.
        node_id: the node's Swarm id by the settings; None: not set.
    """
    try:
        version = get(docker_host, "/version")
        info = get(docker_host, "/info")
    except DockerError as error:
        hint = "start dockerd, or correct the address; the socket needs root or the group docker"
        if error.hangs:
            hint = "look at dockerd's log; `systemctl restart docker` if it hangs"
        yield fail(_CHECK, str(error), hint)
        return
    if not isinstance(version, dict) or not isinstance(info, dict):
        yield fail(_CHECK, f"what answers at {docker_host} is not dockerd", "correct the address")
        return
    yield ok(_CHECK, f"{version.get('Version')}, API {version.get('ApiVersion')}, {docker_host}")
    swarm = info.get("Swarm")
    yield from _swarm(docker_host, swarm if isinstance(swarm, dict) else {}, manager, node_id)


def _swarm(
    docker_host: str, swarm: dict[str, Any], manager: bool, node_id: str | None
) -> Iterator[Result]:
    state = str(swarm.get("LocalNodeState") or "inactive")
    words = f": {swarm['Error']}" if swarm.get("Error") else ""
    if state != "active":
        yield fail(_SWARM, f"{state}{words}", STATE_REMEDIES.get(state, "look at dockerd's log"))
        return
    is_manager = bool(swarm.get("ControlAvailable"))
    found = f"active, node {swarm.get('NodeID')}, {'a manager' if is_manager else 'not a manager'}"
    if node_id is not None and swarm.get("NodeID") != node_id:
        message = f"this node has the Swarm id {swarm.get('NodeID')}, the settings say {node_id}"
        hint = f"set VXLAN_OPERATOR_NODE_ID={swarm.get('NodeID')}, and restart vxlan-worker"
        yield fail(_SWARM, message, hint)
        return
    if words:
        yield warn(_SWARM, f"{found}{words}", "look at dockerd's log")
    elif is_manager or not manager:
        yield ok(_SWARM, found)
    else:
        yield fail(_SWARM, found, "set VXLAN_OPERATOR_DOCKER_HOST to a manager's Docker API")
    if not is_manager:
        return
    try:
        get(docker_host, "/swarm")
        nodes = get(docker_host, "/nodes")
    except DockerError as error:
        yield fail("quorum", str(error), NO_QUORUM)
        return
    managers = [node["ManagerStatus"] for node in nodes if node.get("ManagerStatus")]
    reachable = sum(status.get("Reachability") == "reachable" for status in managers)
    message = f"{reachable} of {len(managers)} managers are reachable, {len(nodes)} nodes"
    if reachable < len(managers):
        yield warn("quorum", message, "`docker node ls` shows which; bring them back")
    else:
        yield ok("quorum", message)


def data_path_port(docker_host: str) -> int | None:
    """Return the Swarm's UDP port for VXLAN; None: only a manager says it, and this is none."""
    try:
        cluster = (get(docker_host, "/info").get("Swarm") or {}).get("Cluster") or {}
        return int(cluster.get("DataPathPort") or 0) or None
    except (DockerError, AttributeError, ValueError, TypeError):
        return None
