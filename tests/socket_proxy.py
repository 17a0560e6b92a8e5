"""A real HAProxy with the product's configuration, before the socket of a dockerd or of a stand-in."""

import os
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.servers import Server, ServerMissingError, of_root

STACK: Final = Path(__file__).parent.parent / "packaging" / "stack"


class SocketProxy(Server):
    """HAProxy on a Unix socket.

    Args:
        docker: the socket of dockerd.
        engine: a root folder whose HAProxy is used; None: this machine's.
        timeout: that of its configuration, such as `1s`.
    """

    def __init__(
        self, folder: Path, docker: Path, *, engine: Path | None = None, timeout: str = "60s"
    ) -> None:
        folder.mkdir(parents=True)
        super().__init__(folder)
        self._program = _haproxy(engine)
        self._docker = docker
        self._timeout = timeout
        self.socket = folder / "docker.sock"
        self.url = f"unix://{self.socket}"

    def variables(self) -> Mapping[str, str]:
        """The variables of the configuration."""
        return {
            "DOCKER_SOCKET": str(self._docker),
            "PROXY_SOCKET": str(self.socket),
            "PROXY_OWNER": str(os.geteuid()),
            "PROXY_LUA": str(STACK / "blank-specs.lua"),
            "PROXY_TIMEOUT": self._timeout,
        }

    def command(self) -> Sequence[str]:
        """See `Server.command`."""
        variables = [f"{name}={value}" for name, value in self.variables().items()]
        return ("env", *variables, *self._program, "-db", "-f", str(STACK / "haproxy.cfg"))

    def ready(self) -> bool:
        """See `Server.ready`."""
        # The file is there before it listens.
        with socket.socket(socket.AF_UNIX) as connection:
            return connection.connect_ex(str(self.socket)) == 0

    def version(self) -> str:
        """The first line of `haproxy -v`."""
        shown = subprocess.run(
            [*self._program, "-v"], capture_output=True, text=True, check=True, timeout=30
        )
        return shown.stdout.partition("\n")[0]

    def say(self, request: bytes) -> tuple[int, bytes]:
        """Send these bytes, and return status and body of what is answered; 0: nothing."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(self.socket))
            connection.sendall(request)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]) if head else 0, body


def _haproxy(engine: Path | None) -> Sequence[str]:
    """The command of a HAProxy; that of another root folder with the libraries from there."""
    if engine is not None:
        command = of_root(engine, "usr/sbin/haproxy")
        if command is not None:
            return command
    found = shutil.which("haproxy", path=f"/usr/sbin:{os.environ.get('PATH', '')}")
    if found is None:
        raise ServerMissingError("HAProxy is missing: apt-get install haproxy")
    return (found,)
