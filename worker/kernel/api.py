"""What the worker asks of a kernel, and how a kernel refuses; `rtnetlink` is the real one."""

from collections.abc import Mapping
from typing import Protocol

from worker.kernel.model import Device, Netns, VethPair, View


class KernelError(Exception):
    """The kernel could not be asked, or refused. `code` is the errno."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class NotPermittedError(KernelError):
    """CAP_NET_ADMIN in the host's network namespace is missing."""


class GoneError(KernelError):
    """There is no such device (any more)."""


class UnansweredError(KernelError):
    """The kernel's answer to a request did not come: the request may have been carried out."""


class Kernel(Protocol):
    """What the worker asks of a kernel.

    Each method raises KernelError where the kernel refuses or cannot be asked; UnansweredError, which is one,
    where its answer does not come. A list is whole, or that is an error.
    """

    def check_capability(self) -> None:
        """Make sure that an empty answer would mean that there is nothing; else raise NotPermittedError."""

    def look(self) -> View:
        """List every VXLAN device with its evidence."""

    def look_at(self, netns: Netns) -> tuple[Device, ...]:
        """List the VXLAN devices of a namespace; none when it is gone."""

    def read(self, netns: Netns, ifindex: int) -> Device | None:
        """Read a device afresh; None when that namespace has no VXLAN device with that index."""

    def joins_under_way(self) -> tuple[VethPair, ...]:
        """List the veth pairs with an end in the host namespace, without a master and named as Docker's.

        Docker makes a pair there, moves one end into the network's sandbox, puts it on the bridge, and only
        then moves the other into the container (moby libnetwork drivers/overlay: `Join` in joinleave.go,
        osl: `AddInterface`). Its bridge networks make such pairs too.
        """

    def sandbox_files(self) -> Mapping[int, str]:
        """Map the nsids of Docker's sandboxes to the files of their namespaces, as far as those open."""

    def delete(self, netns: Netns, ifindex: int) -> None:
        """Delete what has this index, or raise GoneError. Compare its identity first: nothing is checked."""

    def set_group(self, ifindex: int, group: int) -> None:
        """Put a device of the host namespace into a link group (0: the default one), or raise GoneError.

        Of the host alone: a change of a link takes IFLA_TARGET_NETNSID for where to *move* the host's
        device of that ifindex (do_setlink, net/core/rtnetlink.c), not for where to find it.
        """

    def group_members(self, group: int) -> frozenset[int]:
        """List the ifindexes of all devices of any kind in a link group of the host namespace."""

    def delete_group(self, group: int) -> None:
        """Delete all devices of a link group of the host namespace at once. Look at its members first.

        Where the kernel refuses, all of them are still there.
        """
