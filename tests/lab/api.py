"""Docker's HTTP API over a unix socket: the few calls that the lab itself makes."""

import contextlib
import http.client
import json
import socket
import struct
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from .command import TIMEOUT
from .errors import LabError


class Api:
    """One engine. Paths carry no API version: each engine then answers in its newest."""

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path

    def is_up(self) -> bool:
        try:
            self._call("GET", "/_ping", timeout=2)
        except LabError:
            return False
        return True

    def pid(self) -> int:
        """Of the dockerd that listens, as it is in our PID namespace."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.connect(str(self._socket_path))
                credentials = connection.getsockopt(
                    socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
                )
        except OSError as error:
            raise LabError(f"no dockerd listens at {self._socket_path}: {error}") from error
        pid: int = struct.unpack("3i", credentials)[0]
        return pid

    def get(self, path: str, query: dict[str, str] | None = None, timeout: float = TIMEOUT) -> Any:
        target = f"{path}?{urlencode(query)}" if query else path
        return json.loads(self._call("GET", target, timeout=timeout))

    def post(self, path: str, body: object, timeout: float = TIMEOUT) -> None:
        self._call("POST", path, json.dumps(body).encode(), "application/json", timeout)

    def load_image(self, archive: bytes, timeout: float = TIMEOUT) -> None:
        """Take in an image as `docker save` writes it."""
        answer = self._call("POST", "/images/load", archive, "application/x-tar", timeout)
        # Progress comes as one JSON document a line, and so does a failure halfway.
        for line in answer.splitlines():
            if "error" in json.loads(line):
                raise LabError(f"{self._socket_path}: the image was not loaded: {line}")

    def _call(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        content_type: str = "application/json",
        timeout: float = TIMEOUT,
    ) -> str:
        connection = _UnixConnection(self._socket_path, timeout)
        try:
            # An engine that refuses a request answers, and closes, before it has read all of it.
            with contextlib.suppress(BrokenPipeError):
                connection.request(method, target, body, {"Content-Type": content_type})
            response = connection.getresponse()
            answer = response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise LabError(
                f"no dockerd answers at {self._socket_path} ({error!r}): was it stopped or killed?"
            ) from error
        finally:
            connection.close()
        if response.status >= 400:
            raise LabError(
                f"{self._socket_path}: {method} {target}: {response.status} {answer.strip()}"
            )
        return answer


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, socket_path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._socket_path = socket_path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._socket_path))
