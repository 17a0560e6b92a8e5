"""Since when a device carries nothing."""

import pytest

from tests.builders import addressed, identity, in_sandbox, leaked
from worker.idle import IdleClock
from worker.view import Device

BELIEVED_GAP = 15.0


class Time:
    """A clock that goes on when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def clock(time: Time) -> IdleClock:
    return IdleClock(BELIEVED_GAP, time)


def test_idle_time_counts_from_the_first_look_that_showed_it(clock: IdleClock, time: Time) -> None:
    clock.saw([leaked()])
    assert clock.idle_for(leaked().identity) == 0.0
    time.now += 3
    assert clock.idle_for(leaked().identity) == 3.0
    clock.saw([leaked()])
    time.now += 4
    assert clock.idle_for(leaked().identity) == 7.0


def test_what_was_never_seen_is_not_idle(clock: IdleClock, time: Time) -> None:
    time.now += 100
    assert clock.idle_for(identity()) == 0.0


@pytest.mark.parametrize(
    "between",
    [
        [],
        [leaked()._replace(up=True)],
        [addressed(leaked())],
        [in_sandbox(endpoints=0)],
        [leaked(identity(ifindex=8))],
    ],
    ids=["gone", "UP", "addressed", "moved to a sandbox", "recreated with another ifindex"],
)
def test_a_moment_of_anything_else_starts_a_new_grace_period(
    clock: IdleClock, time: Time, between: list[Device]
) -> None:
    clock.saw([leaked()])
    time.now += 4
    clock.saw(between)
    assert clock.idle_for(leaked().identity) == 0.0
    time.now += 1
    clock.saw([leaked()])
    assert clock.idle_for(leaked().identity) == 0.0


def test_a_recreated_device_of_the_same_name_does_not_inherit_idle_time(
    clock: IdleClock, time: Time
) -> None:
    recreated = leaked(identity(ifindex=8))
    clock.saw([leaked()])
    time.now += 4
    clock.saw([recreated])
    time.now += 2
    assert clock.idle_for(recreated.identity) == 2.0


@pytest.mark.parametrize(("gap", "idle"), [(BELIEVED_GAP, BELIEVED_GAP), (BELIEVED_GAP + 1, 0.0)])
def test_idleness_is_believed_only_while_looks_lie_close_together(
    clock: IdleClock, time: Time, gap: float, idle: float
) -> None:
    clock.saw([leaked()])
    time.now += gap
    clock.saw([leaked()])
    assert clock.idle_for(leaked().identity) == idle


def test_a_sandbox_is_idle_from_when_its_last_endpoint_went(clock: IdleClock, time: Time) -> None:
    clock.saw([in_sandbox(endpoints=1)])
    time.now += 10
    clock.saw([in_sandbox(endpoints=0)])
    time.now += 2
    assert clock.idle_for(in_sandbox(endpoints=0).identity) == 2.0
