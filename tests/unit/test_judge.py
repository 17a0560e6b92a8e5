"""The verdict on one device: who is in use, settling, an orphan, foreign or a conflict, and why."""

import pytest

from contract.messages import NetworkRef
from contract.verdicts import Proof, Urgency, Verdict
from tests.builders import (
    EPOCH,
    PORT,
    SANDBOX,
    VNI,
    addressed,
    identity,
    in_sandbox,
    leaked,
    network,
    rejection,
)
from worker.judge import NOTHING_HELD, Holding, Judgement, judge
from worker.kernel.model import Device, VxlanFlag
from worker.networks import Networks
from worker.proof import Finding, Prover


def proved(proof: Proof | None = Proof.UNWANTED) -> Prover:
    """Says the same of each device that looks dead."""
    return lambda _device, _networks: Finding(
        proof, "why it is so", None if proof else 3.0, wants_reading=proof is None
    )


def verdict_on(
    device: Device,
    *,
    proof: Proof | None = Proof.UNWANTED,
    desired: tuple[NetworkRef, ...] = (),
    known: tuple[NetworkRef, ...] = (),
    port: int = PORT,
    holding: Holding = NOTHING_HELD,
) -> Judgement:
    networks = Networks.of(desired, known, port)
    (judgement,) = judge([device], networks, proved(proof), holding)
    assert judgement.device is device
    return judgement


@pytest.mark.parametrize(
    "device",
    [
        leaked()._replace(master=3),
        addressed(leaked()),
        in_sandbox(endpoints=1),
        addressed(in_sandbox(endpoints=0)),
    ],
    ids=[
        "enslaved",
        "addressed",
        "sandbox with an endpoint",
        "sandbox, addressed",
    ],
)
@pytest.mark.parametrize("desired", [(), (network(),)], ids=["undesired", "desired"])
def test_what_carries_anything_is_in_use_whatever_would_prove_it_dead(
    device: Device, desired: tuple[NetworkRef, ...]
) -> None:
    judgement = verdict_on(device, desired=desired)
    assert judgement.verdict is Verdict.IN_USE
    assert judgement.reason == device.activity
    assert judgement.urgency is None


@pytest.mark.parametrize(
    "device",
    [
        leaked(),
        in_sandbox(endpoints=0),
        leaked(identity(netns=SANDBOX)),
        in_sandbox(endpoints=0)._replace(master=None),
        leaked()._replace(up=True),
        addressed(leaked()._replace(up=True), "fe80::1/64"),
    ],
    ids=[
        "host",
        "sandbox without endpoints",
        "sandbox, not yet on its bridge",
        "sandbox, UP without a bridge",
        "UP",
        "UP with fe80::",
    ],
)
def test_what_looks_dead_is_an_orphan_with_proof_and_settling_without(device: Device) -> None:
    with_proof = verdict_on(device)
    assert with_proof.verdict is Verdict.ORPHAN
    assert with_proof.proof is Proof.UNWANTED
    assert "proved dead (unwanted): why it is so" in with_proof.reason
    without = verdict_on(device, proof=None)
    assert without.verdict is Verdict.SETTLING
    assert (without.recheck_after, without.wants_reading, without.proof) == (3.0, True, None)
    assert "not removed without proof: why it is so" in without.reason


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
        (CALICO._replace(born_elsewhere=True), PORT),
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
        in_sandbox(endpoints=0)._replace(born_elsewhere=True),
    ],
    ids=["submariner", "containerlab", "VNI not the name's", "port", "flags", "docker in docker"],
)
@pytest.mark.parametrize("desired", [(), (network(VNI, VNI + 1),)], ids=["undesired", "desired"])
def test_what_is_not_dockers_is_never_an_orphan(
    device: Device, desired: tuple[NetworkRef, ...]
) -> None:
    judgement = verdict_on(device, desired=desired)
    assert judgement.verdict in (Verdict.FOREIGN, Verdict.CONFLICT)
    assert judgement.urgency is None


def test_each_device_is_judged_by_its_own_proof() -> None:
    recreated = leaked(identity(ifindex=8))
    judgements = judge(
        [leaked(), recreated],
        Networks.of((), (), PORT),
        lambda device, _: Finding(Proof.UNWANTED if device is not recreated else None, "reason"),
    )
    assert [each.verdict for each in judgements] == [Verdict.ORPHAN, Verdict.SETTLING]


def test_two_devices_of_one_vni_are_each_judged_by_their_own_evidence() -> None:
    """The kernel tells devices apart by more than VNI and port: by address family and lower device."""
    dead, live = leaked(), in_sandbox(endpoints=2)
    assert dead.identity.vni == live.identity.vni
    networks = Networks.of([network()], [], PORT)
    judged = judge([dead, live], networks, proved())
    assert [each.verdict for each in judged] == [Verdict.ORPHAN, Verdict.IN_USE]


def test_a_live_device_of_an_engine_in_host_mode_is_in_use() -> None:
    """Engines up to 23.0 could keep their devices at home: UP, on a bridge named ov-*."""
    live = leaked()._replace(up=True, master=12)
    assert verdict_on(live).verdict is Verdict.IN_USE


def test_without_desired_state_an_orphan_is_named_and_not_called_unwanted() -> None:
    networks = Networks.of(None, [network(name="shop")], PORT)
    (judged,) = judge([leaked()], networks, proved(Proof.BY_HAND))
    assert (judged.verdict, judged.urgency) == (Verdict.ORPHAN, Urgency.UNKNOWN)
    assert "shop" in judged.reason
    assert "wanted" not in judged.reason


# What dockerd found taken.

FILE = "/run/docker/netns/1-n0fxr00000"


def holding(*, files: dict[int, str] | None = None) -> Holding:
    """A task was rejected because of what is there."""
    return Holding(lambda _: rejection(EPOCH), files or {})


@pytest.mark.parametrize(
    ("device", "files", "command"),
    [
        (in_sandbox(endpoints=1), {4: FILE}, f"`nsenter --net={FILE} ip link delete vxlan0`"),
        (in_sandbox(endpoints=1), {}, "`vxlan-worker scan --remove nsid:4#7`"),
        (
            leaked()._replace(master=3),
            {},
            "`vxlan-worker scan --remove host#7` or `ip link delete vx-001002-n0fxr`",
        ),
    ],
    ids=["sandbox with a file", "sandbox without", "host"],
)
def test_what_dockerd_does_not_own_and_is_alive_stays_and_is_named_with_what_to_do(
    device: Device, files: dict[int, str], command: str
) -> None:
    judgement = verdict_on(device, desired=(network(),), holding=holding(files=files))
    assert judgement.verdict is Verdict.IN_USE
    assert judgement.reason.startswith(f"holds VNI {VNI}: task t0")
    assert device.activity is not None
    assert device.activity in judgement.reason
    assert command in judgement.reason
    assert len(judgement.reason) < 450, "a condition's message has it whole"


def test_dockers_own_probe_is_told_as_that() -> None:
    judgement = verdict_on(leaked(identity(name="testvxlan", vni=1)))
    assert judgement.verdict is Verdict.FOREIGN
    assert "Docker's probe of the kernel" in judgement.reason
    assert "`ip link delete testvxlan`" in judgement.reason


# The kernel tells devices of one VNI and port apart by more than that.


@pytest.mark.parametrize(
    ("calico", "docker", "verdict"),
    [
        (CALICO, None, Verdict.CONFLICT),
        (CALICO, False, Verdict.CONFLICT),
        (CALICO, True, Verdict.FOREIGN),
        (CALICO._replace(ipv6=True), True, Verdict.CONFLICT),
        (CALICO._replace(ipv6=True), False, Verdict.CONFLICT),
        (CALICO._replace(kept_apart=True), False, Verdict.FOREIGN),
    ],
    ids=[
        "unknown underlay",
        "both IPv4",
        "IPv4 beside IPv6",
        "both IPv6",
        "IPv6 beside what a kernel before 6.18 shows as IPv4",
        "flags",
    ],
)
def test_a_foreign_device_is_in_the_way_only_of_its_own_kind(
    calico: Device, docker: bool | None, verdict: Verdict
) -> None:
    alive = in_sandbox(endpoints=1, ifindex=9, vni=4099)
    devices = [calico] if docker is None else [calico, alive._replace(ipv6=docker)]
    judged = judge(devices, Networks.of([network(4096)], [], PORT), proved())
    assert judged[0].device is calico
    assert judged[0].verdict is verdict
