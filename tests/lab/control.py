"""Talking to a lab's init from outside: one JSON line there and one back for each request."""

import json
import socket
import struct
from pathlib import Path
from typing import Any

from .errors import LabError
from .folder import Folder

_TIMEOUT = 60.0


class Control:
    def __init__(self, folder: Folder) -> None:
        self._path = folder.control
        with self._connect() as connection:
            # The kernel tells the listener's process id as it is in our PID namespace.
            credentials = connection.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
            )
        self.init_pid: int = struct.unpack("3i", credentials)[0]

    def ask(self, do: str, **arguments: str | int) -> dict[str, Any]:
        with self._connect() as connection, connection.makefile("rw") as stream:
            try:
                stream.write(json.dumps({"do": do, **arguments}) + "\n")
                stream.flush()
                answer: dict[str, Any] = json.loads(stream.readline())
            except (OSError, ValueError) as error:
                raise LabError(f"the lab's init broke off at {do!r}: {error!r}") from error
        if "error" in answer:
            raise LabError(str(answer["error"]))
        return answer

    def holders(self) -> dict[str, int]:
        """For each node the process that holds its namespaces, by its id inside the lab."""
        answer: dict[str, int] = self.ask("status")["holders"]
        return answer

    def namespace(self, kind: str, process: int = 1) -> Path:
        """The namespace of a process of the lab, for one outside; process 1 is init, in the hub."""
        return Path(f"/proc/{self.init_pid}/root/proc/{process}/ns/{kind}")

    def held(self, descriptor: int) -> Path:
        """What init holds open as `descriptor`."""
        return Path(f"/proc/{self.init_pid}/fd/{descriptor}")

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(_TIMEOUT)
        try:
            connection.connect(str(self._path))
        except OSError as error:
            connection.close()
            raise LabError(f"the lab's init does not answer at {self._path}: {error}") from error
        return connection
