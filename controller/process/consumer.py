"""The thread that consumes queue `controller` (and in `vxctl up` the node's queue as well)."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog
from celery import Celery
from celery.worker import WorkController
from celery.worker import state as celery_state
from kombu import Queue

from contract.queues import PING_TASK
from contract.runtime.broker import queue_for_controller
from contract.runtime.restart import failures_before, restart
from contract.runtime.selftest import MAX_SILENCE_SECONDS, SelfTest

log = structlog.get_logger(__name__)

_RESTART_SECONDS: Final = 1.0
_PING_EXPIRES: Final = 60.0


class Consumer:
    """Runs a Celery consumer in a thread; one a process, because Celery's stop flag is global.

    Args:
        app: the app whose tasks are run.
        tasks: what to do with what comes, by the names of the tasks.
        queues: what to consume.
        silence: seconds without any message after which `check` tests whether it still consumes.
    """

    def __init__(
        self,
        app: Celery,
        tasks: Mapping[str, Callable[[str], None]],
        queues: Sequence[Queue],
        silence: float = MAX_SILENCE_SECONDS,
    ) -> None:
        self._app = app
        self._test = SelfTest(
            silence=silence,
            ping=self._ping,
            hung=lambda reason, failures: restart(reason, failures=failures),
            failures=failures_before(),
        )
        for name, task in {**tasks, PING_TASK: _do_nothing}.items():
            app.task(name=name)(self._tested(task))
        app.conf.task_queues = list(queues)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="consumer", daemon=True)

    def start(self) -> None:
        """Start consuming."""
        celery_state.should_stop = None
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread, within `timeout` seconds; what was not taken in stays in the queue."""
        self._stopping.set()
        celery_state.should_stop = 0
        self._thread.join(timeout)
        celery_state.should_stop = None

    def check(self) -> float:
        """Test the consumer if it is time for it; return after how many seconds to come again.

        Not for a consumer that serves a worker as well: a run of that is no task of ours, and may last.
        """
        return self._test.step()

    def _tested(self, task: Callable[[str], None]) -> Callable[[str], None]:
        def run(payload: str) -> None:
            with self._test.task():
                task(payload)

        return run

    def _ping(self) -> None:
        self._app.send_task(
            PING_TASK, args=[""], queue=queue_for_controller(), expires=_PING_EXPIRES
        )

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                WorkController(
                    app=self._app,
                    pool_cls="solo",
                    concurrency=1,
                    hostname="controller@local",
                    without_gossip=True,
                    without_mingle=True,
                    without_heartbeat=True,
                ).start()
            except Exception:
                log.exception("the consumer failed, starting it again")
            self._stopping.wait(_RESTART_SECONDS)


def _do_nothing(_payload: str) -> None:
    """The task `controller.ping`: that it was taken is all there is to know."""
