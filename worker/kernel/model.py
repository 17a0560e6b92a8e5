"""What a look at the kernel shows: namespaces, identities, devices. Values only, no I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Flag, auto
from ipaddress import ip_interface
from typing import Final, NamedTuple, Self

from contract.messages import DeviceIdentity


class Netns(NamedTuple):
    """A network namespace by its nsid, as the host namespace numbers it; None is the host itself."""

    nsid: int | None = None

    @property
    def is_host(self) -> bool:
        return self.nsid is None

    def __str__(self) -> str:
        return "host" if self.nsid is None else f"nsid:{self.nsid}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `str()`, for text that `contract.messages` has checked."""
        return cls(None if text == "host" else int(text.removeprefix("nsid:")))


HOST = Netns()

_MAX_NAMES: Final = 5
"""Maximum number of ports or addresses of a device that a text names; more are counted."""


class VxlanFlag(Flag):
    """The flags of a VXLAN device that Docker's driver sets, all four (moby ov_utils.go)."""

    LEARNING = auto()
    PROXY = auto()
    L2MISS = auto()
    L3MISS = auto()


class Identity(NamedTuple):
    """What must still be true of a device at its deletion, which the kernel does by ifindex alone.

    The kernel may give an ifindex to another device; one moved in from another namespace even keeps its own.
    """

    netns: Netns
    ifindex: int
    name: str
    vni: int
    port: int

    def message(self) -> DeviceIdentity:
        return DeviceIdentity(**self._asdict() | {"netns": str(self.netns)})

    @classmethod
    def of(cls, message: DeviceIdentity) -> Self:
        return cls(**message.model_dump() | {"netns": Netns.parse(message.netns)})

    def __str__(self) -> str:
        return f"{self.name} (ifindex {self.ifindex}, VNI {self.vni}, UDP port {self.port}) in {self.netns}"


class Device(NamedTuple):
    """A VXLAN device with the evidence for whether it lives.

    Attributes:
        up: IFF_UP, the administrative state.
        master: ifindex of the bridge it is enslaved to, or None.
        addressed: whether it has an IP address; only known in the host namespace, as `addresses`.
        flags: those that are set, of the flags that Docker's driver sets.
        born_elsewhere: created in a namespace other than the host's; its VNI then blocks nobody here.
        endpoints: the number of ports of its bridge that are no VXLAN devices; if 0, of the other bridges of
            its sandbox: a network's second subnet has a device also where it has no container, for packets
            to its peers on other nodes (moby peerdb.go).
        ports: the names of these ports.
        addresses: with prefix length, as in `192.0.2.1/24`.
        ipv6: whether its underlay is IPv6. True is certain. False may mean that a kernel before 6.18 does
            not show it (`worker.kernel.linkmsg`).
        kept_apart: whether its receive flags keep it apart from Docker's devices: both may have one VNI and
            UDP port. They cannot both be UP, though: the UDP port has room for one kind of flags.
    """

    identity: Identity
    up: bool
    master: int | None
    addressed: bool
    flags: VxlanFlag
    born_elsewhere: bool
    endpoints: int
    ports: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    ipv6: bool = False
    kept_apart: bool = False

    @property
    def set_up_by_others(self) -> bool:
        """Whether it is in the host namespace, and was set UP or addressed, but to no purpose.

        NetworkManager (`unmanaged-devices=none`) and systemd-networkd set UP whatever appears there,
        and it gets a link-local address. Docker never does so without a master.
        """
        if not self.identity.netns.is_host or self.master is not None:
            return False
        if not self.addressed:
            return self.up
        # fe80::/10, 169.254.0.0/16
        link_local = [ip_interface(address).is_link_local for address in self.addresses]
        return bool(link_local) and all(link_local)

    @property
    def looks_dead(self) -> bool:
        """Whether it does nothing for any dockerd: that alone proves nothing (`worker.proof`)."""
        return self.activity is None or self.set_up_by_others

    @property
    def activity(self) -> str | None:
        """The sign that the device is in use, as text; None when it is idle.

        In the host namespace Docker's device is DOWN, without master and address, for the milliseconds of a
        create or delete, and for ever when it leaked. In a sandbox it is UP and enslaved from the start, and
        UP without a master on the last leave: dockerd deletes the bridge first (moby ov_network.go,
        `destroySandbox`). There the endpoints decide, as a container that dies takes its veth pair along,
        without dockerd.
        """
        if self.addressed:
            return f"it has the IP address(es) {some(self.addresses)}"
        if self.identity.netns.is_host:
            if self.master is not None:
                return f"it is enslaved to the device with ifindex {self.master}"
            return "it is UP" if self.up else None
        if self.endpoints:
            return f"its sandbox has {self.endpoints} endpoint(s): {some(self.ports)}"
        return None

    @property
    def evidence(self) -> str:
        """The kernel's facts, as text, for a person to check."""
        facts = [
            "UP" if self.up else "DOWN",
            "no master" if self.master is None else f"master ifindex {self.master}",
        ]
        if self.identity.netns.is_host:
            facts.append(f"addresses {some(self.addresses)}" if self.addressed else "no address")
        else:
            names = f" ({some(self.ports)})" if self.endpoints else ""
            facts.append(f"{self.endpoints} endpoint(s) in its sandbox{names}")
        flags = [str(flag.name).lower() for flag in self.flags]
        facts.append(f"VXLAN flags {' '.join(flags) or 'none'}")
        if self.born_elsewhere:
            facts.append("created in another namespace than the host's")
        if self.ipv6:
            facts.append("IPv6 underlay")
        if self.kept_apart:
            facts.append("receive flags that Docker does not set")
        return ", ".join(facts)


class VethPair(NamedTuple):
    """A veth pair of a join, by the names and the ifindexes of its ends in the host namespace.

    `other` is empty, and its ifindex 0, where that end was moved into a sandbox.
    """

    one: str
    other: str
    ifindexes: tuple[int, int]


@dataclass(frozen=True, slots=True)
class View:
    """All VXLAN devices of a node; `limitations`: what could not be looked at, as text."""

    devices: tuple[Device, ...]
    limitations: tuple[str, ...] = ()


def some(names: Sequence[str]) -> str:
    """Join the first names, and count the others."""
    more = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
