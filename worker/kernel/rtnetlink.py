"""The kernel's VXLAN devices over rtnetlink: look, read one again, delete.

What the kernel does:

* A VNI is unique per UDP port and *creation* namespace (`vxlan_configure_exists`, drivers/net/vxlan).
  A device that was moved elsewhere still blocks its VNI at home, though `ip link` there shows nothing.
* The host namespace numbers each peer namespace it has ever exchanged a device with: the nsid.
  RTM_GETNSID lists the numbers; a link request with IFLA_TARGET_NETNSID acts inside that peer, from a
  socket in the host namespace, given CAP_NET_ADMIN. No setns, no mount, no process of that namespace.
* A device that left the namespace of its creation carries IFLA_LINK_NETNSID, the nsid of that one as
  *we* see it, or -1 where we have no number for it; one that never left carries none. So the number
  that the host has for itself tells Docker's own devices from those of a Docker inside a Docker.
* Without CAP_NET_ADMIN a dump with a target ends empty, with the error inside NLMSG_DONE
  (`worker.kernel.socket` raises it), and a dump of the host succeeds: hence `check_capability`.
* A dump filter that the kernel does not know is ignored without a word: the kind is checked again.
"""

import contextlib
import errno
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Final, Self

from worker.kernel import requests
from worker.kernel.api import GoneError, KernelError, NotPermittedError, UnansweredError
from worker.kernel.linkmsg import (
    LinkDecoder,
    decode_address,
    decode_group,
    decode_nsid,
    decode_port,
    decode_veth,
)
from worker.kernel.model import HOST, Device, Netns, VethPair, View
from worker.kernel.socket import (
    NETLINK_GET_STRICT_CHK,
    InterruptedDumpError,
    NetlinkError,
    NetlinkSocket,
    NoAnswerError,
)
from worker.kernel.statistics import ErrorKind, statistics

SANDBOX_DIRECTORIES: Final = (
    Path("/run/docker/netns"),
    Path("/var/run/docker/netns"),
    Path("/run/snap.docker/netns"),
)
"""Where Docker mounts its sandboxes' namespaces (moby libnetwork/osl: `basePath` under the exec root)."""

_DOCKERS_VETH: Final = re.compile(r"veth[0-9a-f]{7}")
"""moby libnetwork/netutils: `GenerateIfaceName`, with the overlay driver's `vethPrefix` and `vethLen`."""

_TOO_OLD: Final = (
    "this kernel is older than 4.20 and shows only the host namespace: "
    "orphans hidden in other namespaces are not seen"
)

_UNENDED: Final = (
    "{count} network namespace(s) that nobody holds any more were not looked into: the kernel has not ended "
    "them yet, and until then a device in them keeps its VNI; if this lasts, see the kernel's log "
    "(`unregister_netdevice`), and reboot this node"
)

_ENDING_PAUSES: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds that a namespace may take to end: more than half a second was seen on a busy machine."""


class RouteNetlink:
    """A `Kernel`: that of this machine, through one netlink socket in the namespace of this process."""

    def __init__(
        self,
        netlink: NetlinkSocket,
        sleep: Callable[[float], None] = time.sleep,
        sandbox_directories: Sequence[Path] = SANDBOX_DIRECTORIES,
    ) -> None:
        self._netlink = netlink
        self._sleep = sleep
        self._sandbox_directories = sandbox_directories
        self._decoder = LinkDecoder()
        self._own: int | None = None
        self._unended: set[Netns] = set()
        """Namespaces that have ended, but had their number still after all pauses of a look."""
        self._limits: tuple[str, ...] = ()
        # A strict kernel refuses what it does not understand. One that cannot be strict (before
        # 4.20) would take no notice of a target, and show the host's devices as a peer's.
        try:
            netlink.set_option(NETLINK_GET_STRICT_CHK)
        except OSError as error:
            if error.errno != errno.ENOPROTOOPT:
                raise
            self._limits = (_TOO_OLD,)

    @classmethod
    def open(cls) -> Self:
        """Open a socket in this process's network namespace, or raise KernelError."""
        try:
            return cls(NetlinkSocket())
        except OSError as error:
            raise KernelError(error.errno or 0, f"no route netlink socket: {error}") from error

    def close(self) -> None:
        self._netlink.close()

    def check_capability(self) -> None:
        try:
            self._netlink.request(requests.CHANGE_NOTHING)
        except NetlinkError as error:
            if _is_answer(error, errno.ENODEV):
                return
            raise _translated(error, "asking for the right to look") from error
        raise KernelError(errno.EPROTO, "the kernel changed a device that cannot exist")

    def look(self) -> View:
        with statistics.look(), _translating("listing the VXLAN devices"):
            pauses = iter(_ENDING_PAUSES)  # Shared: many end together, and the look has one bound.
            devices = self._devices(HOST, pauses)
            peers = self._peers()
            self._unended.intersection_update(peers)
            for netns in peers:
                devices += self._devices(netns, pauses)
        unended = (_UNENDED.format(count=len(self._unended)),) if self._unended else ()
        return View(tuple(devices), self._limits + unended)

    def read(self, netns: Netns, ifindex: int) -> Device | None:
        try:
            devices = self._decoded(netns, self._netlink.request(requests.get_link(netns, ifindex)))
        except NetlinkError as error:
            if _is_answer(error, errno.ENODEV) or _is_gone(netns, error):
                return None
            raise _translated(error, f"reading the device with ifindex {ifindex}") from error
        return devices[0] if devices else None

    def look_at(self, netns: Netns) -> tuple[Device, ...]:
        with _translating(f"listing the VXLAN devices in {netns}"):
            return tuple(self._devices(netns, iter(_ENDING_PAUSES)))

    def joins_under_way(self) -> tuple[VethPair, ...]:
        with _translating("listing the veth pairs"):
            ends = [decode_veth(body) for _, body in self._netlink.dump(requests.DUMP_VETH)]
        waiting = {
            end.ifindex: end
            for end in ends
            if end is not None and end.master is None and _DOCKERS_VETH.fullmatch(end.name)
        }
        moved = tuple(
            VethPair(one.name, "", (one.ifindex, 0)) for one in waiting.values() if one.elsewhere
        )
        return moved + tuple(
            VethPair(one.name, other.name, (one.ifindex, other.ifindex))
            for one in waiting.values()
            if one.peer is not None
            and (other := waiting.get(one.peer)) is not None
            and one.ifindex < other.ifindex
        )

    def sandbox_files(self) -> Mapping[int, str]:
        files: dict[int, str] = {}
        paths: list[Path] = []
        for directory in self._sandbox_directories:
            with contextlib.suppress(OSError):
                paths += sorted(directory.iterdir())
        with _translating("asking for the numbers of Docker's sandboxes"):
            own = self._own_nsid()
            for path in paths:
                nsid = self._nsid_of(path)
                # Docker has a file for the host namespace too.
                if nsid is not None and nsid != own:
                    files.setdefault(nsid, str(path))
        return files

    def delete(self, netns: Netns, ifindex: int) -> None:
        try:
            self._netlink.request(requests.delete_link(netns, ifindex))
        except NetlinkError as error:
            if _is_gone(netns, error):
                raise GoneError(errno.ENODEV, f"there is no such device in {netns}") from error
            raise _translated(error, f"deleting the device with ifindex {ifindex}") from error

    def set_group(self, ifindex: int, group: int) -> None:
        with _translating(f"grouping the device with ifindex {ifindex}"):
            self._netlink.request(requests.set_group(ifindex, group))

    def group_members(self, group: int) -> frozenset[int]:
        with _translating("listing the devices of the host namespace"):
            links = [decode_group(body) for _, body in self._netlink.dump(requests.DUMP_HOST)]
        return frozenset(ifindex for ifindex, in_group in links if in_group == group)

    def delete_group(self, group: int) -> None:
        with _translating(f"deleting link group {group}"):
            self._netlink.request(requests.delete_group(group))

    def _devices(self, netns: Netns, pauses: Iterator[float]) -> list[Device]:
        """The devices in a namespace; none if it went away meanwhile, and they with it.

        A namespace that nobody holds any more answers as one that is gone, but keeps its number until
        the kernel has ended it. So there is another look after each of `pauses`, in seconds. The kernel ends
        one after another, which may take it long, and for ever if one is stuck: nobody lives in such a
        namespace or gets into it any more, so after that it is left out (`_unended`), and waited for no more.
        """
        while True:
            try:
                devices = self._decoded(netns, self._netlink.dump(requests.dump_vxlan(netns)))
            except NetlinkError as error:
                if not _is_gone(netns, error):
                    raise
                if netns not in self._peers():
                    self._unended.discard(netns)
                    return []
                pause = None if netns in self._unended else next(pauses, None)
                if pause is None:
                    self._unended.add(netns)
                    return []
            else:
                self._unended.discard(netns)
                return devices
            self._sleep(pause)

    def _peers(self) -> list[Netns]:
        if self._limits:
            return []
        nsids = [decode_nsid(body) for _, body in self._netlink.dump(requests.DUMP_NSIDS)]
        # The host may have a number for itself; its devices are listed already.
        return [Netns(nsid) for nsid in nsids if nsid is not None and nsid != self._own_nsid()]

    def _own_nsid(self) -> int | None:
        """The number that the host namespace has for itself, None while it has none.

        The kernel gives it when it first describes, to us, a device born here that lives elsewhere;
        from then on it stays.
        """
        if self._own is None:
            for _, body in self._netlink.request(requests.get_nsid("NETNSA_PID", os.getpid())):
                self._own = decode_nsid(body)
        return self._own

    def _nsid_of(self, path: Path) -> int | None:
        """The number of the namespace that this is the file of; None if it has none or is no such file."""
        try:
            # Whatever it is: without waiting for it, or letting it become our terminal.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:
            return None
        try:
            answers = self._netlink.request(requests.get_nsid("NETNSA_FD", descriptor))
        except NetlinkError as error:
            if _is_answer(error, errno.EINVAL):  # A file of another kind (get_net_ns_by_fd).
                return None
            raise
        finally:
            os.close(descriptor)
        return next((decode_nsid(body) for _, body in answers), None)

    def _decoded(self, netns: Netns, answers: list[tuple[int, bytes]]) -> list[Device]:
        """Decode what is VXLAN, and gather the rest of the evidence for it."""
        decode = self._decoder.vxlan
        links = [link for _, body in answers if (link := decode(netns, body)) is not None]
        if not links:
            return []
        addresses: Mapping[int, tuple[str, ...]] = {}
        ports: dict[int | None, tuple[str, ...]] = {}
        if netns.is_host:
            addresses = self._addresses({link.identity.ifindex for link in links})
        else:
            for bridge in {link.master for link in links}:
                # Mostly its own bridge has some: then nobody need look at the others.
                own = () if bridge is None else self._ports(netns, bridge)
                ports[bridge] = own or self._ports(netns, None)
        return [
            Device(
                identity=link.identity,
                up=link.up,
                master=link.master,
                addressed=link.identity.ifindex in addresses,
                flags=link.flags,
                born_elsewhere=self._is_foreign(netns, link.birth),
                endpoints=len(ports.get(link.master, ())),
                ports=ports.get(link.master, ()),
                addresses=addresses.get(link.identity.ifindex, ()),
                ipv6=link.ipv6,
                kept_apart=link.kept_apart,
            )
            for link in links
        ]

    def _is_foreign(self, netns: Netns, birth: int | None) -> bool:
        """Whether a device was created elsewhere than in the host namespace."""
        if netns.is_host:
            return birth is not None
        return birth is None or birth != self._own_nsid()

    def _addresses(self, ifindexes: Set[int]) -> Mapping[int, tuple[str, ...]]:
        found: defaultdict[int, tuple[str, ...]] = defaultdict(tuple)
        for _, body in self._netlink.dump(requests.DUMP_ADDRESSES):
            ifindex, address = decode_address(body)
            if ifindex in ifindexes:
                found[ifindex] += (address,)
        return found

    def _ports(self, netns: Netns, bridge: int | None) -> tuple[str, ...]:
        """The names of the ports of a bridge (None: of all bridges) that are no VXLAN devices."""
        answers = self._netlink.dump(requests.dump_sandbox(netns, bridge))
        return tuple(name for _, body in answers if (name := decode_port(body)) is not None)


def _is_gone(netns: Netns, error: NetlinkError) -> bool:
    """Whether the kernel answered as it does for a peer namespace that went away."""
    return not netns.is_host and _is_answer(error, errno.EINVAL, errno.ENODEV, errno.ESRCH)


def _is_answer(error: NetlinkError, *codes: int) -> bool:
    """Whether the kernel answered with one of these error numbers."""
    return error.errno in codes and not isinstance(error, NoAnswerError)


@contextlib.contextmanager
def _translating(doing: str) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        raise _translated(error, doing) from error


def _translated(error: NetlinkError, doing: str) -> KernelError:
    """Make the typed error of an errno."""
    code = error.errno or 0
    if isinstance(error, NoAnswerError):
        statistics.add_error(ErrorKind.UNANSWERED)
        return UnansweredError(code, f"{doing}: {error.strerror}")
    if code in (errno.EPERM, errno.EACCES):
        statistics.add_error(ErrorKind.NOT_PERMITTED)
        return NotPermittedError(
            code, f"{doing}: the kernel asks for CAP_NET_ADMIN in the host's network namespace"
        )
    if code == errno.ENODEV:
        return GoneError(code, f"{doing}: there is no such device")
    interrupted = isinstance(error, InterruptedDumpError)
    statistics.add_error(ErrorKind.INTERRUPTED if interrupted else ErrorKind.OTHER)
    return KernelError(code, f"{doing}: {error.strerror}")
