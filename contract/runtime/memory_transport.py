"""The transport of `vxctl up`: messages in memory, whose consumer waits for them instead of polling.

kombu's own looks twenty times a second whether a message came, or brings each one late.
"""

import threading
import time
from queue import Empty
from typing import Any, Final

from kombu.transport import memory

_arrived: Final = threading.Condition()


class _Channel(memory.Channel):  # type: ignore[misc] # kombu has no types
    arrivals = 0
    """Messages ever put, by all connections of this process, whose queues are the same."""

    def _put(self, queue: str, message: Any, **options: Any) -> None:
        super()._put(queue, message, **options)
        with _arrived:
            _Channel.arrivals += 1
            _arrived.notify_all()


class MemoryTransport(memory.Transport):  # type: ignore[misc] # kombu has no types
    """kombu's memory transport without its polling."""

    Channel = _Channel

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:  # noqa: ARG002 -- kombu's
        """Deliver a message; wait for one up to `timeout` seconds, or for ever.

        Raises:
            TimeoutError: none came.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            seen = _Channel.arrivals
            try:
                self.cycle.get(self._deliver, timeout=timeout)
            except Empty:
                if not _await_another(seen, deadline):
                    raise TimeoutError from None
            else:
                return


def _await_another(seen: int, deadline: float | None) -> bool:
    """Wait until more than the messages seen were put; return False if the time passed."""
    left = None if deadline is None else deadline - time.monotonic()
    with _arrived:
        return _arrived.wait_for(lambda: _Channel.arrivals != seen, left)
