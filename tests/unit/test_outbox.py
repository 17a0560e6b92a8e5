"""What there is to say, until it is said."""

import threading
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from tests.servers import await_true
from worker import outbox as module
from worker.outbox import CAPACITY, Outbox


class Broker:
    """Takes messages while it is there."""

    def __init__(self) -> None:
        self.there = threading.Event()
        self.there.set()
        self.tried = 0
        self.taken: list[tuple[str, str]] = []

    def publish(self, task: str, payload: str) -> None:
        """Take a message, or fail as an absent broker does."""
        self.tried += 1
        if not self.there.is_set():
            raise ConnectionError("nobody there")
        self.taken.append((task, payload))


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def outbox(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outbox]:
    monkeypatch.setattr(module, "_RETRY_SECONDS", (0.001,))
    outbox = Outbox(broker.publish)
    outbox.start()
    yield outbox
    outbox.stop()


def numbered(*numbers: int) -> list[tuple[str, str]]:
    return [("task", str(number)) for number in numbers]


def test_messages_are_sent_in_order(outbox: Outbox, broker: Broker) -> None:
    for message in numbered(*range(10)):
        outbox.put(*message)
    await_true(lambda: len(broker.taken) == 10, "all are sent")
    assert broker.taken == numbered(*range(10))


def test_what_could_not_be_sent_is_sent_when_the_broker_is_back(
    outbox: Outbox, broker: Broker
) -> None:
    broker.there.clear()
    for message in numbered(1, 2):
        outbox.put(*message)
    await_true(lambda: broker.tried > 5, "it is tried again and again")
    assert broker.taken == []
    broker.there.set()
    await_true(lambda: len(broker.taken) == 2, "both are sent")
    assert broker.taken == numbered(1, 2)


def test_a_full_box_drops_its_oldest_and_sends_the_rest_once(
    outbox: Outbox, broker: Broker
) -> None:
    broker.there.clear()
    for message in numbered(*range(CAPACITY + 3)):
        outbox.put(*message)
    broker.there.set()
    await_true(lambda: ("task", str(CAPACITY + 2)) in broker.taken, "the newest is sent")
    assert broker.taken[-CAPACITY:] == numbered(*range(3, CAPACITY + 3))
    assert len(set(broker.taken)) == len(broker.taken)


def test_a_message_that_is_pushed_out_while_it_is_sent_takes_no_other_along() -> None:
    sending, full = threading.Event(), threading.Event()
    taken: list[tuple[str, str]] = []

    def publish(task: str, payload: str) -> None:
        sending.set()
        assert full.wait(20)
        taken.append((task, payload))

    outbox = Outbox(publish)
    outbox.start()
    outbox.put("task", "0")
    assert sending.wait(20)
    for message in numbered(*range(1, CAPACITY + 1)):
        outbox.put(*message)
    full.set()
    outbox.stop(timeout=20.0)
    assert taken == numbered(*range(CAPACITY + 1))


def test_a_stop_sends_what_can_be_sent_first() -> None:
    taken: list[tuple[str, str]] = []

    def publish(task: str, payload: str) -> None:
        await_true(lambda: box._stopping, "the stop was asked for")
        taken.append((task, payload))

    box = Outbox(publish)
    for message in numbered(1, 2, 3):
        box.put(*message)
    box.start()
    box.stop(timeout=20.0)
    assert taken == numbered(1, 2, 3)


def test_a_stop_does_not_wait_for_a_broker_that_is_away(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", (3600.0,))
    broker.there.clear()
    outbox = Outbox(broker.publish)
    outbox.start()
    outbox.put("task", "1")
    await_true(lambda: broker.tried, "it was tried")
    with capture_logs() as logs:
        outbox.stop(timeout=20.0)
    assert not outbox._thread.is_alive()
    assert [each["messages"] for each in logs] == [1], "what is lost with it is said"


def test_it_is_stalled_when_its_thread_has_ended(broker: Broker) -> None:
    outbox = Outbox(broker.publish)
    stalled = [outbox.stalled]
    outbox.start()
    stalled.append(outbox.stalled)
    broker.there.clear()
    outbox.put("task", "1")
    await_true(lambda: broker.tried, "it was tried")
    stalled.append(outbox.stalled)
    outbox.stop()
    assert [*stalled, outbox.stalled] == [True, False, False, True], (
        "an absent broker stalls nothing"
    )
