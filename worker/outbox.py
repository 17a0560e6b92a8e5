"""Messages until they are sent: a thread that publishes, and retries.

A run must not wait for the broker, which may be away for a day. The box is small on purpose: what must not be
lost is in the journal and repeated by every report, and an old report is worth less than a new one.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from contract.runtime.broker_errors import advice

log = structlog.get_logger(__name__)

CAPACITY: Final = 64
_RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0)


class Outbox:
    """A bounded box of messages and the thread that sends them in order.

    `publish` sends a payload as the named task; it raises any exception when it could not.
    """

    def __init__(self, publish: Callable[[str, str], None]) -> None:
        self._publish = publish
        self._box: deque[tuple[str, str]] = deque(maxlen=CAPACITY)
        self._changed = threading.Condition()
        self._dropped = 0
        self.dropped = 0
        """Messages that were lost since the start."""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Send what can be sent at once, and end the thread, within `timeout` seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout)
        if self._box:
            log.warning("messages were not sent before the end", messages=len(self._box))

    @property
    def stalled(self) -> bool:
        """Whether its thread has ended by itself."""
        return not self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Number of messages that are not sent yet. From any thread."""
        return len(self._box)

    def put(self, task: str, payload: str) -> None:
        """Queue a message; a full box drops its oldest."""
        with self._changed:
            if len(self._box) == CAPACITY:
                # Logged once, and the number when it is over: this can last for days.
                if not self._dropped:
                    log.warning("outbox full, dropping its oldest messages")
                self._dropped += 1
                self.dropped += 1
            self._box.append((task, payload))
            self._changed.notify_all()

    def _run(self) -> None:
        failures = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._box or self._stopping)
                if not self._box:
                    return
                message = self._box[0]
            try:
                self._publish(*message)
            except Exception as error:  # noqa: BLE001 -- whatever the broker's client raises: retry
                if not failures:
                    log.warning(
                        "broker unreachable, will keep trying",
                        error=str(error),
                        hint=advice(error) or "start Redis, or check its address and the network",
                    )
                delay = _RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)]
                failures += 1
                with self._changed:
                    if self._changed.wait_for(lambda: self._stopping, delay):
                        return
                continue
            if failures:
                log.info("broker reachable again", after_failures=failures)
                failures = 0
            with self._changed:
                # It may have been pushed out while it was being sent.
                if self._box and self._box[0] is message:
                    self._box.popleft()
                if self._dropped and not self._box:
                    log.warning("outbox empty again", dropped=self._dropped)
                    self._dropped = 0
