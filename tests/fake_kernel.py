"""A kernel in memory, for the worker: it keeps state, and anything can go wrong between two calls.

`tests/integration/test_kernel.py` holds the real one to the same behaviour.
"""

import errno
from collections import deque
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from worker.port import GoneError, KernelError, NotPermittedError
from worker.view import HOST, Device, Identity, Place, View

Operation = Literal[
    "check_capability",
    "look",
    "look_at",
    "read",
    "delete",
    "set_group",
    "group_members",
    "delete_group",
]


class Hit(NamedTuple):
    """One confirmed delete: where, and what was there. None: something that is not VXLAN."""

    place: Place
    ifindex: int
    device: Device | None

    @property
    def identity(self) -> Identity | None:
        """The identity of what was there."""
        return None if self.device is None else self.device.identity


class FakeKernel:
    """Implements `worker.port.Kernel`.

    Attributes:
        hits: every device that a delete removed, in order.
        asked: every call, in order.
        permitted: whether the caller has CAP_NET_ADMIN.
        limits: what a look says it could not see.
        takes_effect: whether a confirmed delete really removes the device.
    """

    def __init__(self, devices: Iterable[Device] = ()) -> None:
        self.hits: list[Hit] = []
        self.asked: list[Operation] = []
        self.permitted = True
        self.limits: tuple[str, ...] = ()
        self.takes_effect = True
        self._links: dict[tuple[Place, int], Device | None] = {}
        self._groups: dict[int, int] = {}
        self._before: dict[Operation, deque[Callable[[], None]]] = {}
        for device in devices:
            self.put(device)

    # What happens on the machine.

    def put(self, device: Device) -> None:
        """Let a device be there, as it is now; what had its ifindex is gone."""
        self._links[device.identity.place, device.identity.ifindex] = device
        if device.identity.place.is_host:
            self._groups.pop(device.identity.ifindex, None)

    def group_of(self, ifindex: int) -> int:
        """The link group of a device in the host namespace."""
        return self._groups.get(ifindex, 0)

    def put_other(self, place: Place, ifindex: int) -> None:
        """Let something that is not a VXLAN device (a bridge, say) have this ifindex."""
        self._links[place, ifindex] = None

    def vanish(self, place: Place, ifindex: int) -> None:
        """Let a device go away by itself."""
        self._links.pop((place, ifindex), None)

    def end_namespace(self, place: Place) -> None:
        """Let a namespace go away, and everything in it."""
        self._links = {key: link for key, link in self._links.items() if key[0] != place}

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

    def forget_happenings(self) -> None:
        """Let nothing more happen that was to happen."""
        self._before.clear()

    # What the worker asks.

    def check_capability(self) -> None:
        """See `Kernel.check_capability`."""
        self._begin("check_capability")
        if not self.permitted:
            raise NotPermittedError(errno.EPERM, "CAP_NET_ADMIN is missing")

    def look(self) -> View:
        """See `Kernel.look`; like the real one it shows the host, and no peer, to the unpermitted."""
        self._begin("look")
        if self.permitted:
            return View(self.devices(), self.limits)
        return View(tuple(each for each in self.devices() if each.identity.place.is_host))

    def look_at(self, place: Place) -> tuple[Device, ...]:
        """See `Kernel.look_at`."""
        self._begin("look_at")
        return tuple(each for each in self.devices() if each.identity.place == place)

    def read(self, place: Place, ifindex: int) -> Device | None:
        """See `Kernel.read`."""
        self._begin("read")
        return self._links.get((place, ifindex))

    def delete(self, place: Place, ifindex: int) -> None:
        """See `Kernel.delete`: it takes whatever has the ifindex, as the real one does."""
        self._begin("delete")
        self._must_exist(place, ifindex)
        self._hit(place, ifindex)

    def set_group(self, ifindex: int, group: int) -> None:
        """See `Kernel.set_group`."""
        self._begin("set_group")
        self._must_exist(HOST, ifindex)
        self._groups[ifindex] = group

    def group_members(self, group: int) -> frozenset[int]:
        """See `Kernel.group_members`."""
        self._begin("group_members")
        return frozenset(
            ifindex
            for place, ifindex in self._links
            if place.is_host and self.group_of(ifindex) == group
        )

    def delete_group(self, group: int) -> None:
        """See `Kernel.delete_group`: it takes whatever is in the group, as the real one does."""
        self._begin("delete_group")
        for place, ifindex in list(self._links):
            if place.is_host and self.group_of(ifindex) == group:
                self._hit(place, ifindex)

    def _must_exist(self, place: Place, ifindex: int) -> None:
        if (place, ifindex) not in self._links:
            raise GoneError(errno.ENODEV, "there is no such device")

    def _hit(self, place: Place, ifindex: int) -> None:
        self.hits.append(Hit(place, ifindex, self._links[place, ifindex]))
        if self.takes_effect:
            del self._links[place, ifindex]

    def _begin(self, operation: Operation) -> None:
        self.asked.append(operation)
        happenings = self._before.get(operation)
        if happenings:
            happenings.popleft()()


def _fail(code: int) -> None:
    if code == errno.EPERM:
        raise NotPermittedError(code, "the kernel asks for CAP_NET_ADMIN")
    raise KernelError(code, f"errno {code}")
