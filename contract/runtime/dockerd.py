"""Questions to a dockerd over its HTTP API, in a version that both speak, without Docker's library."""

import http.client
import json
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

from contract.runtime.client_tls import client_context

T = TypeVar("T")

_CONNECT_SECONDS: Final = 4.0
_ANSWER_SECONDS: Final = 4.0
_MAX_BYTES: Final = 64 << 20
_UNIX: Final = "unix://"
_PLAIN_PORT: Final = 2375
_TLS_PORT: Final = 2376

_OLDEST: Final = (1, 41)
"""Of Docker 20.10, the oldest engine that is supported."""
_NEWEST: Final = (1, 51)
"""Of Docker 28.5, the newest engine that the tests run on; newer ones speak it, too (29.0: from 1.44 on)."""

_TOO_OLD: Final = re.compile(r"Minimum supported API version is (\d+\.\d+)")
"""How dockerd refuses a version that it no longer speaks (moby daemon/server/middleware/version.go)."""


class DockerError(OSError):
    """Dockerd gave no answer, or an error: its words.

    Attributes:
        hangs: whether something took the question and did not answer in time.
    """

    def __init__(self, words: str, *, hangs: bool = False) -> None:
        super().__init__(words)
        self.hangs = hangs


class DockerTls(NamedTuple):
    """PEM files for TLS to a dockerd: the CA of its certificate; our certificate and key, or empty."""

    ca: str
    cert: str = ""
    key: str = ""

    def context(self) -> ssl.SSLContext:
        """Return what verifies the server's certificate and name; OSError, ValueError: a file is unusable."""
        return client_context(*self)


@dataclass(frozen=True, slots=True)
class Docker:
    """The API of one dockerd: `unix:///PATH`, or `tcp://HOST:PORT`, with TLS or without."""

    url: str
    tls: DockerTls | None = None


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_CONNECT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def get(docker: Docker, path: str, seconds: float | None = None) -> Any:
    """GET a JSON answer of a dockerd, in an API version that both speak.

    Args:
        path: without a version, such as `/info`.
        seconds: to wait for an answer; None: four.

    Raises:
        DockerError: it does not answer, or with an error.
    """

    def ask(connection: http.client.HTTPConnection) -> Any:
        version = _negotiate(connection, docker)
        status, body, _ = _ask(connection, f"/v{version}{path}")
        if status != http.client.OK:
            words = _message(body) or f"HTTP {status}"
            raise DockerError(version_refused(docker.url, words) or words)
        return json.loads(body)

    return _asking(docker, ask, seconds)


def api_version(docker: Docker, seconds: float | None = None) -> str:
    """Return the newest API version that a dockerd and this program speak, such as `1.44`.

    Raises:
        DockerError: it does not answer, or there is none.
    """
    return _asking(docker, lambda connection: _negotiate(connection, docker), seconds)


def version_refused(url: str, words: str) -> str | None:
    """Return the sentence for an API version that dockerd no longer speaks; None: the error is another."""
    found = _TOO_OLD.search(words)
    if found is None:
        return None
    return (
        f"the Docker API at {url} begins with version {found[1]}, and this program knows {_text(_OLDEST)} to "
        f"{_text(_NEWEST)}: upgrade vxlan-operator, or lower dockerd's `min-api-version` if it allows that"
    )


def data_path_port(info: Any) -> int | None:
    """Return the Swarm's UDP port for VXLAN from `/info`; None: only a manager says it, and this is none."""
    cluster = (info.get("Swarm") or {}).get("Cluster") or {}
    return int(cluster.get("DataPathPort") or 0) or None


def _asking(
    docker: Docker, ask: Callable[[http.client.HTTPConnection], T], seconds: float | None
) -> T:
    seconds = _ANSWER_SECONDS if seconds is None else seconds
    try:
        connection = _connection(docker)
        try:
            connection.connect()
            connection.timeout = (
                seconds  # If it is closed after the first answer, and opened again.
            )
            connection.sock.settimeout(seconds)
            return ask(connection)
        finally:
            connection.close()
    except DockerError:
        raise
    except TimeoutError as error:
        silence = f"{docker.url} gave no answer within {seconds:g} s"
        raise DockerError(silence, hangs=True) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        text = str(error) or type(error).__name__
        raise DockerError(f"no Docker API at {docker.url}: {text}") from error


def _negotiate(connection: http.client.HTTPConnection, docker: Docker) -> str:
    """Choose the API version by `/_ping`, the one path that every engine has without a version."""
    status, body, newest = _ask(connection, "/_ping")
    found = re.fullmatch(r"(\d{1,4})\.(\d{1,4})", newest)
    if found is None:
        words = _message(body) or f"HTTP {status} without an API version"
        raise DockerError(f"what answers at {docker.url} is not dockerd: {words}")
    spoken = int(found[1]), int(found[2])
    if spoken < _OLDEST:
        raise DockerError(
            f"the Docker API at {docker.url} ends with version {newest}, and {_text(_OLDEST)} is needed: "
            "upgrade Docker there to 20.10 or newer"
        )
    return _text(min(spoken, _NEWEST))


def _ask(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes, str]:
    """Return status, body and API version of an answer."""
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read(_MAX_BYTES)
    return response.status, body, response.getheader("Api-Version") or ""


def _message(body: bytes) -> str | None:
    """Return the words of an error in Docker's form; None: it has another."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return None


def _text(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _connection(docker: Docker) -> http.client.HTTPConnection:
    if docker.url.startswith(_UNIX):
        return _UnixConnection(docker.url.removeprefix(_UNIX))
    parts = urlsplit(docker.url)
    if parts.scheme != "tcp" or not parts.hostname:
        raise DockerError(f"{docker.url!r} is neither unix:///PATH nor tcp://HOST:PORT")
    if docker.tls is None:
        return http.client.HTTPConnection(
            parts.hostname, parts.port or _PLAIN_PORT, timeout=_CONNECT_SECONDS
        )
    return http.client.HTTPSConnection(
        parts.hostname,
        parts.port or _TLS_PORT,
        timeout=_CONNECT_SECONDS,
        context=docker.tls.context(),
    )
