"""Reads the Swarm from the Docker API of a manager, or of the next one: the only user of Docker's SDK."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, TypeVar

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException
from docker.tls import TLSConfig

from contract.runtime.dockerd import Docker, DockerError, api_version, version_refused
from contract.runtime.doctor.docker import NO_QUORUM, STATE_REMEDIES
from contract.runtime.startup import UnavailableError
from controller.conditions.model import Reason
from controller.swarm.managers import Managers
from controller.swarm.model import (
    SwarmError,
    SwarmEvent,
    SwarmIdentity,
    SwarmMovedError,
    SwarmNetwork,
    SwarmNode,
    SwarmTask,
)
from controller.swarm.parsing import (
    MAX_ERROR,
    parse_network,
    parse_node,
    parse_task,
    stored_text,
)

T = TypeVar("T")

_REMEDY: Final = (
    "set VXLAN_OPERATOR_DOCKER_HOST (or --docker-host) to the Docker API of a Swarm manager"
)

_DEFAULT_DATA_PATH_PORT: Final = 4789
_TIMEOUT_SECONDS: Final = 15
_SILENCE_SECONDS: Final = 60
"""Without an event, after which the stream is reopened: a dead one is silent too."""

_MAX_PREPARED: Final = 100
_EVENT_FILTERS: Final = {"scope": ["swarm"], "type": ["service", "network", "node"]}
_ANY_RUNTIME: Final[Mapping[str, list[str]]] = {"runtime": []}
"""An empty list keeps Docker from adding a runtime, by which swarmkit would search *all* tasks (its ListTasks
prefers that index to those of nodes and desired states)."""

_NO_LEADER: Final = "does not have a leader"
"""swarmkit's words where managers have lost their quorum (manager/state/raft)."""
_OTHER_VERSION: Final = "supported API version"
"""In dockerd's refusal of a version that it does not speak (any more, or yet)."""
_BROKEN: Final = (DockerException, requests.RequestException, OSError, ValueError)
"""Raised by the SDK without an answer (KeyError and TypeError: an error answer that is not Docker's)."""


class DockerSwarm:
    """The Swarm behind the Docker API of its managers, for one thread. Without a complete answer: SwarmError.

    Args:
        managers: or the URL of one.
        only: the manager to ask, whichever is in use; None: that one.

    Attributes:
        managers: which of them is asked; shared with others.
    """

    def __init__(self, managers: Managers | str, only: Docker | None = None) -> None:
        self.managers = Managers([Docker(managers)]) if isinstance(managers, str) else managers
        self._only = only
        self._docker = only or self.managers.current
        self._client: docker.APIClient | None = None

    @property
    def _url(self) -> str:
        return self._docker.url

    @property
    def _api(self) -> str:
        return f"the Docker API at {self._url}"

    def check(self) -> None:
        """Raise an UnavailableError if no manager answers."""
        while True:
            try:
                self._manager()
            except SwarmError as error:
                if not error.elsewhere:
                    raise UnavailableError(str(error), _REMEDY) from error
            else:
                return

    def read_in_full(self, identity: SwarmIdentity) -> tuple[str | None, str | None]:
        """Note that all questions were answered, by a manager of the right Swarm.

        Returns the URL of the manager, and the problems of the others; None: there are none.
        """
        self.managers.swarm_id = identity.swarm_id
        self.managers.answered(self._docker)
        return (self._url, self.managers.away()) if self.managers.are_several else (None, None)

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
            raise self._failed(
                f"the manager at {self._url} cannot read its Swarm: {_words(swarm)}; {NO_QUORUM}"
            )
        return found

    def nodes(self, ids: Sequence[str] = ()) -> Sequence[SwarmNode]:
        """All nodes; given ids, the existing ones of these."""
        found = self._list("nodes", parse_node, {"id": list(ids)} if ids else None)
        if not found and not ids:
            raise self._failed(f"{self._api} listed no nodes, which cannot be")
        return found

    def networks(self, ids: Sequence[str] = ()) -> Sequence[SwarmNetwork]:
        """All overlay networks; given ids, the existing ones of these."""
        filters = {"driver": ["overlay"], "scope": ["swarm"], **({"id": list(ids)} if ids else {})}
        return self._list("networks", parse_network, filters)

    def tasks_of_nodes(self, ids: Sequence[str]) -> Sequence[SwarmTask]:
        """All tasks on these nodes, ended ones too, and attached containers; SwarmMovedError: one is gone."""
        # Attached containers in a question of their own: an engine that takes the empty runtime for no
        # filter at all would leave them out.
        found = {
            task.id: task
            for runtime in (_ANY_RUNTIME, {"runtime": ["attachment"]})
            for task in self._list("tasks", parse_task, {"node": list(ids), **runtime})
        }
        others = {task.node_id for task in found.values()}.difference(ids)
        if others:
            raise self._failed(
                f"{self._api} was asked for the tasks of some nodes, and listed those of others: "
                + ", ".join(sorted(others)[:3])
            )
        return list(found.values())

    def tasks_of_service(self, service_id: str) -> Sequence[SwarmTask]:
        """All tasks of a service that have a node; none if the service is gone."""
        try:
            return self._list("tasks", parse_task, {"service": [service_id], **_ANY_RUNTIME})
        except SwarmMovedError:
            return []

    def restarting(self) -> Sequence[SwarmTask]:
        """The tasks that wait to replace an ended or ending task."""
        return self._list("tasks", parse_task, {"desired-state": ["ready"], **_ANY_RUNTIME})

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
            raise self._failed(f"the events of {self._api} broke: {error}") from error
        finally:
            self.close()
        raise self._failed(f"{self._api} ended its events")

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
            raise self._failed(f"the Docker at {self._url} is in no Swarm")
        if state != "active":
            remedy = STATE_REMEDIES.get(state, "look at dockerd's log")
            raise self._failed(
                f"the Swarm of the Docker at {self._url} is in the state {state!r}: "
                f"{_words(swarm)}; {remedy}"
            )
        if not swarm.get("ControlAvailable") or not swarm.get("Cluster"):
            raise self._failed(f"the Docker at {self._url} is not a manager of its Swarm")
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
            raise self._failed(
                f"{self._api} gave an answer that cannot be understood: {type(error).__name__}: {error}"
            ) from error

    def _connected(self) -> docker.APIClient:
        chosen = self._only or self.managers.current
        if chosen != self._docker:
            self.close()
            self._docker = chosen
        if self._client is None:
            client = _Client(
                base_url=self._url,
                version=api_version(chosen, _TIMEOUT_SECONDS),
                timeout=_TIMEOUT_SECONDS,
                tls=_sdk_tls(chosen),
            )
            try:
                self._check_swarm(client)
            except Exception:
                client.close()
                raise
            self._client = client
        return self._client

    def _check_swarm(self, client: docker.APIClient) -> None:
        """Refuse a manager of another Swarm, whatever it is asked."""
        expected = self.managers.swarm_id
        if expected is None:
            return
        with self._parsing():
            cluster = (client.info().get("Swarm") or {}).get("Cluster") or {}
            found = cluster.get("ID") or expected  # None without a quorum: `identity` tells that.
        if found != expected:
            raise self._failed(
                f"the manager at {self._url} is of Swarm {stored_text(found)}, and this database is about "
                f"Swarm {expected}: use a database of its own for each Swarm",
                Reason.SWARM_CHANGED,
            )

    def _ask(self, method: str, **arguments: Any) -> Any:
        try:
            try:
                return getattr(self._connected(), method)(**arguments)
            except APIError as error:
                if _OTHER_VERSION not in str(error.explanation):
                    raise
                # Another engine than the one that the version was negotiated with: it was upgraded.
                self.close()
                return getattr(self._connected(), method)(**arguments)
        except APIError as error:
            words = str(error.explanation or error)
            problem = f"{self._api} refused to list {method}: {words}"
            if error.status_code == requests.codes.not_found:
                raise SwarmMovedError(problem) from error
            remedy = f"; {NO_QUORUM}" if _NO_LEADER in words else ""
            raise self._failed(version_refused(self._url, words) or problem + remedy) from error
        except _BROKEN as error:
            # A new connection may work.
            self.close()
            answered = isinstance(error, DockerError) and error.__cause__ is None
            problem = str(error) if answered else f"{self._api} does not answer: {_plain(error)}"
            raise self._failed(problem) from error
        except (KeyError, TypeError) as error:
            raise self._failed(
                f"{self._api} gave an error that is not Docker's: {error}"
            ) from error

    def _failed(self, problem: str, reason: Reason = Reason.SWARM_UNREADABLE) -> SwarmError:
        """Note the failure of the manager that was asked; return it as an error."""
        failure = self.managers.failed(self._docker, problem)
        return SwarmError(failure.problem, reason, elsewhere=failure.elsewhere)


def look_at_others(managers: Managers) -> None:
    """Ask each manager that is not in use, so that it is known whether it could be."""
    for other in managers.others():
        swarm = DockerSwarm(managers, other)
        try:
            swarm.identity()
        except SwarmError:
            continue  # It is noted.
        finally:
            swarm.close()
        managers.answered(other)


class _Client(docker.APIClient):  # type: ignore[misc] # the SDK has no types
    """Docker's client, with a time-out for events: its own waits for ever.

    It takes no proxy and no CA from variables that are meant for other programs.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.trust_env = False
        self._prepared: dict[str, requests.PreparedRequest] = {}

    def get(
        self,
        url: str,
        *,
        params: Any = None,
        headers: Any = None,
        timeout: Any = _TIMEOUT_SECONDS,
        **options: Any,
    ) -> Any:
        if timeout is None:
            timeout = (_TIMEOUT_SECONDS, _SILENCE_SECONDS)
        # The questions are always the same, and to prepare one takes half as long as to ask it.
        key = f"{url} {params} {headers}"
        if key not in self._prepared:
            if len(self._prepared) >= _MAX_PREPARED:
                self._prepared.clear()
            question = requests.Request("GET", url, params=params, headers=headers)
            self._prepared[key] = self.prepare_request(question)
        return self.send(self._prepared[key], timeout=timeout, **options)


def _sdk_tls(chosen: Docker) -> TLSConfig | bool:
    if chosen.tls is None:
        return False
    pair = (chosen.tls.cert, chosen.tls.key) if chosen.tls.cert else None
    return TLSConfig(client_cert=pair, ca_cert=chosen.tls.ca, verify=True)


def _plain(error: Exception) -> str:
    """Why dockerd gave no answer, in the system's words, and what to do; not in those of three libraries."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, requests.Timeout | TimeoutError):
            return f"nothing came for {_TIMEOUT_SECONDS} s: look at dockerd's log, restart it if it hangs"
        if isinstance(cause, OSError) and cause.strerror:
            return f"{cause.strerror}: start dockerd there (`systemctl start docker`)"
        cause = cause.__cause__ or cause.__context__
    return str(error)


def _words(swarm: Mapping[str, Any]) -> str:
    """What Docker says about its Swarm, without the period."""
    return (
        stored_text(swarm.get("Error") or "it does not say why", MAX_ERROR)
        .strip()
        .removesuffix(".")
    )
