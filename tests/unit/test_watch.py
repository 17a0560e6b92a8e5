"""What the link watch concludes from its looks; that it hears the kernel is for tests/integration."""

import errno
from collections.abc import Sequence
from itertools import pairwise

import pytest

from tests.builders import PORT, identity, in_sandbox, leaked
from tests.fake_kernel import FakeKernel
from worker import watch as module
from worker.idle import IdleClock
from worker.kernel.model import Device, Identity
from worker.watch import LinkWatch

GRACE = 5.0


class Time:
    """Stands for the module `time`: goes on when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(module, "time", time)
    return time


class Watched:
    """A watch on a fake kernel, looked through by hand, and the hints it sent."""

    def __init__(self, time: Time, *devices: Device) -> None:
        self.kernel = FakeKernel(devices)
        self.hints: list[Sequence[Identity]] = []
        self.port = PORT
        self.watch = LinkWatch(
            kernel=self.kernel,
            clock=IdleClock(GRACE + 10, time.monotonic),
            hint_after=GRACE,
            data_path_port=lambda: self.port,
            drift=self.hints.append,
        )


def test_a_device_that_outstays_the_grace_period_is_told_once(time: Time) -> None:
    watched = Watched(time, leaked())
    wait = watched.watch.look()
    assert watched.hints == []
    assert wait == GRACE, "looks again just when the grace period ends"
    time.now += wait
    watched.watch.look()
    assert watched.hints == [[leaked().identity]]
    time.now += 1
    watched.watch.look()
    assert len(watched.hints) == 1


@pytest.mark.parametrize(
    "device",
    [in_sandbox(endpoints=1), leaked(identity(name="vx-submariner")), leaked(identity(port=8472))],
    ids=["in use", "foreign", "another port"],
)
def test_what_is_no_orphan_is_never_told(time: Time, device: Device) -> None:
    watched = Watched(time, device)
    for _ in range(5):
        time.now += watched.watch.look()
    assert watched.hints == []


def test_it_goes_by_the_swarms_port_as_soon_as_that_is_known(time: Time) -> None:
    watched = Watched(time, leaked(identity(port=7789)))
    watched.watch.look()
    watched.port = 7789
    time.now += GRACE
    watched.watch.look()
    assert len(watched.hints) == 1


def test_a_device_that_goes_in_time_is_not_told(time: Time) -> None:
    watched = Watched(time, leaked())
    wait = watched.watch.look()
    watched.kernel.vanish(*leaked().identity[:2])
    time.now += wait
    watched.watch.look()
    assert watched.hints == []


def test_a_new_one_is_told_at_once_with_those_that_stay(time: Time) -> None:
    watched = Watched(time, leaked())
    watched.watch.look()
    time.now += GRACE
    watched.watch.look()
    new = leaked(identity(ifindex=8))
    watched.kernel.put(new)
    time.now += watched.watch.look()
    time.now += GRACE
    watched.watch.look()
    assert [set(hint) for hint in watched.hints[:1]] == [{leaked().identity}]
    assert set(watched.hints[-1]) == {leaked().identity, new.identity}


def test_what_stays_is_told_again_ever_more_seldom(time: Time) -> None:
    watched = Watched(time, leaked())
    told_at: list[float] = []
    begin = time.now
    while time.now < begin + 300:
        before = len(watched.hints)
        wait = watched.watch.look()
        told_at += [time.now] * (len(watched.hints) - before)
        time.now += min(wait, 1.0)
    gaps = [later - earlier for earlier, later in pairwise(told_at)]
    assert gaps[:2] == [5.0, 15.0]
    assert set(gaps[2:]) == {60.0}


def test_one_that_comes_back_is_told_again_sooner_than_one_that_stays(time: Time) -> None:
    watched = Watched(time, leaked())
    for _ in range(3):
        watched.watch.look()
        time.now += GRACE
    assert len(watched.hints) == 2, "the next would follow after 15 seconds"
    watched.kernel.vanish(*leaked().identity[:2])
    watched.watch.look()
    watched.kernel.put(leaked())
    watched.watch.look()
    time.now += GRACE
    watched.watch.look()
    assert len(watched.hints) == 3


def test_while_something_is_told_the_idle_clock_goes_on_believing(time: Time) -> None:
    watched = Watched(time, leaked())
    watched.watch.look()
    time.now += GRACE
    assert watched.watch.look() <= GRACE + 10


@pytest.mark.parametrize("code", [errno.EINTR, errno.EPERM])
def test_a_look_that_fails_tells_nothing_and_is_tried_again(time: Time, code: int) -> None:
    watched = Watched(time, leaked())
    watched.kernel.refuse("look", code)
    wait = watched.watch.look()
    assert 0 < wait < GRACE
    time.now += wait
    assert watched.watch.look() == GRACE
