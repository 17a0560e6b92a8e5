"""The Swarm's networks by VNI, as far as a run knows them. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from contract.messages import NetworkRef


@dataclass(frozen=True, slots=True)
class Networks:
    """The Swarm's networks by VNI; a network has one VNI a subnet, and several may share one.

    `desired`: those wanted on this node; None: not known (`vxlan-worker scan`). `known`: others.
    """

    desired: Mapping[int, NetworkRef] | None
    known: Mapping[int, NetworkRef]
    data_path_port: int
    shared: frozenset[int] = frozenset()

    @classmethod
    def of(
        cls, desired: Iterable[NetworkRef] | None, known: Iterable[NetworkRef], data_path_port: int
    ) -> "Networks":
        """Index networks by their VNIs."""
        here, others = None if desired is None else tuple(desired), tuple(known)
        owners = {network.id: set(network.vnis) for network in (*(here or ()), *others)}
        counts = Counter(vni for vnis in owners.values() for vni in vnis)
        return cls(
            None if here is None else _by_vni(here),
            _by_vni(others),
            data_path_port,
            frozenset(vni for vni, count in counts.items() if count > 1),
        )

    def needing(self, vni: int) -> NetworkRef | None:
        """Return the network that needs this VNI on this node, as far as is known."""
        return (self.known if self.desired is None else self.desired).get(vni)

    def having(self, vni: int) -> NetworkRef | None:
        """Return the network that has this VNI."""
        return (self.desired or {}).get(vni) or self.known.get(vni)


def _by_vni(networks: Iterable[NetworkRef]) -> dict[int, NetworkRef]:
    return {vni: network for network in networks for vni in network.vnis}
