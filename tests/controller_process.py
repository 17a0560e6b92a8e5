"""`vxctl controller` as a real process, and `vxctl` for asking it."""

import itertools
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

import httpx

from contract.runtime.exit_status import ExitStatus
from controller.db.engine import open_database
from tests import forked
from tests.fake_docker import FakeDocker
from tests.fake_swarm import swarm_id
from tests.servers import Server
from tests.signed import CONTROLLERS_KEY, give_key, pin
from tests.tokens import ENVIRONMENT, HEADERS, give_file

VXCTL: Final = str(Path(sys.executable).parent / "vxctl")
_TIMEOUT_SECONDS: Final = 60.0
_FAKE_WORKERS: Final = ("one", "two", "three", "four", "five")
"""Names of nodes."""

HTTP: Final = httpx.Client(
    timeout=_TIMEOUT_SECONDS, headers=HEADERS, limits=httpx.Limits(max_keepalive_connections=0)
)
"""For asking a controller. `httpx.get` reads the certificates of the machine each time: 20 ms of a core."""


def environment() -> dict[str, str]:
    """This process's environment: of the operator only the token, and no size of a terminal.

    pytest-xdist gives its workers that of its own terminal, and programs believe it.
    """
    size = ("COLUMNS", "LINES")
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("VXLAN_") and name not in size
    } | ENVIRONMENT


def _ports() -> Iterator[int]:
    """Ports that no other process of the tests is given, and Linux gives to no connection, over and over.

    Seconds may pass between the choice of a port and its server's start. So a process keeps a hundred
    of them, by a name that the kernel frees when it ends.
    """
    with socket.socket(socket.AF_UNIX) as keeper:
        while True:
            hundred = 100 + secrets.randbelow(200)
            with suppress(OSError):
                keeper.bind(f"\0vxlan-operator-tests-ports-{hundred}")
                break
        yield from itertools.cycle(range(100 * hundred, 100 * hundred + 100))


_PORTS: Final = _ports()


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    for port in _PORTS:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("there are always more")


def vxctl(*arguments: str, url: str | None = None) -> "subprocess.CompletedProcess[str]":
    """Run `vxctl` to its end."""
    extra = {} if url is None else {"VXLAN_OPERATOR_URL": url}
    return forked.as_text(forked.run(list(arguments), environment() | extra, _TIMEOUT_SECONDS))


def assert_clear_error(
    done: "subprocess.CompletedProcess[str]", problem: str, status: int = ExitStatus.ERROR
) -> None:
    """The command failed with two lines: what is wrong, and what to do about it."""
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    error, hint = done.stderr.splitlines()
    assert re.fullmatch(rf"error: .*{problem}.*", error), error
    assert re.fullmatch(r"hint: .+", hint), hint


class ControllerProcess(Server):
    """A controller, listening on a free loopback port; its database is SQLite's in `folder` unless told.

    Attributes:
        url: of its API.
    """

    def __init__(
        self,
        folder: Path,
        *,
        broker_url: str,
        docker_url: str,
        database_url: str | None = None,
        options: Sequence[str] = (),
    ) -> None:
        super().__init__(folder)
        self.url = f"http://127.0.0.1:{free_port()}"
        self.database_url = database_url or f"sqlite:///{folder / 'controller.db'}"
        self._believes = False
        self._options = (
            "--listen", self.url.removeprefix("http://"),
            "--broker-url", broker_url,
            "--database-url", self.database_url,
            "--api-token-file", str(give_file(folder)),
            "--signing-key", str(give_key(folder / "controller.key", CONTROLLERS_KEY)),
            "--docker-host", docker_url,
            "--sync-seconds", "0.5",
            *options,
        )  # fmt: skip

    def command(self) -> Sequence[str]:
        """See `Server.command`."""
        names = [f"--unset={name}" for name in os.environ if name.startswith("VXLAN_")]
        return ("env", *names, VXCTL, "controller", *self._options)

    def launch(self) -> None:
        """See `Server.launch`; forked, unless a kind of controller has a command of its own."""
        if type(self).command is not ControllerProcess.command:
            super().launch()
            return
        with self.open_log() as log, Path(os.devnull).open("rb") as null:
            clean = {
                name: value for name, value in os.environ.items() if not name.startswith("VXLAN_")
            }
            files = (null.fileno(), log.fileno(), log.fileno())
            self._process = forked.Program(["vxctl", "controller", *self._options], clean, files)

    def ready(self) -> bool:
        """See `Server.ready`."""
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        if not self.answers(200):
            return False
        if not self._believes:
            self.believe(*map(swarm_id, _FAKE_WORKERS))
            self._believes = True
            # Until then it may not look again for a key that it does not know.
            time.sleep(1.1)
        return True

    def believe(self, *node_ids: str) -> None:
        """Let it believe workers of these nodes that sign by `tests.signed`."""
        with closing(open_database(self.database_url)) as database:
            pin(database, *node_ids)

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Start it and wait until it is ready; killed in the end."""
        try:
            self.start()
            yield self
        finally:
            self.stop(signal.SIGKILL)

    def supervise(self) -> None:
        """Start it again if it ended for that, as a supervisor would."""
        if self._process is not None and self._process.poll() == ExitStatus.RESTART:
            self.launch()

    def await_restart(self) -> None:
        """Wait until it has ended to be started again, and start it."""
        assert self._process is not None
        assert self._process.wait(_TIMEOUT_SECONDS) == ExitStatus.RESTART
        self.start()

    def answers(self, status: int) -> bool:
        """Whether `/readyz` answers so."""
        self.supervise()
        try:
            return HTTP.get(f"{self.url}/readyz").status_code == status
        except httpx.TransportError:
            return False

    def readiness(self) -> str:
        """What `/readyz` answers; empty when it has no answer, as when one server follows another."""
        try:
            return HTTP.get(f"{self.url}/readyz").text
        except httpx.TransportError:
            return ""

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal; return its exit status."""
        assert self._process is not None
        self._process.send_signal(number)
        status = self._process.wait(_TIMEOUT_SECONDS)
        self._process = None
        return status

    def log(self) -> str:
        """What it has logged."""
        return (self.folder / "server.log").read_text()

    def vxctl(self, *arguments: str) -> str:
        """What `vxctl` says when it asks this controller."""
        done = vxctl(*arguments, url=self.url)
        # The status has an answer, too, when something is not as it should be.
        well = (ExitStatus.DONE, ExitStatus.NO) if arguments[0] == "status" else (ExitStatus.DONE,)
        assert done.returncode in well, done.stderr
        assert done.stderr == ""
        return done.stdout

    def ask_for_run(self, node: str) -> None:
        """Requeue a node, whether or not the request can be sent at once."""
        done = vxctl("requeue", node, url=self.url)
        assert done.returncode in (0, 3), done.stderr

    def json(self, *arguments: str) -> Any:
        """The same for programs."""
        return json.loads(self.vxctl(*arguments, "-o", "json"))


class OwnProcess(ControllerProcess):
    """One that is not forked from a process of the tests, which has more in its memory."""

    def launch(self) -> None:
        """See `Server.launch`."""
        Server.launch(self)


def controller_of(
    folder: Path,
    docker: FakeDocker,
    broker_url: str,
    *options: str,
    database_url: str | None = None,
    kind: type[ControllerProcess] = ControllerProcess,
) -> AbstractContextManager[ControllerProcess]:
    """A controller that is ready; killed in the end. The folder is made."""
    folder.mkdir(exist_ok=True)
    return kind(
        folder,
        broker_url=broker_url,
        docker_url=docker.url,
        database_url=database_url,
        options=options,
    ).running()
