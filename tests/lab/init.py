"""The lab's init: process 1 of its PID namespace; builds the lab, runs the dockerds, ends it all.

When this process ends, the kernel kills every process of the lab, so nothing can outlive it. It
ends itself when told to, when its owner is gone, or when the lab's lifetime is over; in these cases
it also removes the lab's cgroups and folder. It was started by `launch`, which says how.
"""

import argparse
import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from typing import Any

from . import dockerd, wiring
from .command import run
from .errors import LabError
from .folder import Folder
from .wait import wait_until

_LISTEN_BACKLOG = 16
_REQUEST_TIMEOUT = 10.0
_KILL_TIMEOUT = 60.0


class Init:
    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._spec = folder.spec()
        self._nodes = {node.name: node for node in self._spec.nodes}
        self._holders: dict[str, int] = {}
        self._dockerds: dict[str, subprocess.Popen[bytes]] = {}
        self._deadline = time.monotonic() + self._spec.lifetime
        self._over = ""

    def build(self) -> None:
        wiring.build_hub(self._folder)
        for node in self._spec.nodes:
            self._holders[node.name] = wiring.build_node(node, self._spec, self._folder)
            self._start(node.name)

    def serve(self, owner: int | None) -> str:
        """Answer requests and reap children until the lab is over; returns why it is."""
        with (
            selectors.DefaultSelector() as selector,
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener,
        ):
            woken = _wake_on_signals()
            listener.bind(str(self._folder.control))
            self._folder.control.chmod(0o600)
            listener.listen(_LISTEN_BACKLOG)
            selector.register(listener, selectors.EVENT_READ, lambda: self._answer(listener))
            selector.register(woken, selectors.EVENT_READ, lambda: self._on_signals(woken))
            if owner is not None:
                # A pidfd: readable once the owner has ended, however it did.
                selector.register(owner, selectors.EVENT_READ, lambda: self._end("its owner ended"))
            while not self._over:
                remaining = self._deadline - time.monotonic()
                if remaining <= 0:
                    self._end("its lifetime was over")
                    break
                for key, _ in selector.select(remaining):
                    key.data()
        return self._over

    def _end(self, reason: str) -> None:
        self._over = self._over or reason

    def _on_signals(self, woken: socket.socket) -> None:
        received = woken.recv(4096)
        if signal.SIGTERM in received:
            self._end("it got SIGTERM")
        self._reap_children()

    def _reap_children(self) -> None:
        """Collect every dead child: the dockerds, and all orphans that init inherits."""
        dockerds = {process.pid: process for process in self._dockerds.values()}
        while True:
            try:
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if dead is None:
                return
            # A dockerd is left to its Popen object, which would else never know the exit status.
            known = dockerds.get(dead.si_pid)
            if known is not None:
                known.wait()
            else:
                os.waitpid(dead.si_pid, 0)

    def _answer(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(_REQUEST_TIMEOUT)
            try:
                with connection.makefile("rw") as stream:
                    line = stream.readline()
                    # Who only wants to know our process id connects and says nothing.
                    if line:
                        stream.write(json.dumps(self._handle(json.loads(line))) + "\n")
            except (OSError, ValueError) as error:
                print(f"a request went wrong: {error!r}", file=sys.stderr, flush=True)

    def _handle(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            match request:
                case {"do": "status"}:
                    return self._status()
                case {"do": "start", "node": str(node)}:
                    return self._start(node)
                case {"do": "signal", "node": str(node), "signal": int(number)}:
                    return self._signal(node, number)
                case {"do": "hold", "node": str(node), "path": str(path)}:
                    return self._hold(node, path)
                case {"do": "release", "descriptor": int(descriptor)}:
                    os.close(descriptor)
                    return {}
                case {"do": "end"}:
                    self._end("it was told to end")
                    return {}
        except (LabError, OSError) as error:
            return {"error": str(error)}
        return {"error": f"init does not understand {request}"}

    def _status(self) -> dict[str, Any]:
        return {
            "seconds_left": self._deadline - time.monotonic(),
            "holders": self._holders,
            "dockerds": {
                name: {"pid": process.pid, "exit_status": process.poll()}
                for name, process in self._dockerds.items()
            },
        }

    def _start(self, node: str) -> dict[str, Any]:
        if node in self._dockerds and self._dockerds[node].poll() is None:
            raise LabError(f"the dockerd of {node} is running already")
        self._dockerds[node] = dockerd.start(
            self._nodes[node], self._holders[node], self._spec, self._folder
        )
        return {}

    def _signal(self, node: str, number: int) -> dict[str, Any]:
        self._running(node).send_signal(number)
        return {}

    def _hold(self, node: str, path: str) -> dict[str, Any]:
        """Open a file of the node's, from outside the node, and keep it open."""
        seen = f"/proc/{self._running(node).pid}/root{path}"
        try:
            return {"descriptor": os.open(seen, os.O_RDONLY | os.O_CLOEXEC)}
        except OSError as error:
            raise LabError(f"{node}: {path} cannot be opened: {error.strerror}") from error

    def _running(self, node: str) -> subprocess.Popen[bytes]:
        process = self._dockerds[node]
        if process.poll() is not None:
            raise LabError(f"the dockerd of {node} is not running")
        return process

    def clear(self) -> None:
        """Kill all the lab's other processes, then remove what it has outside its namespaces."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        wait_until(_no_child_left, _KILL_TIMEOUT, "the lab's killed processes to be gone")
        # Lazily and with all mounts below it; a folder cannot be removed while it is a mount point.
        run(["umount", "--lazy", self._folder.private])
        self._folder.clean()


def _no_child_left() -> bool:
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            continue
    except ChildProcessError:
        return True
    return False


def _wake_on_signals() -> socket.socket:
    """A socket that gets a byte for each SIGTERM and SIGCHLD."""
    woken, waker = socket.socketpair()
    woken.setblocking(False)
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.detach(), warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return woken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="the lab's name")
    parser.add_argument("--owner", type=int, help="a pidfd: end when that process has ended")
    arguments = parser.parse_args()
    init = Init(Folder(arguments.name))
    try:
        init.build()
    except LabError as error:
        # The owner shows this to the person and cleans up; nobody else could.
        print(error, file=sys.stderr)
        return 1
    reason = init.serve(arguments.owner)
    print(f"the lab {arguments.name} ends: {reason}", file=sys.stderr, flush=True)
    init.clear()
    return 0


if __name__ == "__main__":
    if os.getpid() != 1:
        sys.exit("this is the init of a lab and starts only as process 1 of a PID namespace")
    sys.exit(main())
