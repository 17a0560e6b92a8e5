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
    """What the worker asks of a kernel. `RouteNetlink` is the real one.

    Each method raises KernelError where the kernel refuses or cannot be asked; UnansweredError, which is one,
    where its answer does not come. A list is whole, or that is an error.
    """

    def check_capability(self) -> None:
        """Make sure that an empty answer would mean that there is nothing.

        Raises:
            NotPermittedError: CAP_NET_ADMIN is missing.
        """

    def look(self) -> View:
        """List every VXLAN device with its evidence."""

    def look_at(self, netns: Netns) -> tuple[Device, ...]:
        """List the VXLAN devices of a namespace; none when it is gone."""

    def read(self, netns: Netns, ifindex: int) -> Device | None:
        """Read a device afresh; None when that namespace has no VXLAN device with that index."""

    def joins_under_way(self) -> tuple[VethPair, ...]:
        """List the veth pairs that may be those of a container that is joining a network.

        Docker makes a pair in the host namespace before it moves one end into the network's sandbox
        (moby libnetwork/drivers/overlay: `createVethPair` in joinleave.go). So here are pairs with both
        ends there, neither with a master, both named as Docker names them. Docker's bridge networks make
        such pairs too.
        """

    def sandbox_files(self) -> Mapping[int, str]:
        """Map the nsids of peer namespaces with a file in Docker's directories to the file's path.

        Docker mounts each sandbox's namespace there. A directory or a file that is missing, or that
        this process may not open, is left out.
        """

    def delete(self, netns: Netns, ifindex: int) -> None:
        """Delete the device with this index. Compare its identity first: nothing else is checked.

        Raises:
            GoneError: there is no such device.
        """

    def set_group(self, ifindex: int, group: int) -> None:
        """Put a device of the host namespace into a link group (0: the default one).

        Of the host alone: a change of a link takes IFLA_TARGET_NETNSID for where to *move* the host's
        device of that ifindex (do_setlink, net/core/rtnetlink.c), not for where to find it.

        Raises:
            GoneError: there is no such device.
        """

    def group_members(self, group: int) -> frozenset[int]:
        """List the ifindexes of all devices of any kind in a link group of the host namespace."""

    def delete_group(self, group: int) -> None:
        """Delete all devices of a link group of the host namespace at once. Look at its members first.

        The kernel waits for its readers (RCU) once for all of them, not once for each.
        Where it refuses, all of them are still there.
        """
