"""What proves a device dead, what does not, and what is said to be waited for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from contract.messages import NetworkRef, Rejection, Stamp, SwarmReading
from contract.verdicts import Proof
from tests.builders import (
    EPOCH,
    PORT,
    VNI,
    addressed,
    in_sandbox,
    leaked,
    network,
    rejection,
)
from worker.idle import ATTEMPT_SECONDS, LATE_SECONDS, Idle, IdleClock
from worker.kernel.model import Device, Identity, VethPair
from worker.networks import Networks
from worker.proof import JOIN_PAUSE_SECONDS, REJECTION_SECONDS, Finding, RequestProver, Waits

GRACE, SANDBOX_GRACE, UNCLAIMED = 5.0, 8.0, 300.0
OURS, OTHERS = UUID(int=1), UUID(int=2)
NOW = EPOCH + timedelta(hours=1)
CLOCK = 1e7
"""What the worker's own clock shows."""
PAIR = VethPair("veth1234567", "veth89abcde", (11, 12))


@dataclass
class Clock(IdleClock):
    """All devices have been idle for this time."""

    seconds: float | None = 60.0
    missed: float | None = None
    """How many seconds ago another dead device of the VNI was missed."""
    set_back: float = 0.0
    """Seconds by which the time of day was set back just before it went idle."""

    def idle(self, identity: Identity) -> Idle | None:
        if self.seconds is None:
            return None
        since = NOW - timedelta(seconds=self.seconds)
        return Idle(
            self.seconds, CLOCK - self.seconds, since, since + timedelta(seconds=self.set_back)
        )

    def went(self, vni: int) -> datetime | None:
        return None if self.missed is None else NOW - timedelta(seconds=self.missed)

    def spans(self, idle: Idle, stamp: Stamp, seconds: float = 0.0) -> bool:
        return stamp.session == OURS and stamp.seconds - idle.began > seconds


def read(ago: float, *, session: UUID = OURS, ready: float | None = 1e6) -> SwarmReading:
    """The Swarm was read so many seconds ago, as far as the worker can tell."""
    return SwarmReading(after=Stamp(session=session, seconds=CLOCK - ago), ready_seconds=ready)


def rejected(ago: float, *, vni: int | None = VNI, doubt: str | None = None) -> Rejection:
    """A task was rejected so many seconds ago."""
    return rejection(NOW - timedelta(seconds=ago), vni=vni, doubt=doubt)


def prove(
    device: Device = leaked(),  # noqa: B008 -- a value
    *,
    clock: Clock | None = None,
    reading: SwarmReading = read(1.0),  # noqa: B008 -- a value
    rejections: Sequence[Rejection] = (),
    joins: Mapping[VethPair, float] | None = None,
    desired: Sequence[NetworkRef] = (),
    known: Sequence[NetworkRef] = (),
    waits: Waits = Waits(grace=GRACE, sandbox_grace=SANDBOX_GRACE, unclaimed=UNCLAIMED),  # noqa: B008
) -> Finding:
    prover = RequestProver(
        clock=clock or Clock(),
        waits=waits,
        reading=reading,
        rejections=rejections,
        joins=joins or {},
        now=NOW,
    )
    return prover(device, Networks.of(desired, known, PORT))


# Nothing but time.


@pytest.mark.parametrize("device", [leaked(), in_sandbox(endpoints=0)], ids=["host", "sandbox"])
@pytest.mark.parametrize("desired", [(), (network(),)], ids=["unwanted", "wanted"])
def test_time_alone_proves_nothing(device: Device, desired: tuple[NetworkRef, ...]) -> None:
    clock = Clock(1e6)
    for reading in (SwarmReading(), read(0.0, session=OTHERS), read(1e6 + 1)):
        assert prove(device, clock=clock, reading=reading, desired=desired).proof is None


def test_what_carried_something_at_the_last_look_is_not_proved() -> None:
    assert prove(clock=Clock(None), rejections=[rejected(0.1)]).proof is None


# Rejected.


@pytest.mark.parametrize("device", [leaked(), in_sandbox(endpoints=0)], ids=["host", "sandbox"])
def test_a_rejection_after_it_went_idle_proves_it_dead_at_once(device: Device) -> None:
    clock = Clock(ATTEMPT_SECONDS + 0.5)
    found = prove(
        device, clock=clock, desired=[network()], reading=SwarmReading(), rejections=[rejected(0.4)]
    )
    assert found.proof is Proof.REJECTED
    assert "task t000000000000000000000000 was rejected because of it at" in found.reason


@pytest.mark.parametrize(
    ("clock", "rejection", "reason"),
    [
        (Clock(5.0), rejected(5.0 - ATTEMPT_SECONDS), "known to be idle only since"),
        (Clock(5.0), rejected(6.0), "known to be idle only since"),
        (Clock(200.0), rejected(REJECTION_SECONDS + 1), "it is old"),
        (Clock(), rejected(-0.1), "dated in the future"),
        (Clock(), rejected(1.0, doubt="two subnets"), "two subnets"),
        (Clock(), rejected(1.0, vni=None, doubt="no such subnet"), "no such subnet"),
        (Clock(200.0, missed=30.0), rejected(1.0), "it may be about another device"),
        (
            Clock(50.0, set_back=49.0),
            rejected(1.0),
            "this node's clock was set back: it had already",
        ),
    ],
    ids=[
        "as it went idle",
        "before that",
        "long ago",
        "in the future",
        "in doubt",
        "of no VNI",
        "soon after another device went",
        "by a clock that was set back",
    ],
)
def test_a_rejection_that_may_be_about_something_else_proves_nothing(
    clock: Clock, rejection: Rejection, reason: str
) -> None:
    found = prove(clock=clock, desired=[network()], rejections=[rejection])
    assert found.proof is not Proof.REJECTED
    assert reason in found.reason


def test_long_after_another_device_went_a_rejection_proves_again() -> None:
    clock = Clock(1e4, missed=LATE_SECONDS + 1.5)
    assert (
        prove(clock=clock, desired=[network()], rejections=[rejected(1.0)]).proof is Proof.REJECTED
    )


def test_a_rejection_because_of_another_vni_is_not_even_spoken_of() -> None:
    found = prove(desired=[network()], rejections=[rejected(1.0, vni=VNI + 1)])
    assert found.proof is None
    assert "rejected because of it at" not in found.reason
    assert "proves nothing" not in found.reason


def test_where_two_networks_have_the_vni_a_rejection_proves_nothing() -> None:
    found = prove(
        desired=[network()],
        known=[network(name="twin", prefix="twin0")],
        rejections=[rejected(1.0)],
    )
    assert found.proof is None
    assert f"two networks have VNI {VNI}" in found.reason


def test_one_good_rejection_among_others_is_enough() -> None:
    rejections = [rejected(-5.0), rejected(1.0, doubt="x"), rejected(2.0), rejected(70.0)]
    assert prove(desired=[network()], rejections=rejections).proof is Proof.REJECTED


@pytest.mark.parametrize(
    ("device", "seconds", "proved"),
    [
        (leaked(), 0.0, True),
        (in_sandbox(endpoints=0), 0.0, False),
        (in_sandbox(endpoints=0), 2 * LATE_SECONDS - 1, False),
        (in_sandbox(endpoints=0), 2 * LATE_SECONDS, True),
    ],
    ids=["in the host namespace", "in a sandbox", "for long", "left behind"],
)
def test_in_a_sandbox_a_rejection_waits_for_a_join_that_may_be_its_own(
    device: Device, seconds: float, proved: bool
) -> None:
    """The time of the rejection may have been written late, and the join be the next attempt."""
    found = prove(device, desired=[network()], rejections=[rejected(1.0)], joins={PAIR: seconds})
    assert (found.proof is Proof.REJECTED) is proved
    if not proved:
        assert found.recheck_after is not None


@pytest.mark.parametrize(
    "device",
    [leaked()._replace(up=True), addressed(leaked()._replace(up=True), "fe80::1/64")],
    ids=["UP", "UP with fe80::"],
)
def test_what_others_set_up_goes_by_a_rejection_and_by_nothing_else(device: Device) -> None:
    clock = Clock(1e6)
    assert prove(device, clock=clock, rejections=[rejected(1.0)]).proof is Proof.REJECTED
    for desired in ([], [network()]):
        found = prove(device, clock=clock, desired=desired, reading=read(0.5))
        assert found.proof is None
        assert "set up by other software than Docker" in found.reason


def test_a_rejection_of_a_device_that_went_idle_just_now_waits_for_half_a_second() -> None:
    found = prove(clock=Clock(0.3), desired=[network()], rejections=[rejected(0.05)])
    assert found.proof is None
    assert found.recheck_after == pytest.approx(0.2)
    later = prove(clock=Clock(0.5), desired=[network()], rejections=[rejected(0.25)])
    assert later.proof is Proof.REJECTED


# Unwanted.


@pytest.mark.parametrize(
    ("device", "seconds", "proved"),
    [
        (leaked(), GRACE - 0.1, False),
        (leaked(), GRACE, True),
        (in_sandbox(endpoints=0), SANDBOX_GRACE - 0.1, False),
        (in_sandbox(endpoints=0), SANDBOX_GRACE, True),
    ],
)
def test_what_the_swarm_does_not_want_goes_after_the_grace_period(
    device: Device, seconds: float, proved: bool
) -> None:
    found = prove(device, clock=Clock(seconds), reading=read(0.5))
    assert (found.proof is Proof.UNWANTED) is proved
    assert found.recheck_after == (None if proved else pytest.approx(0.1))


@pytest.mark.parametrize(
    ("reading", "reason", "wants"),
    [
        (read(60.0), "has not been read for this node since", True),
        (read(61.0), "has not been read for this node since", True),
        (read(1.0, session=OTHERS), "has not been read for this node since", True),
        (SwarmReading(ready_seconds=5.0), "has not been read for this node since", True),
        (read(1.0, ready=None), "reports this node not ready", True),
    ],
    ids=["as it went idle", "before that", "before a restart", "never", "not ready"],
)
def test_a_word_of_the_swarm_that_may_be_of_before_proves_nothing(
    reading: SwarmReading, reason: str, wants: bool
) -> None:
    found = prove(clock=Clock(60.0), reading=reading)
    assert found.proof is None
    assert reason in found.reason
    assert found.wants_reading is wants
    assert found.recheck_after is None, "when the Swarm was read, the controller asks again"


def test_while_the_grace_period_lasts_the_reading_is_asked_for_already() -> None:
    found = prove(clock=Clock(1.0), reading=read(60.0))
    assert (found.wants_reading, found.recheck_after) == (True, GRACE - 1.0)


def test_while_a_join_is_under_way_nothing_is_unwanted() -> None:
    found = prove(joins={PAIR: 0.0})
    assert found.proof is None
    assert "veth1234567, veth89abcde" in found.reason
    assert "ip link delete veth1234567" in found.reason
    assert found.recheck_after == JOIN_PAUSE_SECONDS


def test_a_join_whose_sandbox_has_one_end_already_is_named_by_the_other() -> None:
    found = prove(joins={VethPair("veth1234567", "", (11, 0)): 0.1})
    assert found.proof is None
    assert "veth1234567, an end of a veth pair" in found.reason
    assert "ip link delete veth1234567" in found.reason


def test_a_join_that_lasts_is_looked_at_ever_more_seldom() -> None:
    assert [prove(joins={PAIR: seconds}).recheck_after for seconds in (0.0, 5.0, 500.0)] == [
        0.2,
        5.0,
        60.0,
    ]
    other = VethPair("veth0000000", "veth1111111", (1, 2))
    assert prove(joins={PAIR: 500.0, other: 2.0}).recheck_after == 2.0


def test_what_the_swarm_wants_here_is_not_unwanted() -> None:
    assert prove(desired=[network()]).proof is None


# Unclaimed.


@pytest.mark.parametrize(
    ("idle", "reading", "again", "wants"),
    [
        (UNCLAIMED - 10, read(0.5), 10.0, False),
        (UNCLAIMED + 10, read(0.5, ready=UNCLAIMED - 20), None, True),
        (UNCLAIMED + 10, read(30.0), None, True),
        (UNCLAIMED + 10, read(0.5, session=OTHERS), None, True),
        (UNCLAIMED + 10, read(0.5, ready=None), None, False),
    ],
    ids=["too soon", "ready too shortly", "read too early", "read before a restart", "not ready"],
)
def test_what_is_wanted_here_waits_for_minutes_of_a_ready_node(
    idle: float, reading: SwarmReading, again: float | None, wants: bool
) -> None:
    found = prove(clock=Clock(idle), reading=reading, desired=[network()])
    assert found.proof is None
    assert (found.recheck_after, found.wants_reading) == (again, wants)
    assert "network shop is wanted here" in found.reason


@pytest.mark.parametrize(
    ("device", "ingress", "proved"),
    [
        (leaked(), False, True),
        (leaked(), True, True),
        (in_sandbox(endpoints=0), True, True),
        (in_sandbox(endpoints=0), False, False),
    ],
    ids=["host", "ingress in the host", "sandbox of ingress", "sandbox of another"],
)
def test_what_nobody_takes_up_for_minutes_is_dead(
    device: Device, ingress: bool, proved: bool
) -> None:
    """An ingress network has no task to be rejected; of another one a sandbox may be dockerd's own."""
    desired = [network(ingress=ingress)]
    found = prove(device, clock=Clock(UNCLAIMED + 10), reading=read(1.0), desired=desired)
    assert (found.proof is Proof.UNCLAIMED) is proved
    assert "network shop is wanted here" in found.reason
    held = prove(
        device, clock=Clock(UNCLAIMED + 10), reading=read(1.0), desired=desired, joins={PAIR: 0.0}
    )
    assert held.proof is None


def test_that_can_be_switched_off() -> None:
    never = replace(
        Waits(grace=GRACE, sandbox_grace=SANDBOX_GRACE, unclaimed=UNCLAIMED), unclaimed=0
    )
    found = prove(clock=Clock(1e6), reading=read(1.0), desired=[network()], waits=never)
    assert (found.proof, found.recheck_after) == (None, None)


# Words.


def test_what_is_said_stays_the_same_while_nothing_happens() -> None:
    """Else each report would be news."""
    for seconds in (2.0, 100.0):
        first = prove(clock=Clock(seconds), desired=[network()])
        prover_later = RequestProver(
            clock=_Later(seconds),
            waits=Waits(grace=GRACE, sandbox_grace=SANDBOX_GRACE, unclaimed=UNCLAIMED),
            reading=read(-9.0),
            rejections=(),
            joins={},
            now=NOW + timedelta(seconds=10),
        )
        later = prover_later(leaked(), Networks.of([network()], [], PORT))
        assert later.reason == first.reason


class _Later(Clock):
    """The same stretch, ten seconds later."""

    def idle(self, identity: Identity) -> Idle | None:
        before = super().idle(identity)
        return before and before._replace(seconds=before.seconds + 10)
