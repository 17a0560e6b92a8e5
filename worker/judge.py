"""The verdict on each device, with its reason. Pure: the same view and times give the same verdicts.

The kernel's evidence shows what looks dead, and proof (`worker.proof`) what is dead. Desired state alone
decides nothing: the orphan that hurts belongs to a network that *is* wanted here.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, NamedTuple

from contract.messages import NetworkRef, Rejection
from contract.verdicts import Proof, Urgency, Verdict
from worker.kernel.model import Device, Identity
from worker.networks import Networks
from worker.ownership import is_probe, network_prefix, why_foreign
from worker.proof import Joins, Prover, format_time, minds_joins

SANDBOX_GRACE_SECONDS: Final = 5.0
"""The minimum in a sandbox. With 0.2 s, sandboxes were seen to lose their device while a container was
joining, on two busy cores; with 1 s not. The task ran on, cut off from its network."""


class Judgement(NamedTuple):
    """The verdict on a device, and why; the rest as in `worker.proof.Finding`."""

    device: Device
    verdict: Verdict
    reason: str
    urgency: Urgency | None = None
    network: NetworkRef | None = None
    recheck_after: float | None = None
    proof: Proof | None = None
    wants_reading: bool = False


class Holding(NamedTuple):
    """The newest rejection because of a device that was there before, and netns files by nsid."""

    rejection: Callable[[Identity], Rejection | None]
    files: Mapping[int, str]


NOTHING_HELD: Final = Holding(lambda _: None, {})


def judge(
    devices: Iterable[Device], networks: Networks, prove: Prover, holding: Holding = NOTHING_HELD
) -> list[Judgement]:
    """Judge devices, in their order; `prove` is asked about what looks dead."""
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
    """Judge devices; if a proof depends on it, list `joins` under way, and judge with those again."""
    judged = judge(devices, networks, prover({}), holding)
    if any(minds_joins(verdict.proof, verdict.device.identity) for verdict in judged) and (
        under_way := joins()
    ):
        return judge(devices, networks, prover(under_way), holding)
    return judged


def _foreign(device: Device, why: str, networks: Networks, over_ipv6: bool) -> Judgement:
    """Judge whether a device, not Docker's, is in the way of Docker's; `over_ipv6`: the underlay of those."""
    identity = device.identity
    if is_probe(device):
        return Judgement(
            device,
            Verdict.FOREIGN,
            "Docker's probe of the kernel (up to 23.0), left by a dockerd that died: it blocks no network; "
            f"`ip link delete {identity.name}` removes it",
        )
    needing = networks.needing(identity.vni)
    blocks = (
        identity.port == networks.data_path_port
        and not device.born_elsewhere
        and not device.kept_apart
        # The kernel keeps IPv4 and IPv6 devices of one VNI and port apart (vxlan_vni_in_use).
        and not (over_ipv6 and not device.ipv6)
    )
    if needing is not None and blocks:
        return Judgement(
            device,
            Verdict.CONFLICT,
            f"not Docker's ({why}), and it holds VNI {identity.vni}, which network {needing.name} needs on "
            "this node: Docker cannot create its own device until this one has another VNI or UDP port",
            network=needing,
        )
    if device.kept_apart and device.up and identity.port == networks.data_path_port:
        why += (
            f"; it is UP on UDP port {identity.port} with flags of another kind: Docker's devices can be "
            "made and not set UP beside it (`address already in use`); give it another port"
        )
    return Judgement(device, Verdict.FOREIGN, f"not Docker's: {why}")


def _of_dockers(device: Device, networks: Networks, prove: Prover, holding: Holding) -> Judgement:
    identity = device.identity
    network = networks.having(identity.vni)
    activity = device.activity
    if activity is not None and not device.set_up_by_others:
        rejection = holding.rejection(identity)
        if rejection is not None:
            activity = _held(device, rejection, network, holding.files)
        return Judgement(device, Verdict.IN_USE, activity, network=network)
    finding = prove(device, networks)
    if finding.proof is None:
        return Judgement(
            device,
            Verdict.SETTLING,
            f"looks dead ({activity or 'idle'}), not removed without proof: {finding.reason}",
            network=network,
            recheck_after=finding.recheck_after,
            wants_reading=finding.wants_reading,
        )
    urgency, explanation = _urgency(identity, networks)
    return Judgement(
        device,
        Verdict.ORPHAN,
        f"Docker's, and proved dead ({finding.proof}): {finding.reason}; {explanation}",
        urgency,
        network,
        proof=finding.proof,
    )


def _held(
    device: Device, rejection: Rejection, network: NetworkRef | None, files: Mapping[int, str]
) -> str:
    """Return why a device that dockerd does not own stays all the same, and what a person can do."""
    identity, netns = device.identity, device.identity.netns
    name = "its network" if network is None else f"network {network.name}"
    by_hand = f"`vxlan-worker scan --remove {netns}#{identity.ifindex}`"
    if netns.is_host:
        by_hand += f" or `ip link delete {identity.name}`"
    elif netns.nsid is not None and netns.nsid in files:
        by_hand += f" or `nsenter --net={files[netns.nsid]} ip link delete {identity.name}`"
    return (
        f"holds VNI {identity.vni}: task {rejection.task_id} was rejected because of it at "
        f"{format_time(rejection.at)}, so dockerd does not own it; spared, for {device.activity}. If "
        f"`docker ps` on the node shows no container of {name}: {by_hand}"
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
