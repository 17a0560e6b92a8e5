"""Whether a consumer still consumes: what is concluded from pings, answers and silence."""

import threading
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from contract.runtime.selftest import (
    MAX_TASK_SECONDS,
    RECONNECT_SECONDS,
    SelfTest,
)

SILENCE = 20.0
PATIENCE = SILENCE / 4


class Consumer:
    """A queue and its consumer, on a clock that goes on when told to."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.alive = True
        self.broker: Exception | None = None
        self.pinged_at: list[float] = []
        self.restarts: list[tuple[float, str]] = []
        self.test = SelfTest(
            silence=SILENCE,
            ping=self._ping,
            hung=self._hung,
            clock=lambda: self.now,
        )

    def _ping(self) -> None:
        self.pinged_at.append(self.now)
        if self.broker is not None:
            raise self.broker
        if self.alive:
            self.take()

    def _hung(self, reason: str) -> None:
        self.restarts.append((self.now, reason))

    def take(self) -> None:
        """Take a message from the queue."""
        with self.test.task():
            pass

    def live(self, seconds: float, *, traffic: float | None = None) -> None:
        """Let time pass; a message comes every `traffic` seconds."""
        end = self.now + seconds
        next_message = self.now + (traffic or seconds + 1)
        while self.now < end:
            left = self.test.step()
            assert left > 0, "it would be asked without a pause"
            self.now = min(self.now + left, next_message, end)
            if self.now == next_message:
                self.take()
                next_message += traffic or 0.0


def test_a_queue_with_traffic_is_not_pinged() -> None:
    consumer = Consumer()
    consumer.live(1000, traffic=SILENCE - 1)
    assert consumer.pinged_at == []
    assert consumer.test.passed


def test_a_quiet_queue_is_pinged_and_a_living_consumer_passes() -> None:
    consumer = Consumer()
    consumer.live(1000)
    assert len(consumer.pinged_at) == pytest.approx(1000 / SILENCE, abs=2)
    assert consumer.restarts == []
    assert consumer.test.passed


def test_a_consumer_that_takes_neither_ping_hangs() -> None:
    consumer = Consumer()
    consumer.alive = False
    consumer.live(SILENCE + 2 * PATIENCE)
    assert consumer.restarts == []
    assert not consumer.test.passed
    consumer.live(0.1)
    ((at, reason),) = consumer.restarts
    assert at == 1000 + SILENCE + 2 * PATIENCE
    assert "taken nothing for 30 s" in reason


def test_one_lost_ping_proves_nothing() -> None:
    consumer = Consumer()
    consumer.alive = False
    consumer.live(SILENCE + 1)
    assert len(consumer.pinged_at) == 1
    consumer.alive = True
    consumer.live(1000)
    assert consumer.restarts == []


def test_whatever_is_taken_is_an_answer() -> None:
    consumer = Consumer()
    consumer.alive = False
    consumer.live(1000, traffic=SILENCE + PATIENCE + 1)
    assert consumer.restarts == []


def test_a_ping_that_cannot_be_sent_proves_nothing() -> None:
    consumer = Consumer()
    consumer.alive = False
    consumer.broker = ConnectionError("nobody there")
    consumer.live(10_000)
    assert consumer.restarts == []
    assert not consumer.test.passed


def test_after_an_outage_the_consumer_has_the_time_to_find_the_broker_again() -> None:
    consumer = Consumer()
    consumer.alive = False
    consumer.live(SILENCE + 1)
    consumer.broker = ConnectionError("nobody there")
    consumer.live(PATIENCE)
    consumer.broker = None
    back = consumer.now
    consumer.live(60)
    assert consumer.restarts[0][0] - back >= RECONNECT_SECONDS + PATIENCE


def test_what_the_broker_answers_is_told_and_each_change_is_logged_once() -> None:
    consumer = Consumer()
    with capture_logs() as logs:
        consumer.broker = ConnectionError("nobody there")
        consumer.live(1000)
        told = [consumer.test.broker_error]
        consumer.broker = TimeoutError("late")
        consumer.live(1000)
        told.append(consumer.test.broker_error)
        consumer.broker = None
        consumer.live(1000)
        told.append(consumer.test.broker_error)
    assert told == ["nobody there", "late", None]
    assert [each["event"] for each in logs] == [
        "the broker takes no messages",
        "the broker takes messages again",
    ]


def test_an_error_without_words_is_told_by_its_kind() -> None:
    consumer = Consumer()
    consumer.broker = TimeoutError()
    consumer.live(SILENCE + 1)
    assert consumer.test.broker_error == "TimeoutError"


def test_a_message_taken_proves_the_broker_too() -> None:
    consumer = Consumer()
    consumer.broker = ConnectionError("nobody there")
    consumer.live(SILENCE + 1)
    consumer.take()
    assert consumer.test.broker_error is None


def test_a_long_task_is_no_hang_and_an_endless_one_is() -> None:
    consumer = Consumer()
    with consumer.test.task():
        consumer.live(MAX_TASK_SECONDS)
        assert consumer.pinged_at == []
        assert consumer.restarts == []
        consumer.live(1)
    ((_, reason),) = consumer.restarts
    assert "a task has not ended for 300 s" in reason


def test_a_hang_that_follows_a_task_is_noticed_though_it_was_looked_at_during_the_task() -> None:
    consumer = Consumer()
    with consumer.test.task():
        left = consumer.test.step()
    assert left <= SILENCE, "that of an endless task"
    consumer.alive = False
    consumer.now += left
    consumer.live(2 * PATIENCE + 1)
    assert len(consumer.restarts) == 1


def test_a_task_that_fails_is_an_answer_too() -> None:
    consumer = Consumer()
    with suppress(ZeroDivisionError), consumer.test.task():
        consumer.now += SILENCE
        raise ZeroDivisionError
    consumer.live(SILENCE - 1)
    assert consumer.pinged_at == []


def test_no_task_begins_while_it_is_at_work_on_a_hang() -> None:
    began = threading.Event()
    early: list[bool] = []

    def task() -> None:
        with test.task():
            began.set()

    def hung(_reason: str) -> None:
        thread.start()
        early.append(began.wait(0.2))

    clock = [0.0]
    test = SelfTest(silence=1.0, ping=_nothing, hung=hung, clock=lambda: clock[0])
    thread = threading.Thread(target=task)
    for _ in range(3):
        clock[0] += 10
        test.step()
    assert early == [False]
    thread.join(60)
    assert began.is_set()


def _nothing() -> None:
    pass
