"""The verdict on one device: who is in use, settling, an orphan, foreign or a conflict, and why."""

import pytest

from contract.messages import NetworkRef
from contract.verdicts import Urgency, Verdict
from tests.builders import PORT, SANDBOX, VNI, addressed, identity, in_sandbox, leaked, network
from worker.judge import Judgement, Networks, judge
from worker.view import Device, VxlanFlag

GRACE = 5.0


def verdict_on(
    device: Device,
    *,
    idle: float = GRACE,
    desired: tuple[NetworkRef, ...] = (),
    known: tuple[NetworkRef, ...] = (),
    port: int = PORT,
) -> Judgement:
    (judgement,) = judge([device], Networks.of(desired, known, port), lambda _: idle, GRACE)
    assert judgement.device is device
    return judgement


@pytest.mark.parametrize(
    "device",
    [
        leaked()._replace(up=True),
        leaked()._replace(master=3),
        addressed(leaked()),
        in_sandbox(endpoints=1),
        in_sandbox(endpoints=0)._replace(master=None),
        addressed(in_sandbox(endpoints=0)),
    ],
    ids=[
        "UP",
        "enslaved",
        "addressed",
        "sandbox with an endpoint",
        "sandbox, UP without a bridge",
        "sandbox, addressed",
    ],
)
@pytest.mark.parametrize("desired", [(), (network(),)], ids=["undesired", "desired"])
def test_what_carries_anything_is_in_use_however_long_it_was_thought_idle(
    device: Device, desired: tuple[NetworkRef, ...]
) -> None:
    judgement = verdict_on(device, idle=1e9, desired=desired)
    assert judgement.verdict is Verdict.IN_USE
    assert judgement.reason == device.carrying
    assert judgement.urgency is None


@pytest.mark.parametrize(
    "device",
    [leaked(), in_sandbox(endpoints=0), leaked(identity(place=SANDBOX))],
    ids=["host", "sandbox without endpoints", "sandbox, not yet on its bridge"],
)
@pytest.mark.parametrize(
    ("idle", "verdict", "settles_in"),
    [
        (0.0, Verdict.SETTLING, GRACE),
        (4.5, Verdict.SETTLING, 0.5),
        (GRACE, Verdict.ORPHAN, None),
        (1e9, Verdict.ORPHAN, None),
    ],
)
def test_what_carries_nothing_is_an_orphan_from_the_end_of_the_grace_period_on(
    device: Device, idle: float, verdict: Verdict, settles_in: float | None
) -> None:
    judgement = verdict_on(device, idle=idle)
    assert judgement.verdict is verdict
    assert judgement.settles_in == settles_in


@pytest.mark.parametrize(
    ("desired", "known", "urgency", "named"),
    [
        ((network(),), (), Urgency.BLOCKING, "network shop is wanted"),
        ((network(5, VNI, 6),), (), Urgency.BLOCKING, "network shop is wanted"),
        ((network(5),), (network(),), Urgency.STALE, "network shop is not wanted"),
        (
            (network(),),
            (network(name="old"),),
            Urgency.BLOCKING,
            "network shop is wanted",
        ),
        ((network(5),), (network(6),), Urgency.UNKNOWN, f"VNI {VNI} (its id began with n0fxr)"),
    ],
    ids=["desired", "one of several VNIs", "known", "desired and known", "unknown"],
)
def test_the_networks_say_how_urgent_an_orphan_is(
    desired: tuple[NetworkRef, ...], known: tuple[NetworkRef, ...], urgency: Urgency, named: str
) -> None:
    judgement = verdict_on(leaked(), desired=desired, known=known)
    assert judgement.verdict is Verdict.ORPHAN
    assert judgement.urgency is urgency
    assert named in judgement.reason
    assert (judgement.network is None) is (urgency is Urgency.UNKNOWN)


def test_an_unknown_orphan_in_a_sandbox_gives_no_clue_to_its_network() -> None:
    assert "began with" not in verdict_on(in_sandbox(endpoints=0)).reason


@pytest.mark.parametrize("known", [(), (network(4096),)], ids=["unknown", "known"])
def test_a_foreign_device_whose_vni_nobody_needs_here_is_left_at_that(
    known: tuple[NetworkRef, ...],
) -> None:
    calico = leaked(identity(name="vxlan.calico", vni=4096))
    judgement = verdict_on(calico, known=known)
    assert judgement.verdict is Verdict.FOREIGN
    assert judgement.urgency is None


CALICO = leaked(identity(name="vxlan.calico", vni=4096))._replace(up=True, flags=VxlanFlag.LEARNING)


def test_calico_on_the_ingress_networks_vni_is_a_conflict_that_is_explained() -> None:
    ingress = network(4096, name="ingress")
    judgement = verdict_on(CALICO, desired=(ingress,))
    assert judgement.verdict is Verdict.CONFLICT
    assert judgement.network == ingress
    assert "holds VNI 4096, which network ingress needs" in judgement.reason


@pytest.mark.parametrize(
    ("device", "port"),
    [
        (CALICO._replace(identity=CALICO.identity._replace(port=8472)), PORT),
        (CALICO, 7789),
        (CALICO._replace(foreign_birth=True), PORT),
    ],
    ids=["another port", "a Swarm of another port", "created in another namespace"],
)
def test_a_foreign_device_that_cannot_block_the_vni_is_no_conflict(
    device: Device, port: int
) -> None:
    judgement = verdict_on(device, desired=(network(4096),), port=port)
    assert judgement.verdict is Verdict.FOREIGN


@pytest.mark.parametrize(
    "device",
    [
        leaked(identity(name="vx-submariner")),
        leaked(identity(name="vx-R1-e1-vx")),
        leaked(identity(vni=VNI + 1)),
        leaked(identity(port=8472)),
        leaked()._replace(flags=VxlanFlag.LEARNING),
        in_sandbox(endpoints=0)._replace(foreign_birth=True),
    ],
    ids=["submariner", "containerlab", "VNI not the name's", "port", "flags", "docker in docker"],
)
@pytest.mark.parametrize("desired", [(), (network(VNI, VNI + 1),)], ids=["undesired", "desired"])
def test_what_is_not_dockers_is_never_an_orphan(
    device: Device, desired: tuple[NetworkRef, ...]
) -> None:
    judgement = verdict_on(device, idle=1e9, desired=desired)
    assert judgement.verdict in (Verdict.FOREIGN, Verdict.CONFLICT)
    assert judgement.urgency is None


def test_each_device_is_judged_by_its_own_idle_time() -> None:
    recreated = leaked(identity(ifindex=8))
    idle = {leaked().identity: GRACE, recreated.identity: 0.0}
    judgements = judge([leaked(), recreated], Networks.of((), (), PORT), idle.__getitem__, GRACE)
    assert [each.verdict for each in judgements] == [Verdict.ORPHAN, Verdict.SETTLING]


def test_two_devices_of_one_vni_are_each_judged_by_their_own_evidence() -> None:
    """The kernel tells devices apart by more than VNI and port: by address family and lower device."""
    dead, live = leaked(), in_sandbox(endpoints=2)
    assert dead.identity.vni == live.identity.vni
    networks = Networks.of([network()], [], PORT)
    judged = judge([dead, live], networks, lambda _identity: 60.0, 5.0)
    assert [each.verdict for each in judged] == [Verdict.ORPHAN, Verdict.IN_USE]


def test_a_live_device_of_an_engine_in_host_mode_is_in_use() -> None:
    """Engines up to 23.0 could keep their devices at home: UP, on a bridge named ov-*."""
    live = leaked()._replace(up=True, master=12)
    assert verdict_on(live, idle=1e9).verdict is Verdict.IN_USE


def test_without_desired_state_an_orphan_is_named_and_not_called_unwanted() -> None:
    networks = Networks.of(None, [network(name="shop")], PORT)
    (judged,) = judge([leaked()], networks, lambda _identity: 60.0, 5.0)
    assert (judged.verdict, judged.urgency) == (Verdict.ORPHAN, Urgency.UNKNOWN)
    assert "shop" in judged.reason
    assert "wanted" not in judged.reason


@pytest.mark.parametrize(
    ("device", "idle", "verdict"),
    [
        (leaked(), 0.2, Verdict.ORPHAN),
        (in_sandbox(endpoints=0), 4.9, Verdict.SETTLING),
        (in_sandbox(endpoints=0), 5.0, Verdict.ORPHAN),
    ],
    ids=["host", "sandbox, too soon", "sandbox"],
)
def test_a_sandbox_has_a_grace_period_of_its_own(
    device: Device, idle: float, verdict: Verdict
) -> None:
    """A container that joins takes its time, and its sandbox looks dead until then."""
    networks = Networks.of([], [], PORT)
    (judged,) = judge([device], networks, lambda _: idle, 0.2, sandbox_grace=5.0)
    assert judged.verdict is verdict
