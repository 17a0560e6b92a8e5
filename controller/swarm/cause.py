"""Which VNI a rejected task's error is about. Pure.

Docker's words name a subnet and nothing else; the task's own networks say which subnets it can be.
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from controller.swarm.faults import fault_subnet
from controller.swarm.model import SwarmNetwork, SwarmTask


class Cause(NamedTuple):
    """What a rejection is about.

    Attributes:
        network_id, vni: None: that cannot be told.
        cidr: the subnet that the error names.
        doubt: why it proves nothing about any device; None: nothing is against it.
    """

    network_id: str | None = None
    vni: int | None = None
    cidr: str | None = None
    doubt: str | None = None


def cause_of(task: SwarmTask, networks: Mapping[str, SwarmNetwork]) -> Cause:
    """What the rejection of a task, whose error has the fault's words, is about.

    Args:
        task: with the ids of its networks.
        networks: all overlay networks of the Swarm, by id.
    """
    cidr = fault_subnet(task.error)
    own = [networks[id_] for id_ in task.networks if id_ in networks]
    if cidr is None:
        candidates = [(network.id, vni) for network in own for vni in network.vnis]
        nothing = "its error names no subnet, and the task is on several"
    else:
        candidates = [
            (network.id, subnet.vni)
            for network in own
            for subnet in network.subnets
            if subnet.cidr == cidr
        ]
        nothing = f"several networks of the task have the subnet {cidr}"
    if not candidates:
        named = (
            "its error names no subnet, and" if cidr is None else f"it is about subnet {cidr}, and"
        )
        return Cause(cidr=cidr, doubt=f"{named} no network of the task has it")
    if len(candidates) > 1:
        return Cause(cidr=cidr, doubt=nothing)
    network_id, vni = candidates[0]
    if Counter(vni for each in networks.values() for vni in set(each.vnis))[vni] > 1:
        return Cause(network_id, vni, cidr, f"several networks of the Swarm have VNI {vni}")
    if task.since is None:
        return Cause(network_id, vni, cidr, "the Swarm does not say when it was rejected")
    return Cause(network_id, vni, cidr)
