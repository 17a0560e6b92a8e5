"""The thread that consumes queue `controller` (and in `vxctl up` the node's queue as well)."""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from celery import Celery
from celery.worker import state as celery_state
from kombu import Queue

from contract.queues import PING_TASK
from contract.runtime.broker import queue_for_controller
from contract.runtime.consumer import at_once, consume, stop_consuming
from contract.runtime.restart import exit_for_restart
from contract.runtime.selftest import SelfTest
from controller.runs import counters

_PING_EXPIRES_SECONDS: Final = 60.0


class Consumer:
    """Runs a Celery consumer in a thread; one per process, because Celery's stop flag is global.

    Args:
        tasks: handlers of the messages, by task name.
        silence: seconds without any message after which `check` tests whether it still consumes.
    """

    def __init__(
        self,
        app: Celery,
        tasks: Mapping[str, Callable[[object], None]],
        queues: Sequence[Queue],
        silence: float,
    ) -> None:
        self._app = app
        self._test = SelfTest(silence=silence, ping=self._ping, hung=exit_for_restart)
        strategy = staticmethod(partial(at_once, counters.count_dropped))
        for name, task in tasks.items():
            app.task(name=name, Strategy=strategy)(self._tested(task))
        app.task(name=PING_TASK, Strategy=strategy)(self._tested(_pong))
        app.conf.task_queues = list(queues)
        self._thread = threading.Thread(
            target=consume, args=(app, "controller@local"), name="consumer", daemon=True
        )

    def start(self) -> None:
        """Start consuming."""
        celery_state.should_stop = None
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread, within `timeout` seconds; messages not yet taken stay in the queue."""
        stop_consuming()
        self._thread.join(timeout)

    def check(self) -> float:
        """Test the consumer if it is time to; return the seconds until the next call.

        Not for a consumer that also serves a worker: its runs are no tasks of ours, and may last.
        """
        return self._test.step()

    def _tested(self, task: Callable[..., None]) -> Callable[..., None]:
        def run(*arguments: object) -> None:
            with self._test.task():
                task(*arguments)

        return run

    def _ping(self) -> None:
        self._app.send_task(PING_TASK, queue=queue_for_controller(), expires=_PING_EXPIRES_SECONDS)


def _pong() -> None:
    """Take a ping: that it arrived is all."""
