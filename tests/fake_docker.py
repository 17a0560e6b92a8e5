"""A small HTTP server that answers as the Docker API of a Swarm manager does, and fails as it is told.

It takes raw JSON, as Docker writes it, or a `Snapshot` that it writes out as Docker would.
"""

import json
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socket import SHUT_RDWR, socket
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from contract.verdicts import Mode
from controller.safety.labels import IGNORE_LABEL, MODE_LABEL
from controller.swarm.model import SwarmNetwork, SwarmNode, SwarmTask
from tests.fake_swarm import Snapshot, snapshot, swarm_id

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
    EMPTY = auto()
    """An empty list."""
    GONE = auto()
    """404, as for a node that is no longer there."""


def raw_node(node: SwarmNode) -> Json:
    """A node as `GET /nodes` shows it."""
    return {
        "ID": node.id,
        "Spec": {"Role": node.role, "Availability": node.availability, "Labels": _labels(node)},
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
        "IPAM": {"Config": [{"Subnet": subnet.cidr} for subnet in network.subnets]},
        "Labels": _labels(network),
    }


def _labels(owner: SwarmNode | SwarmNetwork) -> dict[str, str]:
    mode: Mode | None = owner.label_mode
    labels = {} if mode is None else {MODE_LABEL: mode.value}
    return labels | ({IGNORE_LABEL: "true"} if owner.label_ignore else {})


def raw_task(task: SwarmTask) -> Json:
    """A task as `GET /tasks` shows it."""
    state = "running" if task.running else "rejected" if task.error else "shutdown"
    return {
        "ID": task.id,
        "NodeID": task.node_id,
        "ServiceID": task.service_id,
        "Spec": {"NetworkAttachmentSpec" if task.attachment else "ContainerSpec": {}},
        "DesiredState": "running" if task.wanted and not task.ending else "shutdown",
        "Status": {
            "State": state,
            "Err": task.error,
            "Timestamp": None if task.since is None else task.since.isoformat(),
        },
        "NetworksAttachments": [
            {"Network": {"ID": each, "DriverState": {"Name": "overlay"}}} for each in task.networks
        ],
    }


class FakeDocker:
    """The server, on a Unix socket; a context that ends it.

    Attributes:
        info, nodes, networks, tasks, containers: what it says, as raw JSON; to be changed at will.
        faults: the last word of a path (`info`, `nodes`, ...) to how asking for it fails.
        spared: how often asking for it works before it fails.
        asked: the last words of the paths asked for, with their filters.
        versions: the same words, with the version of the API in the path; None: without.
        newest, oldest: versions of the API that it speaks, as `dockerd --version` 28.5 does.
        listeners: how many listen to events now.
    """

    def __init__(self, path: Path, state: Snapshot | None = None) -> None:
        self.url = f"unix://{path}"
        self.info: Any = {}
        self.nodes: Any = []
        self.networks: Any = []
        self.tasks: Any = []
        self.containers: Any = []
        self.faults: dict[str, Fault] = {}
        self.spared: dict[str, int] = {}
        self.asked: list[tuple[str, Json]] = []
        self.versions: list[tuple[str, str | None]] = []
        self.newest, self.oldest = "1.51", "1.24"
        self.listeners = 0
        self.stopping = threading.Event()
        self._events: list[Json] = []
        self._happened = threading.Condition()
        self._streams = 0
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
        self.end_events()
        self._server.shutdown()
        self._server.server_close()
        self._server.hang_up()
        self._thread.join(60)

    def show(self, state: Snapshot) -> None:
        """Say this from now on."""
        self.info = {
            "SystemTime": _iso(time.time_ns()),
            "Swarm": {
                "NodeID": state.nodes[0].id if state.nodes else swarm_id("nobody"),
                "LocalNodeState": "active",
                "ControlAvailable": True,
                "Cluster": {"ID": state.swarm_id, "DataPathPort": state.data_path_port},
            },
        }
        self.nodes = [raw_node(each) for each in state.nodes]
        self.networks = [raw_network(each) for each in state.networks]
        self.tasks = [raw_task(each) for each in state.tasks]

    def tell(self, kind: str, id_: str, action: str = "update") -> None:
        """Let something happen that its listeners hear."""
        with self._happened:
            self._events.append(
                {
                    "Type": kind,
                    "Action": action,
                    "Actor": {"ID": id_, "Attributes": {}},
                    "scope": "swarm",
                    "timeNano": time.time_ns(),
                }
            )
            self._happened.notify_all()

    def end_events(self) -> None:
        """End the streams of events, as a server does that stops."""
        with self._happened:
            self._streams += 1
            self._happened.notify_all()

    def listen(self, since: int, hear: Callable[[Json], None]) -> None:
        """Tell a listener what happens, and what happened since a time (nanoseconds)."""
        with self._happened:
            stream, netns = self._streams, 0
            self.listeners += 1
        try:
            while True:
                with self._happened:
                    while self._streams == stream and len(self._events) == netns:
                        self._happened.wait()
                    if self._streams != stream:
                        return
                    new, netns = self._events[netns:], len(self._events)
                for event in new:
                    if event["timeNano"] >= since:
                        hear(event)
        finally:
            with self._happened:
                self.listeners -= 1

    def fault(self, what: str) -> Fault | None:
        """How a question is to fail, if it is."""
        if self.spared.get(what, 0) > 0:
            self.spared[what] -= 1
            return None
        return self.faults.get(what)

    def answer(self, what: str, filters: Json) -> Any:
        """What it says to a question; None is 404."""
        self.asked.append((what, filters))
        match what:
            case "version":
                return {"ApiVersion": self.newest, "MinAPIVersion": self.oldest}
            case "_ping":
                return b"OK"
            case "nodes":
                return _matching(self.nodes, filters, {"id": "ID"})
            case "networks":
                return _matching(
                    self.networks, filters, {"id": "Id", "driver": "Driver", "scope": "Scope"}
                )
            case "tasks":
                return self._tasks(filters)
            case "info":
                return self.info
            case "json":  # of `/containers/json`
                return _matching(self.containers, filters, {"network": "Network"})
            case _:
                return None

    def _tasks(self, filters: Json) -> Any:
        if not isinstance(self.tasks, list):
            return self.tasks
        nodes = {each["ID"] for each in self.nodes}
        services = {each.get("ServiceID") for each in self.tasks}
        if not (nodes.issuperset(filters.get("node", ()))) or not services.issuperset(
            filters.get("service", ())
        ):
            return None
        keys = {"node": "NodeID", "service": "ServiceID", "desired-state": "DesiredState"}
        found = _matching(self.tasks, filters, keys)
        # `docker run` containers on attachable networks are left out unless they are asked for; an
        # empty list of runtimes is no filter (tried on 20.10, 26.1 and 28.5).
        runtimes = filters.get("runtime", ["container"])
        return [each for each in found if not runtimes or _runtime(each) in runtimes]


def _matching(listed: Any, filters: Json, keys: dict[str, str]) -> Any:
    if not isinstance(listed, list):
        return listed
    return [
        each
        for each in listed
        if all(
            not isinstance(each, dict) or each.get(key) in filters[name]
            for name, key in keys.items()
            if name in filters
        )
    ]


def _runtime(task: Json) -> str:
    return "attachment" if "NetworkAttachmentSpec" in task.get("Spec", {}) else "container"


def _iso(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


def _nanoseconds(since: str) -> int:
    """A time as Docker's API takes it: seconds and nanoseconds.

    Raises:
        ValueError: it is in another form.
    """
    seconds, _, rest = since.partition(".")
    return int(seconds) * 10**9 + int(rest.ljust(9, "0"))


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
        versioned = re.match(r"/(v1\.\d+)/", url.path)
        docker.versions.append((what, versioned and versioned[1]))
        if (refused := self._refused(url.path)) and what != "_ping":
            self._say(400, json.dumps({"message": refused}).encode())
            return
        filters: Json = json.loads(parse_qs(url.query).get("filters", ["{}"])[0])
        fault = docker.fault(what)
        if what == "events" and fault is None:
            docker.asked.append((what, filters))
            try:
                since = _nanoseconds(parse_qs(url.query).get("since", ["0"])[0])
            except ValueError as error:
                self._say(500, json.dumps({"message": str(error)}).encode())
            else:
                self._stream(since)
            return
        answer = docker.answer(what, filters)
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        if answer is None and fault is None and getattr(docker, what, ...) is not None:
            fault = Fault.GONE
        match fault:
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
            case Fault.EMPTY:
                self._say(200, b"[]")
            case Fault.GONE:
                self._say(404, b'{"message": "not found"}')

    def _refused(self, path: str) -> str | None:
        """Why this version of the API is not spoken, in the words of moby's version middleware."""
        docker, found = self.server.docker, re.match(r"/v1\.(\d+)/", path)
        if found is None:
            return "page not found"  # In a time to come: the paths are deprecated.
        minor, wanted = int(found[1]), f"client version 1.{found[1]}"
        if minor > int(docker.newest[2:]):
            return f"{wanted} is too new. Maximum supported API version is {docker.newest}"
        if minor < int(docker.oldest[2:]):
            return (
                f"{wanted} is too old. Minimum supported API version is {docker.oldest}, "
                "please upgrade your client to a newer version"
            )
        return None

    def _stream(self, since: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with suppress(OSError):
            self.server.docker.listen(since, self._chunk)
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def _chunk(self, event: Json) -> None:
        line = json.dumps(event).encode() + b"\n"
        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")

    def _say(self, status: int, body: bytes, *, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Api-Version", self.server.docker.newest)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        """A peer on a Unix socket has no address."""
        return "unix"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's
        """Keep quiet."""
