"""A kernel in memory, for the worker: it keeps state, and anything can go wrong between two calls.

`tests/integration/test_kernel.py` holds the real one to the same behaviour.
"""

import errno
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, NamedTuple

from worker.kernel.api import (
    GoneError,
    KernelError,
    NotPermittedError,
    UnansweredError,
)
from worker.kernel.model import (
    HOST,
    Device,
    Identity,
    Netns,
    VethPair,
    View,
)

Operation = Literal[
    "check_capability",
    "look",
    "look_at",
    "read",
    "delete",
    "set_group",
    "group_members",
    "delete_group",
    "joins_under_way",
    "sandbox_files",
]


class Hit(NamedTuple):
    """One confirmed delete: where, and what was there. None: something that is not VXLAN."""

    netns: Netns
    ifindex: int
    device: Device | None

    @property
    def identity(self) -> Identity | None:
        """The identity of what was there."""
        return None if self.device is None else self.device.identity


class FakeKernel:
    """Implements `worker.kernel.api.Kernel`.

    Attributes:
        hits: every device that a delete removed, in order.
        asked: every call, in order.
        permitted: whether the caller has CAP_NET_ADMIN.
        limits: what a look says it could not see.
        takes_effect: whether a confirmed delete really removes the device.
        joins: the veth pairs of containers that are joining a network.
        files: what Docker's directories of sandboxes hold, by nsid.
    """

    def __init__(self, devices: Iterable[Device] = ()) -> None:
        self.hits: list[Hit] = []
        self.asked: list[Operation] = []
        self.permitted = True
        self.limitations: tuple[str, ...] = ()
        self.takes_effect = True
        self.joins: list[VethPair] = []
        self.files: dict[int, str] = {}
        self._links: dict[tuple[Netns, int], Device | None] = {}
        self._groups: dict[int, int] = {}
        self._before: dict[Operation, deque[Callable[[], None]]] = {}
        self._lost: Counter[Operation] = Counter()
        for device in devices:
            self.put(device)

    # What happens on the machine.

    def put(self, device: Device) -> None:
        """Let a device be there, as it is now; what had its ifindex is gone."""
        self._links[device.identity.netns, device.identity.ifindex] = device
        if device.identity.netns.is_host:
            self._groups.pop(device.identity.ifindex, None)

    def group_of(self, ifindex: int) -> int:
        """The link group of a device in the host namespace."""
        return self._groups.get(ifindex, 0)

    def put_other(self, netns: Netns, ifindex: int) -> None:
        """Let something that is not a VXLAN device (a bridge, say) have this ifindex."""
        self._links[netns, ifindex] = None

    def vanish(self, netns: Netns, ifindex: int) -> None:
        """Let a device go away by itself."""
        self._links.pop((netns, ifindex), None)

    def end_namespace(self, netns: Netns) -> None:
        """Let a namespace go away, and everything in it."""
        self._links = {key: link for key, link in self._links.items() if key[0] != netns}

    def devices(self) -> tuple[Device, ...]:
        """The VXLAN devices that are there."""
        return tuple(link for link in self._links.values() if link is not None)

    # What goes wrong.

    def before(self, operation: Operation, happening: Callable[[], None]) -> None:
        """Let something happen just before the next such call; each call takes one happening."""
        self._before.setdefault(operation, deque()).append(happening)

    def refuse(self, operation: Operation, code: int) -> None:
        """Let the next such call fail with an errno."""
        self.before(operation, lambda: _fail(code))

    def lose_answer(self, operation: Operation) -> None:
        """Let the next such call be carried out, or refused, and its answer not come."""
        self._lost[operation] += 1

    def forget_happenings(self) -> None:
        """Let nothing more happen that was to happen."""
        self._before.clear()
        self._lost.clear()

    # What the worker asks.

    def check_capability(self) -> None:
        """See `Kernel.check_capability`."""
        with self._call("check_capability"):
            if not self.permitted:
                raise NotPermittedError(errno.EPERM, "CAP_NET_ADMIN is missing")

    def look(self) -> View:
        """See `Kernel.look`; like the real one it shows the host, and no peer, to the unpermitted."""
        with self._call("look"):
            if self.permitted:
                return View(self.devices(), self.limitations)
            return View(tuple(each for each in self.devices() if each.identity.netns.is_host))

    def look_at(self, netns: Netns) -> tuple[Device, ...]:
        """See `Kernel.look_at`."""
        with self._call("look_at"):
            return tuple(each for each in self.devices() if each.identity.netns == netns)

    def read(self, netns: Netns, ifindex: int) -> Device | None:
        """See `Kernel.read`."""
        with self._call("read"):
            return self._links.get((netns, ifindex))

    def joins_under_way(self) -> tuple[VethPair, ...]:
        """See `Kernel.joins_under_way`."""
        with self._call("joins_under_way"):
            return tuple(self.joins)

    def sandbox_files(self) -> Mapping[int, str]:
        """See `Kernel.sandbox_files`."""
        with self._call("sandbox_files"):
            return dict(self.files)

    def delete(self, netns: Netns, ifindex: int) -> None:
        """See `Kernel.delete`: it takes whatever has the ifindex, as the real one does."""
        with self._call("delete"):
            self._must_exist(netns, ifindex)
            self._hit(netns, ifindex)

    def set_group(self, ifindex: int, group: int) -> None:
        """See `Kernel.set_group`."""
        with self._call("set_group"):
            self._must_exist(HOST, ifindex)
            self._groups[ifindex] = group

    def group_members(self, group: int) -> frozenset[int]:
        """See `Kernel.group_members`."""
        with self._call("group_members"):
            return frozenset(
                ifindex
                for netns, ifindex in self._links
                if netns.is_host and self.group_of(ifindex) == group
            )

    def delete_group(self, group: int) -> None:
        """See `Kernel.delete_group`: it takes whatever is in the group, as the real one does."""
        with self._call("delete_group"):
            for netns, ifindex in list(self._links):
                if netns.is_host and self.group_of(ifindex) == group:
                    self._hit(netns, ifindex)

    def _must_exist(self, netns: Netns, ifindex: int) -> None:
        if (netns, ifindex) not in self._links:
            raise GoneError(errno.ENODEV, "there is no such device")

    def _hit(self, netns: Netns, ifindex: int) -> None:
        self.hits.append(Hit(netns, ifindex, self._links[netns, ifindex]))
        if self.takes_effect:
            del self._links[netns, ifindex]

    @contextmanager
    def _call(self, operation: Operation) -> Iterator[None]:
        """What the body does or raises is the answer, which may be lost."""
        self.asked.append(operation)
        lost = self._lost[operation] > 0
        self._lost[operation] -= lost
        try:
            happenings = self._before.get(operation)
            if happenings:
                happenings.popleft()()
            yield
        except KernelError:
            if not lost:
                raise
        if lost:
            raise UnansweredError(
                errno.ETIMEDOUT, f"{operation}: the kernel did not answer within 5 s"
            )


def _fail(code: int) -> None:
    if code == errno.EPERM:
        raise NotPermittedError(code, "the kernel asks for CAP_NET_ADMIN")
    raise KernelError(code, f"errno {code}")
