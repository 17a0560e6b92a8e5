"""What is let in from Redis: what our own sides send, and nothing else."""

import json
import threading
from collections.abc import Callable, Iterator, MutableMapping
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import pytest
from kombu import Queue
from kombu.transport import memory
from structlog.testing import capture_logs

from contract.messages import MAX_DEVICES, ReconcileReport
from contract.queues import (
    CONTROLLER_QUEUE,
    HELLO_TASK,
    PING_TASK,
    RECONCILE_TASK,
    REPORT_TASK,
    node_queue,
)
from contract.runtime.broker import MEMORY_BROKER, celery_app
from contract.runtime.refusals import Refusals
from contract.runtime.transport import checked
from contract.signing.bounds import BOUNDS, MAX_MESSAGE_BYTES
from contract.signing.envelope import MARK
from contract.signing.refusals import Reason, RefusedError
from contract.verdicts import Verdict
from tests import garbage, reports
from tests.garbage import arguments, message
from tests.signed import message_text

SEALED = arguments(f"{MARK}x")


def seen(raw: bytes, queue: str = CONTROLLER_QUEUE) -> Any:
    """What kombu gets to see of a message."""
    return checked(raw, queue)


@pytest.mark.parametrize(
    "kind", [garbage.odd_messages, garbage.compressed, garbage.blown_up, garbage.too_long]
)
def test_what_neither_side_would_send_is_refused(kind: Callable[[str], Iterator[bytes]]) -> None:
    for raw in chain(garbage.no_messages(), kind(REPORT_TASK)):
        with pytest.raises(RefusedError) as refused:
            checked(raw, CONTROLLER_QUEUE)
        assert len(str(refused.value)) < 300, "a log line has no room for what others wrote"


def test_nothing_of_the_envelope_but_what_counts_gets_through() -> None:
    for raw in garbage.harmless_messages(REPORT_TASK):
        got = seen(raw)
        tag = got["properties"].pop("delivery_tag")
        assert got == seen(message(SEALED, task=REPORT_TASK)) | {
            "properties": {
                "body_encoding": "base64",
                "delivery_info": {"exchange": "", "routing_key": CONTROLLER_QUEUE},
            }
        }
        assert tag != seen(raw)["properties"]["delivery_tag"]


@pytest.mark.parametrize(
    ("task", "queue", "good"),
    [
        (REPORT_TASK, CONTROLLER_QUEUE, True),
        (PING_TASK, CONTROLLER_QUEUE, True),
        (RECONCILE_TASK, node_queue("one"), True),
        (RECONCILE_TASK, CONTROLLER_QUEUE, False),
        (REPORT_TASK, node_queue("one"), False),
    ],
)
def test_a_task_is_taken_from_its_own_queue(task: str, queue: str, good: bool) -> None:
    raw = message(arguments() if task == PING_TASK else SEALED, task=task)
    if good:
        assert seen(raw, queue)["headers"]["task"] == task
    else:
        with pytest.raises(RefusedError):
            checked(raw, queue)


@pytest.mark.parametrize(
    ("given", "task", "reason"),
    [
        ((), REPORT_TASK, Reason.UNSIGNED),
        (({"version": 1},), REPORT_TASK, Reason.UNSIGNED),
        ((["vxs1.x"],), REPORT_TASK, Reason.UNSIGNED),
        (("{}",), REPORT_TASK, Reason.UNSIGNED),
        ((MARK + "x" * BOUNDS[HELLO_TASK].size,), HELLO_TASK, Reason.TOO_LARGE),
        (("x",), PING_TASK, Reason.MALFORMED),
        ((f"{MARK}x", "x"), REPORT_TASK, Reason.MALFORMED),
    ],
)
def test_nothing_unsigned_is_let_in(given: tuple[object, ...], task: str, reason: Reason) -> None:
    with pytest.raises(RefusedError) as refused:
        checked(message(arguments(*given), task=task), CONTROLLER_QUEUE)
    assert refused.value.reason is reason


def test_the_time_after_which_a_message_is_worth_nothing_is_kept() -> None:
    at = datetime.now(UTC) + timedelta(minutes=5)
    raw = message(SEALED, task=REPORT_TASK, headers={"expires": at.isoformat()})
    assert datetime.fromisoformat(seen(raw)["headers"]["expires"]) == at


def test_the_largest_report_gets_through() -> None:
    device = reports.device(verdict=Verdict.ORPHAN).model_copy(
        update={"reason": "x" * 500, "evidence": "a, " * 10}
    )
    report: ReconcileReport = reports.report(devices=[device] * MAX_DEVICES)
    raw = message(arguments(message_text(REPORT_TASK, report)), task=REPORT_TASK)
    assert len(raw) > MAX_MESSAGE_BYTES / 2
    assert seen(raw)["body"] == json.loads(raw)["body"]


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+socket"])
def test_all_redis_urls_are_checked(scheme: str) -> None:
    connection = celery_app("test", f"{scheme}:///127.0.0.1").connection_for_read()
    for each in (connection, connection.clone()):
        assert each.get_transport_cls().__module__ == "contract.runtime.transport"


def test_memory_needs_no_check() -> None:
    connection = celery_app("test", MEMORY_BROKER).connection_for_read()
    assert connection.get_transport_cls().driver_type == "memory"


def test_a_consumer_in_memory_waits_for_a_message_and_looks_for_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = celery_app("test", MEMORY_BROKER)
    queue = Queue("memory test")
    looks = 0
    taken: list[object] = []
    waits = threading.Event()
    get = memory.Channel._get

    def counting(self: memory.Channel, *arguments: Any, **options: Any) -> Any:
        nonlocal looks
        looks += 1
        waits.set()
        return get(self, *arguments, **options)

    monkeypatch.setattr(memory.Channel, "_get", counting)
    with (
        app.connection_for_read() as reading,
        app.connection_for_write() as writing,
        reading.Consumer(queue, callbacks=[lambda body, _: taken.append(body)], no_ack=True),
    ):
        with pytest.raises(TimeoutError):
            reading.drain_events(timeout=0.3)
        assert looks == 1
        waits.clear()
        waiting = threading.Thread(target=reading.drain_events, kwargs={"timeout": 60.0})
        waiting.start()
        assert waits.wait(60)
        writing.Producer().publish("come", routing_key=queue.name, serializer="json")
        waiting.join(60)
    assert taken == ["come"]


def test_any_number_of_refusals_is_told_in_few_lines() -> None:
    now = 0.0
    refusals = Refusals(lambda: now)
    with capture_logs() as said:
        for _ in range(1_000):
            refusals.add(RefusedError(Reason.UNSIGNED, "so it is", "0123456789abcdef"))
        now = 10.0
        refusals.flush()
        refusals.flush()
        now = 100.0
        refusals.flush()
        refusals.add(RefusedError(Reason.UNSIGNED, "so it is"))
        refusals.add(RefusedError(Reason.UNSIGNED, "so it is"))
        refusals.flush(last=True)
    assert counts(said) == [1, 999, 1, 1], "also what waits for its line when the process ends"
    assert said[0]["newest_because"] == "so it is"
    assert said[0]["key"] == "0123456789abcdef"
    assert refusals.counts == {Reason.UNSIGNED: 1_002}
    assert refusals.newest is not None


def counts(said: list[MutableMapping[str, Any]]) -> list[int]:
    """How many refusals each line tells of."""
    return [line["count"] for line in said]
