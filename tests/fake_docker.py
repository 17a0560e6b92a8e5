"""A small HTTP server that answers as the Docker API of a Swarm manager does, and fails as it is told.

It takes raw JSON, as Docker writes it, or a `Snapshot` that it writes out as Docker would.
"""

import json
import threading
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socket import SHUT_RDWR, socket
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from controller.swarm import Snapshot, SwarmNetwork, SwarmNode, SwarmTask
from tests.fake_swarm import snapshot, swarm_id

VNI_OPTION: Final = "com.docker.network.driver.overlay.vxlanid_list"

Json = dict[str, Any]


class Fault(Enum):
    """Ways to fail."""

    ERROR = auto()
    """500, as a manager without quorum answers."""
    STRANGE_ERROR = auto()
    """500 with JSON that is not Docker's."""
    HANG = auto()
    """No answer at all, for as long as the server lives."""
    TRUNCATED = auto()
    """Half of the body, as if that were all."""
    CUT = auto()
    """Half of the body, and then the connection ends."""
    GARBAGE = auto()
    """Not JSON."""


def raw_node(node: SwarmNode) -> Json:
    """A node as `GET /nodes` shows it."""
    return {
        "ID": node.id,
        "Spec": {"Role": node.role, "Availability": node.availability, "Labels": {}},
        "Description": {"Hostname": node.hostname, "Engine": {"EngineVersion": "28.5.2"}},
        "Status": {"State": node.state, "Addr": node.address},
    }


def raw_network(network: SwarmNetwork) -> Json:
    """A network as `GET /networks` shows it."""
    return {
        "Id": network.id,
        "Name": network.name,
        "Scope": "swarm",
        "Driver": "overlay",
        "Ingress": network.ingress,
        "Options": {VNI_OPTION: ",".join(map(str, network.vnis))},
    }


def raw_task(task: SwarmTask) -> Json:
    """A task as `GET /tasks` shows it."""
    state = "running" if task.running else "rejected" if task.error else "shutdown"
    return {
        "ID": task.id,
        "NodeID": task.node_id,
        "Spec": {"NetworkAttachmentSpec" if task.attachment else "ContainerSpec": {}},
        "DesiredState": "running" if task.wanted else "shutdown",
        "Status": {"State": state, "Err": task.error},
        "NetworksAttachments": [{"Network": {"ID": each}} for each in task.networks],
    }


class FakeDocker:
    """The server, on a Unix socket; a context that ends it.

    Attributes:
        info, nodes, networks, tasks: what it says, as raw JSON; to be changed at will.
        faults: the last word of a path (`info`, `nodes`, ...) to how asking for it fails.
        asked: the last words of the paths asked for, with their filters.
    """

    def __init__(self, path: Path, state: Snapshot | None = None) -> None:
        self.url = f"unix://{path}"
        self.info: Any = {}
        self.nodes: Any = []
        self.networks: Any = []
        self.tasks: Any = []
        self.faults: dict[str, Fault] = {}
        self.asked: list[tuple[str, Json]] = []
        self.stopping = threading.Event()
        self.show(state or snapshot())
        self._server = _Server(path, self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._server.hang_up()
        self._thread.join(10)

    def show(self, state: Snapshot) -> None:
        """Say this from now on."""
        self.info = {
            "Swarm": {
                "NodeID": state.nodes[0].id if state.nodes else swarm_id("nobody"),
                "LocalNodeState": "active",
                "ControlAvailable": True,
                "Cluster": {"ID": state.swarm_id, "DataPathPort": state.data_path_port},
            }
        }
        self.nodes = [raw_node(each) for each in state.nodes]
        self.networks = [raw_network(each) for each in state.networks]
        self.tasks = [raw_task(each) for each in state.tasks]

    def answer(self, what: str, filters: Json) -> Any:
        """What it says to a question."""
        self.asked.append((what, filters))
        match what:
            case "version":
                return {"ApiVersion": "1.51"}
            case "networks":
                return _matching(self.networks, filters)
            case "tasks":
                return _of_runtime(self.tasks, filters.get("runtime", ["container"]))
            case "info" | "nodes":
                return getattr(self, what)
            case _:
                return None


def _matching(networks: Any, filters: Json) -> Any:
    if not isinstance(networks, list):
        return networks
    return [
        each
        for each in networks
        if all(each.get(key.title()) in wanted for key, wanted in filters.items())
    ]


def _of_runtime(tasks: Any, runtimes: Sequence[str]) -> Any:
    # `docker run` containers on attachable networks are left out unless they are asked for.
    if not isinstance(tasks, list):
        return tasks
    wanted = "attachment" in runtimes
    return [each for each in tasks if ("NetworkAttachmentSpec" in each.get("Spec", {})) is wanted]


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(self, path: Path, docker: FakeDocker) -> None:
        self.docker = docker
        self._accepted: list[socket] = []
        super().__init__(str(path), _Handler)

    def get_request(self) -> tuple[Any, Any]:
        """Remember the connection: it is kept alive, and has to end with the server."""
        connection, address = super().get_request()
        self._accepted.append(connection)
        return connection, address

    def hang_up(self) -> None:
        """End all connections."""
        for connection in self._accepted:
            with suppress(OSError):
                connection.shutdown(SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        """Answer, or fail as told."""
        docker = self.server.docker
        url = urlsplit(self.path)
        what = url.path.rpartition("/")[2]
        filters: Json = json.loads(parse_qs(url.query).get("filters", ["{}"])[0])
        body = json.dumps(docker.answer(what, filters)).encode()
        match docker.faults.get(what):
            case None:
                self._say(200, body)
            case Fault.ERROR:
                self._say(500, b'{"message": "The swarm does not have a leader."}')
            case Fault.STRANGE_ERROR:
                self._say(500, b'["not what Docker says"]')
            case Fault.HANG:
                docker.stopping.wait()
                self.close_connection = True
            case Fault.TRUNCATED:
                self._say(200, body[: len(body) // 2])
            case Fault.CUT:
                self._say(200, body[: len(body) // 2], length=len(body))
                self.close_connection = True
            case Fault.GARBAGE:
                self._say(200, b"<html>It works!</html>")

    def _say(self, status: int, body: bytes, *, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        """A peer on a Unix socket has no address."""
        return "unix"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's
        """Keep quiet."""
