"""The verdict on each device, with its reason. Pure: the same view and times give the same verdicts.

The kernel's evidence alone decides whether a device is dead. Desired state decides only how urgent
that is and how it is explained: the orphan that hurts belongs to a network that *is* wanted here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from contract.messages import DesiredNetwork, NetworkRef
from contract.verdicts import Urgency, Verdict
from worker.ownership import network_prefix, why_foreign
from worker.view import Device, Identity

SANDBOX_GRACE_SECONDS: Final = 5.0
"""However short the grace period: with 0.2 s, sandboxes were seen to lose their device while a container
was joining, on two busy cores; with 1 s not. The task ran on, cut off from its network."""


@dataclass(frozen=True, slots=True)
class Networks:
    """What the run knows of the Swarm's networks, by VNI.

    Attributes:
        desired: those that this node should carry; None where nobody knows (`vxlan-worker scan`).
        known: others.
        data_path_port: the UDP port of this Swarm's overlay networks.
    """

    desired: Mapping[int, NetworkRef] | None
    known: Mapping[int, NetworkRef]
    data_path_port: int

    @classmethod
    def of(
        cls,
        desired: Iterable[NetworkRef] | None,
        known: Iterable[NetworkRef],
        data_path_port: int,
    ) -> "Networks":
        """Index networks by each of their VNIs (one a subnet)."""
        return cls(None if desired is None else _by_vni(desired), _by_vni(known), data_path_port)

    def needing(self, vni: int) -> NetworkRef | None:
        """The network that needs this VNI on this node, as far as anybody knows."""
        return (self.known if self.desired is None else self.desired).get(vni)

    def having(self, vni: int) -> NetworkRef | None:
        """The network that has this VNI."""
        return (self.desired or {}).get(vni) or self.known.get(vni)


class Judgement(NamedTuple):
    """What was concluded about one device, and why.

    Attributes:
        settles_in: seconds until a settling device has outstayed the grace period; else None.
    """

    device: Device
    verdict: Verdict
    reason: str
    urgency: Urgency | None = None
    network: NetworkRef | None = None
    settles_in: float | None = None


def judge(
    devices: Iterable[Device],
    networks: Networks,
    idle_for: Callable[[Identity], float],
    grace: float,
    sandbox_grace: float = 0.0,
) -> list[Judgement]:
    """Judge each device.

    Args:
        devices: as the kernel shows them.
        networks: what the run knows of the Swarm.
        idle_for: for how many seconds a device has been seen to carry nothing.
        grace: for how many seconds it must have, to be an orphan.
        sandbox_grace: for how many at the least in a sandbox. There a device carries nothing from its
            making until the first endpoint joins, which a busy node can take a good while over.
    """
    longer = max(grace, sandbox_grace)
    return [
        _judge_one(device, networks, idle_for, grace if device.identity.place.is_host else longer)
        for device in devices
    ]


def without_device(
    devices: Iterable[Device], desired: Iterable[DesiredNetwork]
) -> list[DesiredNetwork]:
    """The networks with a running task and without any device.

    One VNI of several is enough: Docker makes the device of a subnet when the first container of that
    subnet comes.
    """
    present = {device.identity.vni for device in devices}
    return [each for each in desired if each.running and present.isdisjoint(each.vnis)]


def _judge_one(
    device: Device, networks: Networks, idle_for: Callable[[Identity], float], grace: float
) -> Judgement:
    identity = device.identity
    network = networks.having(identity.vni)

    foreign = why_foreign(device, networks.data_path_port)
    if foreign is not None:
        blocks = identity.port == networks.data_path_port and not device.foreign_birth
        needing = networks.needing(identity.vni)
        if needing is not None and blocks:
            return Judgement(
                device,
                Verdict.CONFLICT,
                f"not Docker's ({foreign}), and it holds VNI {identity.vni}, which network "
                f"{needing.name} needs on this node: Docker cannot create its own device until "
                "this one is given another VNI or UDP port by whoever made it",
                network=needing,
            )
        return Judgement(device, Verdict.FOREIGN, f"not Docker's: {foreign}")

    carrying = device.carrying
    if carrying is not None:
        return Judgement(device, Verdict.IN_USE, carrying, network=network)

    idle = idle_for(identity)
    if idle < grace:
        return Judgement(
            device,
            Verdict.SETTLING,
            f"carries nothing, for {idle:.1f} s of the {grace:g} s grace period",
            network=network,
            settles_in=grace - idle,
        )
    urgency, explanation = _urgency(identity, networks)
    return Judgement(
        device,
        Verdict.ORPHAN,
        f"Docker's, and has carried nothing for the grace period of {grace:g} s; {explanation}",
        urgency,
        network,
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
        return (
            Urgency.BLOCKING,
            f"network {network.name} is wanted on this node and every task of it is rejected here",
        )
    return Urgency.STALE, f"network {network.name} is not wanted on this node"


def _by_vni(networks: Iterable[NetworkRef]) -> dict[int, NetworkRef]:
    return {vni: network for network in networks for vni in network.vnis}
