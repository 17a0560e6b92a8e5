"""`Beacon`: a thread that gives signs of life, and follows the node's id in the Swarm.

A process that is killed, stopped or starved gives none, and the controller knows within seconds.
"""

import threading
import time
from collections.abc import Callable
from typing import Final
from uuid import uuid4

import structlog

from contract import VERSION
from contract.messages import SignOfLife
from contract.runtime.broker_errors import advice

log = structlog.get_logger(__name__)

DEFAULT_EVERY_SECONDS: Final = 2.5
"""Until a controller asks for another."""

ASK_SECONDS: Final = 30.0
"""Between questions to dockerd for the node's id; it is asked as well when the broker is back."""

_LOG_SECONDS: Final = 600.0


class Beacon:
    """Gives a sign of life every few seconds.

    Args:
        node_id: the node that this worker serves.
        write: stores a sign under a node's id, or raises any exception.
        local_id: asks dockerd for this node's id; None: it has none, or dockerd does not answer.
        moved: called with the node's new id, if it is another than the one served; may return.
    """

    def __init__(
        self,
        *,
        node_id: str,
        write: Callable[[str, SignOfLife], None],
        local_id: Callable[[], str | None],
        moved: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node_id = node_id
        self._write = write
        self._local_id = local_id
        self._moved = moved
        self._clock = clock
        self._every = DEFAULT_EVERY_SECONDS
        self._session = uuid4()
        self._count = 0
        self._key = node_id
        self._ask_at = clock()
        self._away = False
        self._stopping = threading.Event()
        self._hurried = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beacon", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Say that the worker ends, if it was started; within `timeout` seconds."""
        self._stopping.set()
        self._hurried.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    @property
    def other_id(self) -> str | None:
        """The id that dockerd has for this node, if it is another than the one served. From any thread."""
        key = self._key
        return None if key == self._node_id else key

    @property
    def stalled(self) -> bool:
        """Whether its thread has ended by itself."""
        return not self._thread.is_alive()

    def hurry(self) -> None:
        """Let the next sign be given now. From any thread."""
        self._hurried.set()

    def asked(self, every: float | None) -> None:
        """Note the seconds between signs that a controller asks for; None: it reads none."""
        self._every = ASK_SECONDS if every is None else every

    def step(self) -> float:
        """Give a sign, and ask for the node's id if it is time to; return the seconds until the next step."""
        if self._clock() >= self._ask_at:
            self._ask_at = self._clock() + ASK_SECONDS
            self._follow()
        try:
            self._give(ended=False)
        except Exception as error:  # noqa: BLE001 -- whatever the broker's client raises: try again
            if not self._away:
                log.warning(
                    "no sign of life can be given",
                    error=str(error),
                    hint=advice(error) or "start Redis, or check its address and the network",
                )
            self._away = True
        else:
            if self._away:
                self._away = False
                self._ask_at = self._clock()
        return self._every

    def _follow(self) -> None:
        found = self._local_id()
        if found is None or found == self._key:
            return
        self._key = found
        if found != self._node_id:
            self._moved(found)

    def _give(self, *, ended: bool) -> None:
        self._count += 1
        sign = SignOfLife(
            node_id=self._node_id,
            worker_version=VERSION,
            session=self._session,
            count=self._count,
            every=self._every,
            ended=ended,
        )
        self._write(self._key, sign)

    def _run(self) -> None:
        left = 0.0
        while True:
            self._hurried.wait(left)
            self._hurried.clear()
            if self._stopping.is_set():
                break
            try:
                left = self.step()
            except Exception:
                log.exception("the beacon failed, going on")
                left = self._every
        try:
            self._give(ended=True)
        except Exception as error:  # noqa: BLE001 -- the process ends; its silence says the same later
            log.info("the end could not be told", error=str(error))
