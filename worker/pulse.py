"""`Pulse`: a thread that tells a health check, by a file, whether the loops of this process go on.

The health check (`worker.healthcheck`) reads nothing else: a broker that is away ends no worker. Nor does a
consumer that hangs need it, as the watchdog restarts the process then.
"""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import structlog

from contract.runtime.files import replacing

log = structlog.get_logger(__name__)

EVERY_SECONDS: Final = 5.0


class Pulse:
    """Writes the time and the loops that have stalled into a file every few seconds.

    Args:
        file: replaced each time; None: nothing is written.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._stalled: Callable[[], Sequence[str]] = list
        self._failed = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def watch(self, stalled: Callable[[], Sequence[str]]) -> None:
        """Ask for the names of stalled loops from now on."""
        self._stalled = stalled

    def start(self) -> None:
        if self._file is not None:
            self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread, within `timeout` seconds, if it was started."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def step(self) -> None:
        """Write once; a file that cannot be written is logged once, until it can."""
        if self._file is None:
            return
        # Monotonic: the same clock in all processes of a machine, and nobody sets it.
        pulse = "\n".join([str(time.monotonic()), *self._stalled()])
        try:
            with replacing(self._file, sync=False) as file:
                file.write(pulse.encode())
        except OSError as error:
            if not self._failed:
                log.warning(
                    "the file of the health check cannot be written",
                    error=str(error),
                    hint="set VXLAN_OPERATOR_ALIVE_FILE to a file in a folder of the worker's own",
                )
            self._failed = True
        else:
            self._failed = False

    def _run(self) -> None:
        while True:
            try:
                self.step()
            except Exception:
                log.exception("the pulse failed, going on")
            if self._stopping.wait(EVERY_SECONDS):
                return
