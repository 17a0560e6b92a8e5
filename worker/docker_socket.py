"""Facts from this node's dockerd socket: network names, and containers that spare a sandbox.

Never evidence that a device is dead.
"""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from contract.messages import NetworkRef

_VNI_OPTION: Final = "com.docker.network.driver.overlay.vxlanid_list"
_TIMEOUT_SECONDS: Final = 5.0
_MAX_BYTES: Final = 64 << 20
_ENDED: Final = frozenset({"exited", "dead", "removing"})
"""Container states in which nothing is attached to a network any more (moby container/state.go)."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def overlay_networks(docker_socket: Path) -> list[NetworkRef]:
    """Return the overlay networks that this node's dockerd knows (a manager's: all of the Swarm).

    Raises:
        OSError: no dockerd answers at that socket.
    """
    query = quote(json.dumps({"driver": ["overlay"]}))
    with _checking(docker_socket):
        return [
            _reference(network) for network in _get(docker_socket, f"/networks?filters={query}")
        ]


def data_path_port(docker_socket: Path) -> int | None:
    """Return the Swarm's data path port; None where dockerd does not report it (only a manager's does).

    Raises:
        OSError: no dockerd answers at that socket.
    """
    with _checking(docker_socket):
        cluster = (_get(docker_socket, "/info").get("Swarm") or {}).get("Cluster") or {}
        return int(cluster.get("DataPathPort") or 0) or None


def attached_containers(docker_socket: Path, network_id: str) -> list[str]:
    """Return the names of the containers that use a network, or are about to.

    Raises:
        OSError: no dockerd answers at that socket.
    """
    query = quote(json.dumps({"network": [network_id]}))
    with _checking(docker_socket):
        return [
            (container.get("Names") or [container["Id"][:12]])[0].lstrip("/")
            for container in _get(docker_socket, f"/containers/json?all=true&filters={query}")
            if container["State"] not in _ENDED
        ]


@contextmanager
def _checking(docker_socket: Path) -> Iterator[None]:
    try:
        yield
    except (http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OSError(f"{docker_socket} does not answer as dockerd does: {error}") from error


def _get(docker_socket: Path, path: str) -> Any:
    connection = _UnixConnection(docker_socket)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise OSError(f"{docker_socket} answered {response.status} {response.reason}")
        return json.loads(response.read(_MAX_BYTES))
    finally:
        connection.close()


def _reference(network: dict[str, Any]) -> NetworkRef:
    vnis = (network.get("Options") or {}).get(_VNI_OPTION) or ""
    return NetworkRef(
        id=network["Id"],
        name=network["Name"][:255],
        vnis=tuple(int(vni) for vni in vnis.split(",") if vni),
    )
