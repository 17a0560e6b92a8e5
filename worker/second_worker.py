"""`SecondWorker`: notices that another worker serves the same node, in this network namespace.

Two would answer each other's requests. The first to start holds a name among the abstract sockets of the
network namespace (man 7 unix), which all workers of a node share; it ends with its process. Another one finds
the name taken, and connects to it, so that both know.
"""

import errno
import math
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

log = structlog.get_logger(__name__)

_PERIOD_SECONDS: Final = 5.0
_REMEMBERED_SECONDS: Final = 3 * _PERIOD_SECONDS
_MAX_ACCEPTED: Final = 16
"""At a time: any process of the machine may connect."""


class SecondWorker:
    """Looks for another worker every few seconds, in a thread."""

    def __init__(self, node_id: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = f"vxlan-operator-worker-{node_id}"
        """Of the abstract socket."""
        self._clock = clock
        self._held: socket.socket | None = None
        self._seen_at = -math.inf
        self._logged = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="second-worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Release the name, and end the thread, within `timeout` seconds, if it was started."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        if self._held is not None:
            self._held.close()
            self._held = None

    @property
    def seen(self) -> bool:
        """Whether another worker was there within the last seconds."""
        return self._clock() - self._seen_at <= _REMEMBERED_SECONDS

    def step(self) -> None:
        """Hold the name, or show that we want it; raises OSError."""
        if self._held is None:
            self._held = self._hold()
        if self._held is None or self._was_asked(self._held):
            self._seen_at = self._clock()
        if self.seen != self._logged:
            self._logged = self.seen
            if self.seen:
                log.warning(
                    "another worker serves this node: each takes requests that the other waits for",
                    hint=f"stop one of them; `ss -xlp | grep {self.name}` shows one",
                )
            else:
                log.info("no other worker serves this node any more")

    def _hold(self) -> socket.socket | None:
        """Take the name; None: another process has it, and knows of us now."""
        address = f"\0{self.name}"
        held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            held.bind(address)
            held.listen(1)
        except OSError as error:
            held.close()
            if error.errno != errno.EADDRINUSE:
                raise
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as other:
                other.connect_ex(address)
            return None
        return held

    @staticmethod
    def _was_asked(held: socket.socket) -> bool:
        asked = False
        for _ in range(_MAX_ACCEPTED):
            try:
                held.accept()[0].close()
            except OSError:
                break
            asked = True
        return asked

    def _run(self) -> None:
        while True:
            try:
                self.step()
            except Exception:
                log.exception("a second worker cannot be looked for, going on")
            if self._stopping.wait(_PERIOD_SECONDS):
                return
