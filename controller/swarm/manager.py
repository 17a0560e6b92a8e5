"""Reads the Swarm from a manager's Docker API: the only user of Docker's SDK."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, TypeVar

import docker
import requests
import structlog
import urllib3
from docker.errors import APIError, DockerException

from contract.runtime.doctor.docker import NO_QUORUM, STATE_REMEDIES
from contract.runtime.startup import UnavailableError
from contract.verdicts import Mode
from controller.safety.labels import IGNORE_LABEL, MODE_LABEL
from controller.swarm.model import (
    Subnet,
    SwarmError,
    SwarmEvent,
    SwarmIdentity,
    SwarmMovedError,
    SwarmNetwork,
    SwarmNode,
    SwarmTask,
    normal_cidr,
)

log = structlog.get_logger(__name__)

T = TypeVar("T")

_VNI_OPTION: Final = "com.docker.network.driver.overlay.vxlanid_list"
"""Decimal VNIs, comma separated, one per subnet (moby libnetwork/drivers/overlay/ovmanager)."""

_DEFAULT_DATA_PATH_PORT: Final = 4789
_TIMEOUT_SECONDS: Final = 15
_SILENCE_SECONDS: Final = 60
"""Without an event, after which the stream is reopened: a dead one is silent too."""

_EVENT_FILTERS: Final = {"scope": ["swarm"], "type": ["service", "network", "node"]}
_ANY_RUNTIME: Final[Mapping[str, list[str]]] = {"runtime": []}
"""An empty list keeps Docker from adding a runtime, by which swarmkit would search *all* tasks (its ListTasks
prefers that index to those of nodes and desired states)."""

_TRUE: Final = frozenset({"", "1", "true", "yes"})
_FALSE: Final = frozenset({"0", "false", "no"})
_ENDED: Final = frozenset({"complete", "shutdown", "failed", "rejected"})
"""Final task states, written by the task's own node (swarmkit api/types.proto). Not `remove`, which is only
desired, and not `orphaned`, which a manager writes after a day without contact: such a task may run."""

_REFUSED: Final = frozenset({"failed", "rejected"})
_TO_END: Final = frozenset({"shutdown", "remove"})
"""Desired states of a task that is to end (`complete` is a job's: it ends by itself)."""

_NO_LEADER: Final = "does not have a leader"
"""swarmkit's words where managers have lost their quorum (manager/state/raft)."""
_BROKEN: Final = (DockerException, requests.RequestException, OSError, ValueError)
"""Raised by the SDK without an answer (KeyError and TypeError: an error answer that is not Docker's)."""

MAX_ERROR: Final = 4_000
"""Characters of a task's error, which its node writes; Docker's have a few hundred."""


class DockerSwarm:
    """The Swarm behind a manager's Docker API, for one thread. Without a complete answer: SwarmError.

    `url`: unix:///PATH or tcp://HOST:PORT.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._api = f"the Docker API at {url}"
        self._client: docker.APIClient | None = None

    def check(self) -> None:
        """Raise an UnavailableError if no manager answers."""
        try:
            self._manager()
        except SwarmError as error:
            raise UnavailableError(
                str(error),
                "set VXLAN_OPERATOR_DOCKER_HOST (or --docker-host) to the Docker API of a Swarm manager",
            ) from error

    def local_node_id(self) -> str:
        """The Swarm id of the manager's node."""
        swarm = self._manager()
        with self._parsing():
            return str(swarm["NodeID"])

    def identity(self) -> SwarmIdentity:
        """The manager's Swarm."""
        swarm = self._manager()
        with self._parsing():
            cluster = swarm["Cluster"]
            port = cluster.get("DataPathPort") or _DEFAULT_DATA_PATH_PORT
            found = SwarmIdentity(cluster["ID"], port)
        if not found.swarm_id:  # So it answers without a quorum, with its words in `Error`.
            raise SwarmError(
                f"the manager at {self._url} cannot read its Swarm: {_words(swarm)}; {NO_QUORUM}"
            )
        return found

    def nodes(self, ids: Sequence[str] = ()) -> Sequence[SwarmNode]:
        """All nodes; given ids, the existing ones of these."""
        found = self._list("nodes", _node, {"id": list(ids)} if ids else None)
        if not found and not ids:
            raise SwarmError(f"{self._api} listed no nodes, which cannot be")
        return found

    def networks(self, ids: Sequence[str] = ()) -> Sequence[SwarmNetwork]:
        """All overlay networks; given ids, the existing ones of these."""
        filters = {"driver": ["overlay"], "scope": ["swarm"], **({"id": list(ids)} if ids else {})}
        return self._list("networks", _network, filters)

    def tasks_of_nodes(self, ids: Sequence[str]) -> Sequence[SwarmTask]:
        """All tasks on these nodes, ended ones too, and attached containers; SwarmMovedError: one is gone."""
        # Attached containers in a question of their own: an engine that takes the empty runtime for no
        # filter at all would leave them out.
        found = {
            task.id: task
            for runtime in (_ANY_RUNTIME, {"runtime": ["attachment"]})
            for task in self._list("tasks", _task, {"node": list(ids), **runtime})
        }
        others = {task.node_id for task in found.values()}.difference(ids)
        if others:
            raise SwarmError(
                f"{self._api} was asked for the tasks of some nodes, and listed those of others: "
                + ", ".join(sorted(others)[:3])
            )
        return list(found.values())

    def tasks_of_service(self, service_id: str) -> Sequence[SwarmTask]:
        """All tasks of a service that have a node; none if the service is gone."""
        try:
            return self._list("tasks", _task, {"service": [service_id], **_ANY_RUNTIME})
        except SwarmMovedError:
            return []

    def restarting(self) -> Sequence[SwarmTask]:
        """The tasks that wait to replace an ended or ending task."""
        return self._list("tasks", _task, {"desired-state": ["ready"], **_ANY_RUNTIME})

    def clock(self) -> str:
        """The manager's time, in the form that `events` takes."""
        info = self._ask("info")
        with self._parsing():
            # In seconds: the API refuses what `docker events --since` takes.
            return f"{datetime.fromisoformat(info['SystemTime']).timestamp():.6f}"

    def events(self, since: str) -> Iterator[SwarmEvent]:
        """Changes of services, networks and nodes since a time of the manager's clock.

        Ends after a silence: the stream may be dead. Ask again from the last event on.

        Raises:
            SwarmError: the stream broke or was refused; events may be lost.
        """
        self._manager()
        try:
            stream = self._connected().events(since=since, filters=_EVENT_FILTERS, decode=True)
            for raw in stream:
                with self._parsing():
                    seconds, nanos = divmod(int(raw["timeNano"]), 10**9)
                    yield SwarmEvent(raw["Type"], raw["Actor"]["ID"], f"{seconds}.{nanos:09}")
        except (requests.Timeout, urllib3.exceptions.ReadTimeoutError):
            return
        except (*_BROKEN, urllib3.exceptions.HTTPError, KeyError, TypeError) as error:
            raise SwarmError(f"the events of {self._api} broke: {error}") from error
        finally:
            self.close()
        raise SwarmError(f"{self._api} ended its events")

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _manager(self) -> Mapping[str, Any]:
        """The `Swarm` part of `docker info`, from a manager."""
        info = self._ask("info")
        with self._parsing():
            swarm: Mapping[str, Any] = info.get("Swarm") or {}
            state = str(swarm.get("LocalNodeState") or "inactive")
        if state == "inactive":
            raise SwarmError(f"the Docker at {self._url} is in no Swarm")
        if state != "active":
            remedy = STATE_REMEDIES.get(state, "look at dockerd's log")
            raise SwarmError(
                f"the Swarm of the Docker at {self._url} is in the state {state!r}: "
                f"{_words(swarm)}; {remedy}"
            )
        if not swarm.get("ControlAvailable") or not swarm.get("Cluster"):
            raise SwarmError(f"the Docker at {self._url} is not a manager of its Swarm")
        return swarm

    def _list(self, kind: str, parse: Callable[[Any], T | None], filters: Any = None) -> list[T]:
        answer = self._ask(kind, filters=filters)
        with self._parsing():
            if not isinstance(answer, list):
                raise TypeError(f"a list was expected, not {type(answer).__name__}")
            return [parsed for raw in answer if (parsed := parse(raw)) is not None]

    @contextmanager
    def _parsing(self) -> Iterator[None]:
        """Report an answer that is not Docker's."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SwarmError(
                f"{self._api} gave an answer that cannot be understood: {type(error).__name__}: {error}"
            ) from error

    def _connected(self) -> docker.APIClient:
        if self._client is None:
            self._client = _Client(base_url=self._url, timeout=_TIMEOUT_SECONDS)
        return self._client

    def _ask(self, method: str, **arguments: Any) -> Any:
        try:
            return getattr(self._connected(), method)(**arguments)
        except APIError as error:
            kind = SwarmMovedError if error.status_code == requests.codes.not_found else SwarmError
            words = str(error.explanation or error)
            remedy = f"; {NO_QUORUM}" if _NO_LEADER in words else ""
            raise kind(f"{self._api} refused to list {method}: {words}{remedy}") from error
        except _BROKEN as error:
            # A new connection may work.
            self.close()
            raise SwarmError(f"{self._api} does not answer: {_plain(error)}") from error
        except (KeyError, TypeError) as error:
            raise SwarmError(f"{self._api} gave an error that is not Docker's: {error}") from error


class _Client(docker.APIClient):  # type: ignore[misc] # the SDK has no types
    """Docker's client, with a time-out for events: its own waits for ever."""

    def get(self, url: str, **arguments: Any) -> Any:
        if arguments.get("timeout", ...) is None:
            arguments["timeout"] = (_TIMEOUT_SECONDS, _SILENCE_SECONDS)
        return super().get(url, **arguments)


def _plain(error: Exception) -> str:
    """Why dockerd gave no answer, in the system's words, and what to do; not in those of three libraries."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, requests.Timeout):
            return f"nothing came for {_TIMEOUT_SECONDS} s: look at dockerd's log, restart it if it hangs"
        if isinstance(cause, OSError) and cause.strerror:
            return f"{cause.strerror}: start dockerd there (`systemctl start docker`)"
        cause = cause.__cause__ or cause.__context__
    return str(error)


def _words(swarm: Mapping[str, Any]) -> str:
    """What Docker says about its Swarm, without the period."""
    return _text(swarm.get("Error") or "it does not say why", MAX_ERROR).strip().removesuffix(".")


def _labels(labels: Mapping[str, str] | None, owner: str) -> tuple[Mode | None, bool]:
    """The mode and the ignore label; an unknown value errs on the side of no removal."""
    labels = labels or {}
    mode = labels.get(MODE_LABEL)
    if mode not in (None, *Mode):
        _warn(owner, MODE_LABEL, mode, "counts as observe")
        mode = Mode.OBSERVE
    ignore = labels.get(IGNORE_LABEL, "no").strip().lower()
    if ignore not in _TRUE | _FALSE:
        _warn(owner, IGNORE_LABEL, ignore, "counts as yes")
    return Mode(mode) if mode else None, ignore not in _FALSE


@lru_cache(maxsize=1000)  # labels are read again and again
def _warn(owner: str, label: str, value: str, meaning: str) -> None:
    log.warning("a label's value is not known", owner=owner, label=label, value=value, so=meaning)


def _text(raw: Any, max_length: int = 255) -> str:
    """Text that any database can store (PostgreSQL takes no NUL)."""
    return str(raw)[:max_length].replace("\0", "\ufffd")


def _node(raw: Mapping[str, Any]) -> SwarmNode:
    hostname = _text(raw["Description"].get("Hostname") or raw["ID"])
    mode, ignore = _labels(raw["Spec"].get("Labels"), f"node {hostname}")
    return SwarmNode(
        id=raw["ID"],
        hostname=hostname,
        role=raw["Spec"]["Role"],
        availability=raw["Spec"]["Availability"],
        state=raw["Status"]["State"],
        address=_text(raw["Status"].get("Addr") or ""),
        label_mode=mode,
        label_ignore=ignore,
    )


def _network(raw: Mapping[str, Any]) -> SwarmNetwork:
    name = _text(raw["Name"])
    listed = (raw.get("Options") or {}).get(_VNI_OPTION) or ""
    vnis = dict.fromkeys(int(vni) for vni in listed.split(",") if vni)
    if not all(0 <= vni < 2**24 for vni in vnis):
        raise ValueError(f"network {name} has a VNI of more than 24 bits: {listed[:100]}")
    subnets = _subnets(list(vnis), (raw.get("IPAM") or {}).get("Config") or ())
    labels = _labels(raw.get("Labels"), f"network {name}")
    return SwarmNetwork(raw["Id"], name, bool(raw.get("Ingress")), subnets, *labels)


def _subnets(vnis: Sequence[int], configs: Sequence[Mapping[str, Any]]) -> tuple[Subnet, ...]:
    """A network's VNIs with their subnets.

    VNIs are given to the IPv4 subnets, in their order (swarmkit networkallocator, allocateDriverState; moby
    ovmanager, NetworkAllocate). Where the counts differ, the subnets stay unknown.
    """
    cidrs = [normal_cidr(config.get("Subnet")) for config in configs]
    ipv4 = [cidr for cidr in cidrs if cidr and ":" not in cidr]
    return tuple(map(Subnet, vnis, ipv4 if len(ipv4) == len(vnis) else [None] * len(vnis)))


def _task(raw: Mapping[str, Any]) -> SwarmTask | None:
    """A task; None if it has no node yet."""
    node_id = raw.get("NodeID")
    if not node_id:
        return None
    networks = [
        network["ID"]
        for network in (item["Network"] for item in raw.get("NetworksAttachments") or ())
        # `--network host` and the like are listed too.
        if (network.get("DriverState") or {}).get("Name") in (None, "", "overlay")
    ]
    status = raw["Status"]
    desired, state = raw["DesiredState"], status["State"]
    # Wanted until the node reports the end: dockerd may be held up while it starts a task. And a refused task
    # keeps its desired state until its successor's turn, for the whole restart delay: were it not wanted, the
    # network would seem unwanted just when the fault is there.
    refused = state in _REFUSED
    wanted = state not in _ENDED or (refused and desired not in _ENDED | _TO_END)
    return SwarmTask(
        id=raw["ID"],
        node_id=node_id,
        networks=tuple(networks),
        attachment="NetworkAttachmentSpec" in raw["Spec"],
        wanted=wanted,
        running=state == "running",
        error=_text(status.get("Err") or "", MAX_ERROR),
        service_id=raw.get("ServiceID") or "",
        since=_since(status.get("Timestamp")),
        ending=desired in _TO_END and state not in _ENDED,
        refused=refused,
    )


def _since(timestamp: object) -> datetime | None:
    """A time of a node's clock; None if it is not plausible."""
    try:
        at = datetime.fromisoformat(str(timestamp)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return at if 1970 <= at.year < 9000 else None
