"""The fault in a task's error: whether it is there, and the subnet and VNI it is about. Pure.

Texts come from nodes and people, so functions take any text of any length in bounded time. Wordings:
moby libnetwork/drivers/overlay/ov_network.go.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

from controller.swarm.model import SwarmNetwork, SwarmTask, normal_cidr

_MAX_LENGTH: Final = 4_000
"""Characters that are searched. Real errors have a few hundred."""

_COLOUR: Final = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]")
"""A control sequence of a terminal (ECMA-48, 5.4): `grep --color` puts some inside the wording."""

_EXISTS: Final = "file exists"
_CREATING: Final = f"error creating vxlan interface: {_EXISTS}"
_PROBE: Final = f"failed to create testvxlan interface: {_CREATING}"
"""About dockerd's own probe: engines up to 23 make a device with VNI 1 to learn whether the kernel has VXLAN,
and go on if it exists: no network lacks anything."""
_BEGINNINGS: Final = (
    "vxlan interface creation failed for subnet ",
    "failed creating ingress network: ",
)
"""Wordings that end with `file exists` after some more words."""

_CIDR: Final = r"([0-9a-f:.]{2,45}/[0-9]{1,3})"
_SUBNETS: Final = (
    # The quotes are escaped where the error is part of a log line.
    re.compile(
        rf"""(?:sandbox join|interface creation) failed for (?:subnet )?[\\"']{{0,6}}{_CIDR}"""
    ),
    re.compile(rf"""{_CIDR}[\\"']{{0,6}}:\s{{0,80}}error creating vxlan interface"""),
)


def is_leak(error: str) -> bool:
    """Whether a task's error is that of a leaked VXLAN device, in the wording of any engine since 17."""
    text = _plain(error).replace(_PROBE, "")
    return _CREATING in text or any(
        _EXISTS in text.partition(beginning)[2] for beginning in _BEGINNINGS
    )


def fault_subnet(error: str) -> str | None:
    """The subnet that could not be joined (`10.0.2.0/24`), even if the rest is cut off; None: not named."""
    text = _plain(error)
    subnets = (normal_cidr(found[1]) for regex in _SUBNETS for found in regex.finditer(text))
    return next((subnet for subnet in subnets if subnet), None)


def _plain(error: str) -> str:
    return _COLOUR.sub("", error[:_MAX_LENGTH]).lower()


class Cause(NamedTuple):
    """The subnet that a rejection is about, as far as it is known."""

    network_id: str | None = None
    vni: int | None = None
    cidr: str | None = None
    """The subnet that the error names."""
    doubt: str | None = None
    """Why the rejection proves nothing about any device."""


def cause_of(task: SwarmTask, networks: Mapping[str, SwarmNetwork]) -> Cause:
    """The cause of a rejection: the only subnet of the task's networks that its error can mean."""
    cidr = fault_subnet(task.error)
    candidates = _candidates(task, networks, cidr)
    if not candidates:
        start = "its error names no subnet" if cidr is None else f"it is about subnet {cidr}"
        return Cause(cidr=cidr, doubt=f"{start}, and no network of the task has it")
    if len(candidates) > 1:
        if cidr is None:
            return Cause(doubt="its error names no subnet, and the task is on several")
        return Cause(cidr=cidr, doubt=f"several networks of the task have the subnet {cidr}")
    network_id, vni = candidates[0]
    doubt = None
    if Counter(vni for network in networks.values() for vni in set(network.vnis))[vni] > 1:
        doubt = f"several networks of the Swarm have VNI {vni}"
    elif task.since is None:
        doubt = "the Swarm does not say when it was rejected"
    return Cause(network_id, vni, cidr, doubt)


def networks_meant(task: SwarmTask, networks: Mapping[str, SwarmNetwork]) -> frozenset[str]:
    """The ids of the task's networks that its error may be about: all, if it names no subnet of theirs."""
    meant = _candidates(task, networks, fault_subnet(task.error))
    return frozenset(id_ for id_, _ in meant) or frozenset(task.networks)


def _candidates(
    task: SwarmTask, networks: Mapping[str, SwarmNetwork], cidr: str | None
) -> list[tuple[str, int]]:
    """Network id and VNI of the task's subnets with these addresses; None: of all."""
    return [
        (id_, subnet.vni)
        for id_ in task.networks
        if id_ in networks
        for subnet in networks[id_].subnets
        if cidr is None or subnet.cidr == cidr
    ]
