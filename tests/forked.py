"""Programs that are forked from a process which has imported them: for what they do, not how they start.

A start costs half a second of a core, a controller's a whole one, most of it for imports, and hundreds of
tests ask by `vxctl`. The child has its own arguments, environment, input, output, exit status and end, as
any other. Tests of a program's start, of Ctrl-C and of terminals start the real one.
"""

import ctypes
import gc
import importlib
import io
import json
import os
import pkgutil
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Final

_ROOT: Final = Path(__file__).parents[1]
PROGRAMS: Final = frozenset({"vxctl", "vxlan-worker"})
"""What can be forked."""
_CONNECTIONS: Final = 128
_NUMBER_BYTES: Final = 8


def _number(number: int) -> bytes:
    return number.to_bytes(_NUMBER_BYTES)


class _Server:
    """The process that has imported it; it ends with this one."""

    def __init__(self) -> None:
        self.address = f"\0vxctl-{os.getpid()}-{secrets.token_hex(4)}"
        self.process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", __name__),
                self.address.removeprefix("\0"),
            ],
            stdout=subprocess.PIPE,
            cwd=_ROOT,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"


_lock: Final = threading.Lock()
_servers: Final[list[_Server]] = []


def _connect() -> socket.socket:
    with _lock:
        # The kernel ends it with the thread that started it, which may be a test's.
        if not _servers or _servers[-1].process.poll() is not None:
            _servers.append(_Server())
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(_servers[-1].address)
        return connection


class Program:
    """A program that was started, to be used as a `subprocess.Popen`; it is killed when this process ends.

    Args:
        command: `vxctl` or `vxlan-worker`, of whatever folder, and its arguments.
        files: descriptors of its standard input, output and errors.
        namespaces: files of the namespaces that it enters.

    Attributes:
        returncode: its exit status; None: it has not ended, as far as was looked.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        files: tuple[int, int, int],
        namespaces: Sequence[Path] = (),
    ) -> None:
        self.args = list(command)
        self.returncode: int | None = None
        self._connection = _connect()
        entered = [str(each) for each in namespaces]
        asked = json.dumps([self.args, dict(environment), str(Path.cwd()), entered]).encode()
        socket.send_fds(self._connection, [_number(len(asked))], files)
        self._connection.sendall(asked)
        answer = self._connection.recv(_NUMBER_BYTES, socket.MSG_WAITALL)
        assert len(answer) == _NUMBER_BYTES, "it was forked"
        self.pid = int.from_bytes(answer)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, when it has ended.

        Raises:
            subprocess.TimeoutExpired: it did not end within `timeout` seconds.
        """
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._connection.recv(_NUMBER_BYTES))
            self._connection.close()
        return self.returncode

    def poll(self) -> int | None:
        """Its exit status; None: it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


def run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    timeout: float,
    given: bytes = b"",
    namespaces: Sequence[Path] = (),
) -> "subprocess.CompletedProcess[bytes]":
    """Run `vxctl` to its end; `given`: what it can read.

    Raises:
        subprocess.TimeoutExpired: it did not end within `timeout` seconds, and was killed.
    """
    with (
        tempfile.TemporaryFile() as standard_input,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
    ):
        standard_input.write(given)
        standard_input.seek(0)
        files = (standard_input.fileno(), output.fileno(), errors.fileno())
        program = Program(["vxctl", *arguments], environment, files, namespaces)
        try:
            status = program.wait(timeout)
        finally:
            program.kill()
        return subprocess.CompletedProcess(program.args, status, _whole(output), _whole(errors))


def as_text(done: "subprocess.CompletedProcess[bytes]") -> "subprocess.CompletedProcess[str]":
    """The same as text, with lines that end as Python's do."""
    output, errors = (
        io.TextIOWrapper(io.BytesIO(each)).read() for each in (done.stdout, done.stderr)
    )
    return subprocess.CompletedProcess(done.args, done.returncode, output, errors)


def _whole(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _serve(address: str) -> Callable[[], None]:
    """Answer for ever; return the program's entry point in each process that is to run it."""
    import controller.cli
    import controller.process.controller
    import worker.agent
    import worker.cli

    for module in pkgutil.walk_packages(controller.cli.__path__, "controller.cli."):
        importlib.import_module(module.name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{address}")
        listener.listen(_CONNECTIONS)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                break
            connection.close()
    with connection:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        length, files, _, _ = socket.recv_fds(connection, _NUMBER_BYTES, 3)
        asked = b""
        while len(asked) < int.from_bytes(length):
            asked += connection.recv(1 << 20)
        command = os.fork()
        if command != 0:
            connection.sendall(_number(command))
            os._exit(_attend(command, connection))
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    (program, *arguments), environment, folder, namespaces = json.loads(asked)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    _enter(namespaces)
    os.chdir(folder)
    name = Path(program).name
    sys.argv = [str(Path(sys.executable).parent / name), *arguments]
    return {"vxctl": controller.cli.main, "vxlan-worker": worker.cli.main}[name]


def _enter(namespaces: Sequence[str]) -> None:
    """Enter namespaces; all are opened first, as another mount namespace may not show them."""
    libc = ctypes.CDLL(None, use_errno=True)
    with ExitStack() as opened:
        files = [opened.enter_context(Path(each).open("rb")) for each in namespaces]
        for file in files:
            if libc.setns(file.fileno(), 0) != 0:
                raise OSError(ctypes.get_errno(), f"setns({file.name}) failed")


def _attend(command: int, connection: socket.socket) -> int:
    """Send the exit status of a process; kill it if nobody waits for it any more."""
    ended = os.pidfd_open(command)
    ready, _, _ = select.select([ended, connection.fileno()], [], [])
    if ended not in ready:
        os.kill(command, signal.SIGKILL)
        return 1
    _, status = os.waitpid(command, 0)
    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    return 0


if __name__ == "__main__":
    _serve(sys.argv[1])()
