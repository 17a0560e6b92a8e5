"""Facts from this node's dockerd socket: the node's id, network names, containers that spare a sandbox.

Never evidence that a device is dead.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

from contract.messages import NetworkRef
from contract.runtime import dockerd
from contract.runtime.dockerd import Docker
from contract.runtime.text import printable

_VNI_OPTION: Final = "com.docker.network.driver.overlay.vxlanid_list"
_ENDED: Final = frozenset({"exited", "dead", "removing"})
"""Container states in which nothing is attached to a network any more (moby container/state.go)."""

_T = TypeVar("_T")


def node_id(path: Path) -> str | None:
    """Ask dockerd for this node's id in the Swarm; None: it is in none, or dockerd does not answer."""
    try:
        return _get(path, "/info", _node_id)
    except OSError:
        return None


class Dockerd:
    """The facts from dockerd's socket, if it answers.

    Attributes:
        networks: the overlay networks that it knows (a manager's: all of the Swarm).
        port: the Swarm's data path port; None where dockerd does not report it (only a manager's does).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.networks: Sequence[NetworkRef] = ()
        self.port: int | None = None
        try:
            self.networks = self._get(f"/networks?{_filter('driver', 'overlay')}", _references)
            self.port = self._get("/info", dockerd.data_path_port)
        except OSError as error:
            sys.stderr.write(
                printable(f"warning: dockerd was not asked: {error}")
                + "; networks have no names here, and none of their containers is known\n"
            )

    def attached(self, network: NetworkRef) -> Sequence[str] | str:
        """Return the names of containers that use a network or are about to, or the error as text."""
        try:
            return self._get(f"/containers/json?all=true&{_filter('network', network.id)}", _names)
        except OSError as error:
            return str(error)

    def _get(self, path: str, read: Callable[[Any], _T]) -> _T:
        return _get(self._path, path, read)


def _get(socket_path: Path, path: str, read: Callable[[Any], _T]) -> _T:
    """Return what `read` makes of an answer; OSError: it is none of dockerd's."""
    try:
        return read(dockerd.get(Docker(f"unix://{socket_path}"), path))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OSError(f"{socket_path} does not answer as dockerd does: {error}") from error


def _filter(name: str, value: str) -> str:
    return "filters=" + quote(json.dumps({name: [value]}))


def _references(networks: Any) -> list[NetworkRef]:
    references = []
    for network in networks:
        vnis = (network.get("Options") or {}).get(_VNI_OPTION) or ""
        numbers = tuple(int(vni) for vni in vnis.split(",") if vni)
        references.append(NetworkRef(id=network["Id"], name=network["Name"][:255], vnis=numbers))
    return references


def _node_id(info: Any) -> str | None:
    swarm = info.get("Swarm") or {}
    active = swarm.get("LocalNodeState") == "active"
    return str(swarm.get("NodeID") or "") or None if active else None


def _names(containers: Any) -> list[str]:
    return [
        (container.get("Names") or [container["Id"][:12]])[0].lstrip("/")
        for container in containers
        if container["State"] not in _ENDED
    ]
