"""The verdict on each device, with its reason. Pure: the same view and times give the same verdicts.

The kernel's evidence says what looks dead, and proof (`worker.proof`) what is. Desired state alone decides
nothing: the orphan that hurts belongs to a network that *is* wanted here.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, NamedTuple

from contract.messages import DesiredNetwork, NetworkRef, Rejection
from contract.verdicts import Proof, Urgency, Verdict
from worker.kernel.model import Device, Identity
from worker.networks import Networks
from worker.ownership import is_probe, network_prefix, why_foreign
from worker.proof import Joins, Prover, format_time, minds_joins

SANDBOX_GRACE_SECONDS: Final = 5.0
"""However short the grace period: with 0.2 s, sandboxes were seen to lose their device while a container
was joining, on two busy cores; with 1 s not. The task ran on, cut off from its network."""


class Judgement(NamedTuple):
    """What was concluded about one device, and why.

    Attributes:
        again: seconds after which judging it again is worth while though nothing else happens; else None.
        proof: what proves an orphan dead.
        wants_reading: a newer reading of the Swarm may be the proof.
    """

    device: Device
    verdict: Verdict
    reason: str
    urgency: Urgency | None = None
    network: NetworkRef | None = None
    again: float | None = None
    proof: Proof | None = None
    wants_reading: bool = False


class Holding(NamedTuple):
    """What is known of VNIs that dockerd found taken.

    Attributes:
        rejection: the newest rejection because of a device that was there before it; None: there is none.
        files: nsid to the file of the namespace, where one can be seen.
    """

    rejection: Callable[[Identity], Rejection | None]
    files: Mapping[int, str]


NOTHING_HELD: Final = Holding(lambda _: None, {})


def judge(
    devices: Iterable[Device],
    networks: Networks,
    prove: Prover,
    holding: Holding = NOTHING_HELD,
) -> list[Judgement]:
    """Judge each device.

    Args:
        devices: as the kernel shows them.
        networks: what the run knows of the Swarm.
        prove: asks for proof that what looks dead is dead.
        holding: what is known of VNIs that dockerd found taken.
    """
    judged = []
    foreign: list[tuple[int, Device, str]] = []
    families: set[bool] = set()
    for device in devices:
        why = why_foreign(device, networks.data_path_port)
        if why is None:
            families.add(device.ipv6)
            judged.append(_of_dockers(device, networks, prove, holding))
        else:
            foreign.append((len(judged), device, why))
            judged.append(Judgement(device, Verdict.FOREIGN, why))
    for index, device, why in foreign:
        judged[index] = _foreign(device, why, networks, families == {True})
    return judged


def judge_minding_joins(
    devices: Collection[Device],
    networks: Networks,
    prover: Callable[[Joins], Prover],
    joins: Callable[[], Joins],
    holding: Holding = NOTHING_HELD,
) -> list[Judgement]:
    """Judge each device; ask for joins under way, after the look, if a proof depends on them.

    Args:
        devices: as the kernel shows them.
        networks: what the run knows of the Swarm.
        prover: makes what asks for proof, given joins under way.
        joins: asks for those.
        holding: what is known of VNIs that dockerd found taken.
    """
    judged = judge(devices, networks, prover({}), holding)
    if any(minds_joins(each.proof, each.device.identity) for each in judged):
        under_way = joins()
        if under_way:
            return judge(devices, networks, prover(under_way), holding)
    return judged


def without_device(
    devices: Iterable[Device], desired: Iterable[DesiredNetwork]
) -> list[DesiredNetwork]:
    """The networks with a running task and without any device.

    One VNI of several is enough: Docker makes the device of a subnet when the first container of that
    subnet comes.
    """
    present = {device.identity.vni for device in devices}
    return [each for each in desired if each.running and present.isdisjoint(each.vnis)]


def _foreign(device: Device, why: str, networks: Networks, over_ipv6: bool) -> Judgement:
    """A device that is not Docker's: whether it is in the way.

    Args:
        device: it.
        why: why it is not Docker's.
        networks: what the run knows of the Swarm.
        over_ipv6: Docker's own devices here have an IPv6 underlay.
    """
    identity = device.identity
    if is_probe(device):
        return Judgement(
            device,
            Verdict.FOREIGN,
            "Docker's probe of the kernel (up to 23.0), left over from a dockerd that died: it blocks no "
            f"network; `ip link delete {identity.name}` removes it",
        )
    needing = networks.needing(identity.vni)
    blocks = (
        identity.port == networks.data_path_port
        and not device.foreign_birth
        and not device.apart
        # The kernel keeps IPv4 and IPv6 devices of one VNI and port apart (vxlan_vni_in_use).
        and not (over_ipv6 and not device.ipv6)
    )
    if needing is not None and blocks:
        return Judgement(
            device,
            Verdict.CONFLICT,
            f"not Docker's ({why}), and it holds VNI {identity.vni}, which network "
            f"{needing.name} needs on this node: Docker cannot create its own device until "
            "this one is given another VNI or UDP port by whoever made it",
            network=needing,
        )
    if device.apart and device.up and identity.port == networks.data_path_port:
        why += (
            f"; it is UP on UDP port {identity.port} with flags of another kind, so that Docker's devices "
            "can be made and not set UP beside it (`address already in use`): give it another port"
        )
    return Judgement(device, Verdict.FOREIGN, f"not Docker's: {why}")


def _of_dockers(device: Device, networks: Networks, prove: Prover, holding: Holding) -> Judgement:
    identity = device.identity
    network = networks.having(identity.vni)
    carrying = device.carrying
    if carrying is not None and not device.set_up_by_others:
        reason = carrying
        rejection = holding.rejection(identity)
        if rejection is not None:
            reason = _held(device, reason, rejection, network, holding.files)
        return Judgement(device, Verdict.IN_USE, reason, network=network)
    found = prove(device, networks)
    if found.proof is None:
        return Judgement(
            device,
            Verdict.SETTLING,
            f"looks dead ({carrying or 'carries nothing'}), not removed without proof: {found.words}",
            network=network,
            again=found.again,
            wants_reading=found.wants_reading,
        )
    urgency, explanation = _urgency(identity, networks)
    return Judgement(
        device,
        Verdict.ORPHAN,
        f"Docker's, and proved dead ({found.proof}): {found.words}; {explanation}",
        urgency,
        network,
        proof=found.proof,
    )


def _held(
    device: Device,
    carrying: str,
    rejection: Rejection,
    network: NetworkRef | None,
    files: Mapping[int, str],
) -> str:
    """Why a device that dockerd does not own stays all the same, and what a person can do."""
    identity = device.identity
    netns = identity.netns
    name = "its network" if network is None else f"network {network.name}"
    by_hand = f"`vxlan-worker scan --remove {netns}#{identity.ifindex}`"
    if netns.is_host:
        by_hand += f" or `ip link delete {identity.name}`"
    elif netns.nsid is not None and netns.nsid in files:
        by_hand += f" or `nsenter --net={files[netns.nsid]} ip link delete {identity.name}`"
    return (
        f"holds VNI {identity.vni}: task {rejection.task_id} was rejected because of it at "
        f"{format_time(rejection.at)}, so dockerd does not own it; spared, for {carrying}. If `docker ps` on "
        f"the node shows no container of {name}: {by_hand}"
    )


def _urgency(identity: Identity, networks: Networks) -> tuple[Urgency, str]:
    network = networks.having(identity.vni)
    if network is None:
        prefix = network_prefix(identity.name)
        clue = f" (its id began with {prefix})" if prefix else ""
        return Urgency.UNKNOWN, f"no network known here has VNI {identity.vni}{clue}"
    if networks.desired is None:
        return Urgency.UNKNOWN, f"its VNI is that of network {network.name}"
    if identity.vni in networks.desired:
        return Urgency.BLOCKING, f"network {network.name} is wanted on this node"
    return Urgency.STALE, f"network {network.name} is not wanted on this node"
