"""When the Swarm was read for a node, told by what its worker had said before."""

from uuid import UUID

import pytest

from contract.messages import Stamp, SwarmReading
from controller.swarm.events import Hint, Hints
from controller.swarm.readings import Readings


class Time:
    """Seconds that go on when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def readings(time: Time) -> Readings:
    return Readings(now=time)


def stamp(seconds: float, session: int = 1) -> Stamp:
    return Stamp(session=UUID(int=session), seconds=seconds)


def test_of_a_node_that_was_never_read_nothing_is_told(readings: Readings) -> None:
    readings.add_stamp("one", stamp(1.0))
    assert readings.newest("one") == SwarmReading()


def test_a_reading_is_after_what_was_heard_before_it_began(readings: Readings) -> None:
    readings.add_stamp("one", stamp(1.0))
    mark = readings.begin()
    readings.add_stamp("one", stamp(2.0))
    readings.add_stamp("two", stamp(9.0))
    readings.end(mark, {"one": True, "two": True})
    assert readings.newest("one").after == stamp(1.0), "heard while the manager answered"
    assert readings.newest("two").after is None
    readings.end(readings.begin(), {"one": True})
    assert readings.newest("one").after == stamp(2.0)


def test_a_reading_that_was_not_stored_counts_for_nothing(readings: Readings) -> None:
    readings.add_stamp("one", stamp(1.0))
    readings.begin()
    assert readings.newest("one").after is None


def test_the_last_stamp_counts_whatever_was_forged_before(readings: Readings) -> None:
    for said in (stamp(1e11), stamp(5.0)):
        readings.add_stamp("one", said)
    readings.end(readings.begin(), {"one": True})
    assert readings.newest("one").after == stamp(5.0)


def test_ready_counts_from_the_first_reading_of_a_row_that_all_say_so(
    readings: Readings, time: Time
) -> None:
    told = []
    for is_ready in (True, True, True, False, True, True):
        readings.end(readings.begin(), {"one": is_ready})
        told.append(readings.newest("one").ready_seconds)
        time.now += 10
    assert told == [0.0, 10.0, 20.0, None, 0.0, 10.0]


def test_who_waits_for_a_reading_is_named_once_it_was_read(time: Time) -> None:
    hints = Hints()
    hints.take()
    readings = Readings(hints, time)
    mark = readings.begin()
    readings.add_stamp("one", stamp(1.0))
    readings.request("one", then_run=True)
    readings.request("two", then_run=False)
    assert hints.take() == Hint(nodes=frozenset({"one", "two"}))
    assert readings.end(mark, {"one": True, "two": True}) == set(), "it began before"
    assert readings.end(readings.begin(), {"one": True, "two": True}) == {"one"}
    assert readings.end(readings.begin(), {"one": True, "two": True}) == set()


def test_a_node_that_asks_again_and_again_gets_a_run_a_second(
    readings: Readings, time: Time
) -> None:
    """Two workers of one node never agree on what was read after what."""
    named = 0
    for _ in range(20):
        readings.add_stamp("one", stamp(time.now))
        readings.request("one", then_run=True)
        named += len(readings.end(readings.begin(), {"one": True}))
        time.now += 0.25
    assert named == 5


def test_a_node_that_is_gone_is_forgotten(readings: Readings) -> None:
    for node in ("one", "two"):
        readings.add_stamp(node, stamp(1.0))
    readings.end(readings.begin(), {"one": True, "two": True})
    readings.keep_only(["two"])
    assert readings.newest("one") == SwarmReading()
    assert readings.newest("two").after == stamp(1.0)
