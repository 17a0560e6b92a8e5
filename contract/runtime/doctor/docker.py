"""Checks of Docker and the Swarm, asked over dockerd's API, with Docker's own words."""

from collections.abc import Iterator
from typing import Any, Final

from contract.runtime import dockerd
from contract.runtime.dockerd import Docker, DockerError, get
from contract.runtime.doctor.checks import Result, fail, ok, warn

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


def check(docker: Docker, *, manager: bool, node_id: str | None = None) -> Iterator[Result]:
    """Check dockerd and its Swarm.

    Args:
        manager: whether a manager is needed.
        node_id: the node's Swarm id by the settings; None: not set.
    """
    try:
        version = get(docker, "/version")
        info = get(docker, "/info")
    except DockerError as error:
        hint = "start dockerd, or correct the address; the socket needs root or the group docker"
        if error.hangs:
            hint = "look at dockerd's log; `systemctl restart docker` if it hangs"
        yield fail(_CHECK, str(error), hint)
        return
    if not isinstance(version, dict) or not isinstance(info, dict):
        yield fail(_CHECK, f"what answers at {docker.url} is not dockerd", "correct the address")
        return
    yield ok(_CHECK, f"{version.get('Version')}, API {version.get('ApiVersion')}, {docker.url}")
    swarm = info.get("Swarm")
    yield from _swarm(docker, swarm if isinstance(swarm, dict) else {}, manager, node_id)


def _swarm(
    docker: Docker, swarm: dict[str, Any], manager: bool, node_id: str | None
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
        nodes = get(docker, "/nodes")
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


def data_path_port(docker: Docker) -> int | None:
    """Return the Swarm's UDP port for VXLAN; None: only a manager says it, and this is none."""
    try:
        return dockerd.data_path_port(get(docker, "/info"))
    except (DockerError, AttributeError, ValueError, TypeError):
        return None


def swarm_id(docker: Docker) -> str | None:
    """Return the id of the Swarm, which only a manager knows; None: it does not say."""
    try:
        return str(get(docker, "/info")["Swarm"]["Cluster"]["ID"]) or None
    except (DockerError, KeyError, TypeError):
        return None
