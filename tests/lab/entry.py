"""Running processes of the outside world in a lab's namespaces."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import command
from .command import TIMEOUT, Argument

_STOP_TIMEOUT = 20.0
# A process outside the lab's PID namespace does not die with the lab; so that it does not stay when
# its owner was killed either, the kernel is told to kill it then.
_DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")


class Entry:
    """One set of namespaces to run commands in; `prefix` is the command that enters them.

    Attributes:
        network_file: the file of the network namespace, if it is that alone.
    """

    def __init__(self, prefix: list[str], pids: Path, *, network_file: Path | None = None) -> None:
        self.network_file = network_file
        self._prefix = prefix
        self._pids = pids
        self._started: list[subprocess.Popen[Any]] = []

    @classmethod
    def network(cls, namespace: Path, pids: Path) -> "Entry":
        """A network namespace and nothing else: the files and processes are the machine's."""
        return cls(["nsenter", f"--net={namespace}", "--"], pids, network_file=namespace)

    def command(self, args: Sequence[Argument]) -> list[str]:
        """The whole command, for a caller that wants to run it in its own way."""
        return [*self._prefix, *(os.fspath(argument) for argument in args)]

    def run(
        self,
        args: Sequence[Argument],
        *,
        check: bool = True,
        timeout: float = TIMEOUT,
        stdin: str = "",
    ) -> subprocess.CompletedProcess[str]:
        return command.run(
            self.command([*_DIE_WITH_US, *args]), check=check, timeout=timeout, stdin=stdin
        )

    def popen(self, args: Sequence[Argument], **options: Any) -> subprocess.Popen[Any]:
        """Start a long process; it is killed when the lab is let go, or when our process dies.

        To be exact: when the *thread* that calls this ends (see PR_SET_PDEATHSIG), so call it from
        one that stays, such as the main thread.
        """
        process: subprocess.Popen[Any] = subprocess.Popen(
            self.command([*_DIE_WITH_US, *args]), **options
        )
        self._started.append(process)
        return process

    def start_lasting(self, args: Sequence[Argument], **options: Any) -> None:
        """Start a long process that outlives ours and ends with the lab: it is in its PID namespace.

        It becomes a child of the lab's init at once. An `nsenter` outside as its parent would stop with it
        at SIGSTOP, and stay so; then it would never collect it, and the kernel ends a PID namespace only
        when all of its processes have been collected.
        """
        enter = ["nsenter", f"--pid={self._pids}", "--", "setsid", "--fork", *self.command(args)]
        subprocess.run(enter, check=True, timeout=TIMEOUT, **options)

    def close(self) -> None:
        """End what `popen` started and what still runs, with SIGTERM first."""
        running = [process for process in self._started if process.poll() is None]
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(_STOP_TIMEOUT)
        self._started.clear()
