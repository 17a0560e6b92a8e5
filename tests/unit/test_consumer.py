"""The controller's consumer: each message once, none that is too late, and none that ends it."""

import math
import threading

import structlog

from contract.queues import HELLO_TASK, REPORT_TASK
from contract.runtime.broker import celery_app, queue_for_controller
from controller.process.consumer import Consumer
from controller.runs import counters


def lost(reason: str) -> float:
    """Messages that this process has lost for a reason."""
    return float(counters.DROPPED.labels(reason)._value.get())


def test_a_late_message_is_dropped_and_a_handler_that_fails_ends_nothing() -> None:
    app = celery_app("controller", "memory://")
    taken: list[object] = []
    done = threading.Event()

    def report(text: object) -> None:
        taken.append(text)
        if text == "bad":
            raise ValueError("a fault of ours")

    consumer = Consumer(
        app,
        {REPORT_TASK: report, HELLO_TASK: lambda _: done.set()},
        [queue_for_controller()],
        silence=math.inf,
    )

    def send(task: str, text: str, expires: float | None = None) -> None:
        app.send_task(task, args=[text], queue=queue_for_controller(), expires=expires)

    send(REPORT_TASK, "late", expires=0)
    send(REPORT_TASK, "bad")
    send(REPORT_TASK, "in time", expires=60)
    send(HELLO_TASK, "the last")
    with structlog.testing.capture_logs() as logs:
        before = {reason: lost(reason) for reason in ("expired", "failed")}
        consumer.start()
        assert done.wait(10)
        consumer.stop()

    assert taken == ["bad", "in time"]
    assert {reason: lost(reason) - was for reason, was in before.items()} == {
        "expired": 1,
        "failed": 1,
    }
    assert [(each["event"], each["task"]) for each in logs if "task" in each] == [
        ("dropped a message that came too late", REPORT_TASK),
        ("a message could not be handled", REPORT_TASK),
    ]
