"""Questions to a dockerd over its HTTP API, without Docker's library."""

import http.client
import json
import socket
from typing import Any, Final
from urllib.parse import urlsplit

_TIMEOUT_SECONDS: Final = 4.0
_MAX_BYTES: Final = 64 << 20
_UNIX: Final = "unix://"


class DockerError(OSError):
    """Dockerd gave no answer, or an error: its words.

    Attributes:
        hangs: whether something took the question and did not answer in time.
    """

    def __init__(self, words: str, *, hangs: bool = False) -> None:
        super().__init__(words)
        self.hangs = hangs


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def get(docker_host: str, path: str) -> Any:
    """GET a JSON answer of dockerd at `unix:///PATH` or `tcp://HOST:PORT`.

    Raises:
        DockerError: it does not answer, or with an error.
    """
    try:
        connection = _connection(docker_host)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            answer = json.loads(response.read(_MAX_BYTES))
        finally:
            connection.close()
    except DockerError:
        raise
    except TimeoutError as error:
        silence = f"{docker_host} gave no answer within {_TIMEOUT_SECONDS:g} s"
        raise DockerError(silence, hangs=True) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        text = str(error) or type(error).__name__
        raise DockerError(f"no Docker API at {docker_host}: {text}") from error
    if response.status != http.client.OK:
        words = answer.get("message") if isinstance(answer, dict) else None
        raise DockerError(str(words or f"HTTP {response.status}"))
    return answer


def data_path_port(info: Any) -> int | None:
    """Return the Swarm's UDP port for VXLAN from `/info`; None: only a manager says it, and this is none."""
    cluster = (info.get("Swarm") or {}).get("Cluster") or {}
    return int(cluster.get("DataPathPort") or 0) or None


def _connection(docker_host: str) -> http.client.HTTPConnection:
    if docker_host.startswith(_UNIX):
        return _UnixConnection(docker_host.removeprefix(_UNIX))
    parts = urlsplit(docker_host)
    if parts.scheme not in ("tcp", "http") or not parts.hostname:
        raise DockerError(f"{docker_host!r} is neither unix:///PATH nor tcp://HOST:PORT")
    return http.client.HTTPConnection(parts.hostname, parts.port or 2375, timeout=_TIMEOUT_SECONDS)
