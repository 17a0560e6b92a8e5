"""What the link watch concludes from its looks; that it hears the kernel is for tests/integration."""

import errno
import threading
from collections.abc import Sequence
from itertools import pairwise

import pytest

from tests.builders import PORT, identity, in_sandbox, leaked
from tests.fake_kernel import FakeKernel
from tests.servers import await_true
from worker import watch as module
from worker.idle import IdleClock
from worker.kernel.model import Device, Identity, View
from worker.watch import SETTLED_SECONDS, LinkWatch, shown_by

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


class Reported(Watched):
    """A watch that knows what the last report showed, and how it said that the devices differ."""

    def __init__(self, time: Time, *devices: Device) -> None:
        super().__init__(time, *devices)
        self.time = time
        self.changes: list[tuple[float, str]] = []
        self.watch.changed = lambda how: self.changes.append((time.now, how))
        self.watch.look()
        self.report()

    def report(self) -> None:
        """Let a run report what is there."""
        self.watch.reported(shown_by(self.kernel.devices()))

    def show(self, *devices: Device) -> None:
        """Have these devices, and no others."""
        for device in self.kernel.devices():
            self.kernel.vanish(device.identity.netns, device.identity.ifindex)
        for device in devices:
            self.kernel.put(device)

    def go_on(self, seconds: float) -> None:
        """Look whenever the watch wants to, for so long."""
        end = self.time.now + seconds
        while self.time.now < end:
            self.time.now = min(self.time.now + self.watch.look(), end)


FOREIGN = leaked(identity(name="vxlan.calico"))


def test_devices_that_differ_from_the_report_are_told_once_they_have_settled(time: Time) -> None:
    watched = Reported(time, FOREIGN)
    began = time.now
    watched.go_on(100)
    assert watched.changes == [], "the report shows it"
    watched.show()
    watched.go_on(SETTLED_SECONDS - 0.1)
    assert watched.changes == []
    watched.go_on(4)
    ((at, how),) = watched.changes
    assert at == pytest.approx(began + 100 + SETTLED_SECONDS)
    assert how == "gone: vxlan.calico in host"
    watched.report()
    watched.go_on(200)
    assert len(watched.changes) == 1


def test_a_difference_that_no_report_takes_in_is_told_again_ever_more_seldom(time: Time) -> None:
    watched = Reported(time)
    watched.show(in_sandbox(endpoints=1))
    watched.go_on(200)
    pauses = [later - sooner for (sooner, _), (later, _) in pairwise(watched.changes)]
    assert pauses[:3] == [pytest.approx(5), pytest.approx(15), pytest.approx(60)]
    assert {how for _, how in watched.changes} == {"new: vxlan0 in nsid:4"}


def test_a_device_that_is_in_use_again_is_told(time: Time) -> None:
    watched = Reported(time, in_sandbox(endpoints=0))
    watched.show(in_sandbox(endpoints=1))
    watched.go_on(3)
    ((_, how),) = watched.changes
    assert how == "idle or in use again: vxlan0 in nsid:4"


def test_a_storm_of_changes_leads_to_a_few_hints_a_minute(time: Time) -> None:
    watched = Reported(time)
    began = time.now
    for number in range(1, 1_201):
        watched.show(leaked(identity(ifindex=number, name=f"vxlan.{number}")))
        watched.go_on(0.5)
    assert time.now - began == pytest.approx(600)
    assert 600 / 15 <= len(watched.changes) <= 600 / 15 + 4


def test_before_the_first_report_there_is_nothing_to_differ_from(time: Time) -> None:
    watched = Watched(time, FOREIGN)
    changes: list[str] = []
    watched.watch.changed = changes.append
    for _ in range(20):
        time.now += watched.watch.look()
    assert changes == []


def test_after_a_report_of_no_devices_it_waits_for_a_time_that_poll_takes(time: Time) -> None:
    watched = Watched(time)
    watched.watch.reported(shown_by([]))
    assert 0 < watched.watch.look() <= 3600


def test_a_watch_that_hangs_is_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STALLED_SECONDS", 0.0)
    kernel, answers = FakeKernel(), threading.Event()
    look = kernel.look

    def hanging() -> View:
        assert answers.wait(60)
        return look()

    monkeypatch.setattr(kernel, "look", hanging)
    watch = LinkWatch(
        kernel=kernel,
        clock=IdleClock(GRACE + 10),
        hint_after=GRACE,
        data_path_port=lambda: PORT,
        drift=lambda _: None,
    )
    assert watch.stalled, "it was not started"
    watch.start()
    try:
        await_true(lambda: watch.stalled, "the look takes too long")
        answers.set()
        await_true(lambda: not watch.stalled, "it waits for events")
    finally:
        answers.set()
        watch.stop()
    assert watch.stalled, "it has ended"
