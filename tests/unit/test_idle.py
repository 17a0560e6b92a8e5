"""Since when a device is idle."""

from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from contract.messages import Stamp
from tests.builders import EPOCH, VNI, addressed, identity, in_sandbox, leaked
from worker.idle import ATTEMPT_SECONDS, LATE_SECONDS, IdleClock
from worker.kernel.model import Device, Identity

BELIEVED_GAP = 15.0


class Time:
    """Two clocks that go on when told to: one that never goes back, and the time of day."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.set_forward = 0.0

    def __call__(self) -> float:
        return self.now

    @property
    def of_day(self) -> datetime:
        """The time of day, which somebody may have set."""
        return EPOCH + timedelta(seconds=self.now + self.set_forward)


class Clock(IdleClock):
    """An idle clock whose answers are one number."""

    def idle_for(self, of: Identity) -> float | None:
        """Return the seconds of idleness; None if it is not idle."""
        idle = self.idle(of)
        return None if idle is None else idle.seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def clock(time: Time) -> Clock:
    return Clock(BELIEVED_GAP, time, lambda: time.of_day)


def test_idle_time_counts_from_the_first_look_that_showed_it(clock: Clock, time: Time) -> None:
    clock.saw([leaked()])
    assert clock.idle_for(leaked().identity) == 0.0
    time.now += 3
    assert clock.idle_for(leaked().identity) == 3.0
    clock.saw([leaked()])
    time.now += 4
    assert clock.idle_for(leaked().identity) == 7.0


def test_what_was_never_seen_is_not_idle(clock: Clock, time: Time) -> None:
    time.now += 100
    assert clock.idle_for(identity()) is None


@pytest.mark.parametrize(
    "between",
    [
        [],
        [leaked()._replace(master=3)],
        [addressed(leaked())],
        [in_sandbox(endpoints=0)],
        [leaked(identity(ifindex=8))],
    ],
    ids=["gone", "enslaved", "addressed", "moved to a sandbox", "recreated with another ifindex"],
)
def test_a_moment_of_anything_else_starts_a_new_grace_period(
    clock: Clock, time: Time, between: list[Device]
) -> None:
    clock.saw([leaked()])
    time.now += 4
    clock.saw(between)
    assert clock.idle_for(leaked().identity) is None
    time.now += 1
    clock.saw([leaked()])
    assert clock.idle_for(leaked().identity) == 0.0


def test_a_recreated_device_of_the_same_name_does_not_inherit_idle_time(
    clock: Clock, time: Time
) -> None:
    recreated = leaked(identity(ifindex=8))
    clock.saw([leaked()])
    time.now += 4
    clock.saw([recreated])
    time.now += 2
    assert clock.idle_for(recreated.identity) == 2.0


@pytest.mark.parametrize(("gap", "idle"), [(BELIEVED_GAP, BELIEVED_GAP), (BELIEVED_GAP + 1, 0.0)])
def test_idleness_is_believed_only_while_looks_lie_close_together(
    clock: Clock, time: Time, gap: float, idle: float
) -> None:
    clock.saw([leaked()])
    time.now += gap
    clock.saw([leaked()])
    assert clock.idle_for(leaked().identity) == idle


def test_a_sandbox_is_idle_from_when_its_last_endpoint_went(clock: Clock, time: Time) -> None:
    clock.saw([in_sandbox(endpoints=1)])
    time.now += 10
    clock.saw([in_sandbox(endpoints=0)])
    time.now += 2
    assert clock.idle_for(in_sandbox(endpoints=0).identity) == 2.0


def test_who_sets_a_leaked_device_up_does_not_bring_it_to_life(clock: Clock, time: Time) -> None:
    clock.saw([leaked()])
    time.now += 4
    clock.saw([addressed(leaked()._replace(up=True), "fe80::1/64")])
    assert clock.idle_for(leaked().identity) == 4.0


@pytest.mark.parametrize(
    ("set_forward", "since"), [(0.0, 0.0), (3600.0, 3600.0), (-3600.0, 0.0)], ids=["", "on", "back"]
)
def test_a_time_of_day_that_was_set_makes_no_idleness_older(
    clock: Clock, time: Time, set_forward: float, since: float
) -> None:
    """What happened before must never look as if it had happened after."""
    clock.saw([leaked()])
    began = time.of_day
    time.now += 5
    time.set_forward = set_forward
    clock.saw([leaked()])
    idle = clock.idle(leaked().identity)
    assert idle is not None
    assert idle.since == began + timedelta(seconds=since)


def test_a_stretch_is_compared_with_moments_of_this_process_alone(clock: Clock, time: Time) -> None:
    before = clock.stamp()
    time.now += 1
    clock.saw([leaked()])
    idle = clock.idle(leaked().identity)
    assert idle is not None
    assert not clock.spans(idle, before)
    assert not clock.spans(idle, clock.stamp()), "the Swarm may have been asked in the same moment"
    time.now += 2
    assert clock.spans(idle, clock.stamp())
    assert clock.spans(idle, clock.stamp(), 1.9)
    assert not clock.spans(idle, clock.stamp(), 2.0)
    assert not clock.spans(idle, Stamp(session=uuid4(), seconds=time.now)), "of another process"
    ahead = clock.stamp().model_copy(update={"seconds": time.now + 1})
    assert not clock.spans(idle, ahead), "it was never said"


def test_a_dead_device_that_is_missed_is_remembered_for_a_while(clock: Clock, time: Time) -> None:
    clock.saw([leaked()])
    time.now += ATTEMPT_SECONDS + 1
    clock.saw([])
    assert clock.went(VNI) == time.of_day
    assert clock.went(VNI + 1) is None
    time.now += LATE_SECONDS
    assert clock.went(VNI) is not None
    time.now += 1
    assert clock.went(VNI) is None


def test_a_time_of_day_that_was_set_forward_makes_its_going_no_older(
    clock: Clock, time: Time
) -> None:
    clock.saw([leaked()])
    time.now += ATTEMPT_SECONDS + 1
    clock.saw([])
    time.now += 5
    time.set_forward = 3600
    clock.saw([])
    assert clock.went(VNI) == time.of_day - timedelta(seconds=5)


def test_what_dockerd_found_in_its_way_is_missed_though_it_was_alive(
    clock: Clock, time: Time
) -> None:
    clock.saw([in_sandbox(endpoints=1)])
    clock.in_the_way(in_sandbox(endpoints=1).identity)
    clock.saw([in_sandbox(endpoints=1)])
    clock.saw([])
    assert clock.went(VNI) is not None


def test_one_that_was_only_moved_is_not_missed(clock: Clock, time: Time) -> None:
    clock.saw([in_sandbox(endpoints=0)])
    time.now += ATTEMPT_SECONDS + 1
    clock.saw([])
    assert clock.went(VNI) is not None
    clock.saw([leaked()])
    assert clock.went(VNI) is None, "it has the same number"


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ([leaked()], [leaked()._replace(master=3)]),
        ([in_sandbox(endpoints=1)], []),
    ],
    ids=["came to life", "was alive"],
)
def test_what_did_not_go_or_was_not_dead_is_not_missed(
    clock: Clock, time: Time, first: list[Device], then: list[Device]
) -> None:
    clock.saw(first)
    time.now += 5
    clock.saw(then)
    assert clock.went(VNI) is None


def test_a_device_that_passes_through_is_not_missed(clock: Clock, time: Time) -> None:
    """A healthy leave shows a device at home for some milliseconds: no dead one was there."""
    clock.saw([leaked()])
    time.now += ATTEMPT_SECONDS / 2
    clock.saw([])
    assert clock.went(VNI) is None


def test_since_when_a_device_is_there_is_known_whatever_it_does(clock: Clock, time: Time) -> None:
    clock.saw([in_sandbox(endpoints=1)])
    since = time.of_day
    time.now += 5
    clock.saw([in_sandbox(endpoints=0)])
    assert clock.seen_since(in_sandbox(endpoints=0).identity) == since
    assert clock.seen_since(identity()) is None


def rejections_from(clock: Clock, device: Device) -> datetime:
    """From when on a rejection can be about a device."""
    idle = clock.idle(device.identity)
    assert idle is not None
    assert clock.seen_since(device.identity) == idle.rejections_from
    return idle.rejections_from


@pytest.mark.parametrize("set_back", [0.5, 3600.0])
@pytest.mark.parametrize("until_set_back", [0.0, 30.0])
def test_a_device_made_after_the_clock_was_set_back_is_younger_than_all_the_clock_showed(
    clock: Clock, time: Time, set_back: float, until_set_back: float
) -> None:
    clock.saw([])
    time.now += until_set_back
    newest = time.of_day
    time.set_forward = -set_back
    time.now += 0.1
    clock.saw([leaked()])
    assert rejections_from(clock, leaked()) >= newest
    idle = clock.idle(leaked().identity)
    assert idle is not None
    assert idle.since == time.of_day, "a person is told the time of day"


def test_a_device_that_was_there_when_the_clock_was_set_back_is_doubtful_as_long(
    clock: Clock, time: Time
) -> None:
    """A rejection of before looks new again when the clock comes to its time."""
    clock.saw([leaked()])
    time.now += 5
    clock.saw([leaked()])
    newest = time.of_day
    time.set_forward = -3600
    clock.saw([leaked()])
    assert rejections_from(clock, leaked()) == newest


def test_after_the_doubtful_hour_a_device_counts_from_its_start(clock: Clock, time: Time) -> None:
    clock.saw([])
    time.set_forward = -10
    clock.saw([])
    time.now += 11
    clock.saw([leaked()])
    assert rejections_from(clock, leaked()) == time.of_day


def test_a_clock_that_nobody_set_makes_nothing_doubtful(clock: Clock, time: Time) -> None:
    clock.saw([leaked()])
    began = time.of_day
    for _ in range(5):
        time.now += 5
        time.set_forward -= 0.001
        clock.saw([leaked()])
    assert rejections_from(clock, leaked()) == began
