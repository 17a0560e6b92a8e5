"""Asking a Swarm manager, by its Docker API: the only user of Docker's SDK."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import docker
import requests
import structlog
import urllib3
from docker.errors import APIError, DockerException

from contract.runtime.errors import OperatorError
from contract.verdicts import Mode
from controller import gate
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


_VNI_OPTION: Final = "com.docker.network.driver.overlay.vxlanid_list"
"""Decimal VNIs, comma separated, one a subnet (moby libnetwork/drivers/overlay/ovmanager)."""

_DEFAULT_DATA_PATH_PORT: Final = 4789
_TIMEOUT_SECONDS: Final = 15
_SILENCE_SECONDS: Final = 60
"""After so long without an event the stream is opened anew: a dead one is silent too."""

_EVENT_FILTERS: Final = {"scope": ["swarm"], "type": ["service", "network", "node"]}
_ANY_RUNTIME: Final[Mapping[str, list[str]]] = {"runtime": []}
"""An empty list keeps Docker from adding a runtime of its own, by which swarmkit would then search *all*
tasks (its ListTasks prefers that index to those of nodes and desired states)."""

_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9000, 1, 1, tzinfo=UTC)

_TRUE: Final = frozenset({"", "1", "true", "yes"})
_FALSE: Final = frozenset({"0", "false", "no"})
_ENDED: Final = frozenset({"complete", "shutdown", "failed", "rejected"})
"""Task states from which no task returns, each written by the task's own node when it is done with it
(swarmkit api/types.proto). Not `remove`, which is only ever desired, and not `orphaned`, which a manager
writes of a node that it has not heard of for a day: what runs there, nobody knows."""

_REFUSED: Final = frozenset({"failed", "rejected"})
"""Ended, but against Swarm's will."""

_TO_END: Final = frozenset({"shutdown", "remove"})
"""Desired states of a task that is to end. (`complete` is a job's: it is to run until it ends by itself.)"""

_OVERLAY: Final = "overlay"

MAX_ERROR: Final = 4_000
"""Characters of a task's error: Docker's are a few hundred, but its node writes them itself."""
_MAX_NAME: Final = 255


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

    def identity(self) -> SwarmIdentity:
        """See `Swarm.identity`."""
        cluster = self._manager()["Cluster"]
        with self._making_sense():
            port = cluster.get("DataPathPort") or _DEFAULT_DATA_PATH_PORT
            return SwarmIdentity(cluster["ID"], port)

    def nodes(self, ids: Sequence[str] = ()) -> Sequence[SwarmNode]:
        """See `Swarm.nodes`."""
        listed = self._ask("nodes", filters={"id": list(ids)} if ids else None)
        with self._making_sense():
            found = [_node(each) for each in _list(listed)]
        if not found and not ids:
            raise SwarmError(f"the Docker API at {self._url} listed no nodes, which cannot be")
        return found

    def networks(self, ids: Sequence[str] = ()) -> Sequence[SwarmNetwork]:
        """See `Swarm.networks`."""
        filters = {"driver": ["overlay"], "scope": ["swarm"]}
        if ids:
            filters["id"] = list(ids)
        listed = self._ask("networks", filters=filters)
        with self._making_sense():
            return [_network(each) for each in _list(listed)]

    def tasks_of_nodes(self, ids: Sequence[str]) -> Sequence[SwarmTask]:
        """See `Swarm.tasks_of_nodes`."""
        found = {}
        # Asked for by themselves as well: an engine that takes the empty runtime for no filter at all
        # would leave attached containers out.
        for runtime in (_ANY_RUNTIME, {"runtime": ["attachment"]}):
            for task in self._tasks({"node": list(ids), **runtime}):
                found[task.id] = task
        strangers = {task.node_id for task in found.values()}.difference(ids)
        if strangers:
            raise SwarmError(
                f"the Docker API at {self._url} was asked for the tasks of some nodes, and listed "
                f"those of others: {', '.join(sorted(strangers)[:3])}"
            )
        return list(found.values())

    def tasks_of_service(self, service_id: str) -> Sequence[SwarmTask]:
        """See `Swarm.tasks_of_service`."""
        try:
            return self._tasks({"service": [service_id], **_ANY_RUNTIME})
        except SwarmMovedError:
            return []

    def restarting(self) -> Sequence[SwarmTask]:
        """See `Swarm.restarting`."""
        return self._tasks({"desired-state": ["ready"], **_ANY_RUNTIME})

    def clock(self) -> str:
        """What time it is by the manager's clock, in a form that `events` takes."""
        info = self._ask("info")
        with self._making_sense():
            # The events' time is asked for in seconds; what `docker events --since` takes, its API refuses.
            return f"{datetime.fromisoformat(info['SystemTime']).timestamp():.6f}"

    def events(self, since: str) -> Iterator[SwarmEvent]:
        """What happens to services, networks and nodes since a time of the manager's clock.

        Ends when there was nothing to tell for a while: the stream may be dead, ask again from the last
        event on.

        Raises:
            SwarmError: the stream broke or cannot be had; events may be lost.
        """
        self._manager()
        client = self._connected()
        try:
            for raw in client.events(since=since, filters=_EVENT_FILTERS, decode=True):
                with self._making_sense():
                    seconds, nanos = divmod(int(raw["timeNano"]), 10**9)
                    yield SwarmEvent(raw["Type"], raw["Actor"]["ID"], f"{seconds}.{nanos:09}")
        except (requests.Timeout, urllib3.exceptions.ReadTimeoutError):
            return
        except (
            DockerException,
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            OSError,
            ValueError,
            KeyError,  # the SDK stumbles over an error that is not Docker's
            TypeError,
        ) as error:
            raise SwarmError(
                f"the events of the Docker API at {self._url} broke: {error}"
            ) from error
        finally:
            self.close()
        raise SwarmError(f"the Docker API at {self._url} ended its events")

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

    def _tasks(self, filters: Mapping[str, Any]) -> list[SwarmTask]:
        listed = self._ask("tasks", filters=filters)
        with self._making_sense():
            return [task for each in _list(listed) if (task := _task(each))]

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

    def _connected(self) -> docker.APIClient:
        if self._client is None:
            self._client = _Client(base_url=self._url, timeout=_TIMEOUT_SECONDS)
        return self._client

    def _ask(self, what: str, **arguments: Any) -> Any:
        gate.stand_aside()  # Before a long answer is parsed, and before it is made sense of.
        try:
            answer = getattr(self._connected(), what)(**arguments)
        except APIError as error:
            kind = SwarmMovedError if error.status_code == requests.codes.not_found else SwarmError
            raise kind(
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
        gate.stand_aside()
        return answer


class _Client(docker.APIClient):  # type: ignore[misc] # the SDK has no types
    """Docker's client, with an end to the wait for events: its own waits for ever."""

    def get(self, url: str, **arguments: Any) -> Any:
        if arguments.get("timeout", ...) is None:
            arguments["timeout"] = (_TIMEOUT_SECONDS, _SILENCE_SECONDS)
        return super().get(url, **arguments)


def _list(raw: Any) -> list[Mapping[str, Any]]:
    if not isinstance(raw, list):
        raise TypeError(f"a list was expected, not {type(raw).__name__}")
    return raw


def _mode(labels: Mapping[str, str], owner: str) -> Mode | None:
    value = labels.get(MODE_LABEL)
    if value is None:
        return None
    try:
        return Mode(value)
    except ValueError:
        _warn(owner, MODE_LABEL, value, "counts as observe")
        return Mode.OBSERVE


def _ignored(labels: Mapping[str, str], owner: str) -> bool:
    value = labels.get(IGNORE_LABEL, "no").strip().lower()
    if value not in _TRUE | _FALSE:
        _warn(owner, IGNORE_LABEL, value, "counts as yes")
    return value not in _FALSE


@lru_cache(maxsize=1000)  # once is enough: labels are read again and again
def _warn(owner: str, label: str, value: str, meaning: str) -> None:
    log.warning("a label's value is not known", owner=owner, label=label, value=value, so=meaning)


def _text(raw: Any, longest: int = _MAX_NAME) -> str:
    """Text that anything can store (PostgreSQL takes no NUL), and no longer than it need be."""
    return str(raw)[:longest].replace("\0", "\ufffd")


def _node(raw: Mapping[str, Any]) -> SwarmNode:
    hostname = _text(raw["Description"].get("Hostname") or raw["ID"])
    labels = raw["Spec"].get("Labels") or {}
    return SwarmNode(
        id=raw["ID"],
        hostname=hostname,
        role=raw["Spec"]["Role"],
        availability=raw["Spec"]["Availability"],
        state=raw["Status"]["State"],
        address=_text(raw["Status"].get("Addr") or ""),
        mode=_mode(labels, f"node {hostname}"),
        ignore=_ignored(labels, f"node {hostname}"),
    )


def _network(raw: Mapping[str, Any]) -> SwarmNetwork:
    name = _text(raw["Name"])
    listed = (raw.get("Options") or {}).get(_VNI_OPTION) or ""
    vnis = dict.fromkeys(int(vni) for vni in listed.split(",") if vni)
    if not all(0 <= vni < 2**24 for vni in vnis):
        raise ValueError(f"network {name} has a VNI of more than 24 bits: {listed[:100]}")
    labels = raw.get("Labels") or {}
    return SwarmNetwork(
        id=raw["Id"],
        name=name,
        ingress=bool(raw.get("Ingress")),
        subnets=_subnets(list(vnis), (raw.get("IPAM") or {}).get("Config") or ()),
        mode=_mode(labels, f"network {name}"),
        ignore=_ignored(labels, f"network {name}"),
    )


def _subnets(vnis: Sequence[int], configs: Sequence[Mapping[str, Any]]) -> tuple[Subnet, ...]:
    """A network's VNIs, each with its subnet.

    VNIs are given to the IPv4 subnets, in their order (swarmkit networkallocator, allocateDriverState; moby
    ovmanager, NetworkAllocate). Where that does not come out even, no subnet is told.
    """
    cidrs = [
        cidr for each in configs if (cidr := normal_cidr(each.get("Subnet"))) and ":" not in cidr
    ]
    if len(cidrs) != len(vnis):
        return tuple(Subnet(vni) for vni in vnis)
    return tuple(Subnet(vni, cidr) for vni, cidr in zip(vnis, cidrs, strict=True))


def _task(raw: Mapping[str, Any]) -> SwarmTask | None:
    """A task that is on a node; None for one that waits for a node."""
    node_id = raw.get("NodeID")
    if not node_id:
        return None
    attachments: Sequence[Mapping[str, Any]] = raw.get("NetworksAttachments") or ()
    status = raw["Status"]
    desired, state = raw["DesiredState"], status["State"]
    return SwarmTask(
        id=raw["ID"],
        node_id=node_id,
        networks=tuple(each["Network"]["ID"] for each in attachments if _is_overlay(each)),
        attachment="NetworkAttachmentSpec" in raw["Spec"],
        wanted=_wanted(desired, state),
        running=state == "running",
        error=_text(status.get("Err") or "", MAX_ERROR),
        service_id=raw.get("ServiceID") or "",
        since=_since(status.get("Timestamp")),
        ending=desired in _TO_END and state not in _ENDED,
        refused=state in _REFUSED,
    )


def _is_overlay(attachment: Mapping[str, Any]) -> bool:
    """Whether a task's network is one: `--network host` and the like are listed among them."""
    driver = (attachment["Network"].get("DriverState") or {}).get("Name")
    return driver in (None, "", _OVERLAY)


def _since(timestamp: object) -> datetime | None:
    """A time of a node's clock, which may be anything."""
    try:
        at = datetime.fromisoformat(str(timestamp)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return at if _FIRST <= at < _LAST else None


def _wanted(desired: str, state: str) -> bool:
    """Whether a task is on its node, or is to be.

    Also one that is to end, until its node says that it has: its dockerd may be held up in the middle of
    starting it, and go on later. And a task that was rejected keeps its desired state until its successor's
    turn comes, for the whole restart delay: were it not counted, the network would seem unwanted just when
    the fault is there.
    """
    if state not in _ENDED:
        return True
    return desired not in (*_ENDED, *_TO_END) and state in _REFUSED
