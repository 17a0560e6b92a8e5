"""The link watch on real link events, in a private network namespace."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest

from tests.builders import NAME, PORT, VNI
from tests.integration.namespaces import KERNEL_PROGRAM, KernelProcess, Namespace
from tests.servers import await_true
from worker import watch as module
from worker.idle import IdleClock
from worker.kernel.model import Identity, View
from worker.kernel.socket import NETLINK_LISTEN_ALL_NSID, NetlinkSocket
from worker.watch import BETWEEN_LOOKS, RTMGRP_LINK, LinkWatch

pytestmark = pytest.mark.privileged

NEVER = 3600.0


class CountedKernel(KernelProcess):
    """Remembers what its looks showed, and can be held up."""

    def __init__(self, host: Namespace) -> None:
        super().__init__(host.command(*KERNEL_PROGRAM))
        self.views: list[View] = []
        self.open = threading.Event()
        self.open.set()

    def look(self) -> View:
        """See `Kernel.look`."""
        self.open.wait(60)
        view = super().look()
        self.views.append(view)
        return view

    def names(self) -> set[str]:
        """The names that the last look showed."""
        return {device.identity.name for device in self.views[-1].devices} if self.views else set()


class Watched:
    """A watch in a namespace, the hints it sent and when."""

    def __init__(self, host: Namespace, stack: ExitStack) -> None:
        self.host = host
        self.kernel = stack.enter_context(CountedKernel(host))
        self.hints: list[tuple[float, Sequence[Identity]]] = []
        self.sockets = 0
        self._stack = stack

    def watch(
        self, *, hint_after: float, events: Callable[[], NetlinkSocket] | None = None
    ) -> LinkWatch:
        """Start a watch, and wait for its first look."""
        watch = LinkWatch(
            kernel=self.kernel,
            clock=IdleClock(NEVER),
            hint_after=hint_after,
            data_path_port=lambda: PORT,
            drift=lambda devices: self.hints.append((time.monotonic(), devices)),
            events=events or self.open_socket,
        )
        watch.start()
        self._stack.callback(watch.stop)
        await_true(lambda: self.kernel.views, "the first look")
        return watch

    def open_socket(self) -> NetlinkSocket:
        """Open an event socket whose buffer a few events fill."""
        self.sockets += 1
        return self.host.open_netlink(groups=RTMGRP_LINK, receive_buffer=4096)

    def open_wide_socket(self) -> NetlinkSocket:
        """Open a socket that hears the peers too, as the worker does."""
        socket = self.host.open_netlink(groups=RTMGRP_LINK)
        socket.set_option(NETLINK_LISTEN_ALL_NSID)
        return socket

    def await_names(self, names: set[str]) -> None:
        """Wait for a look that shows just these devices."""
        await_true(lambda: self.kernel.names() == names, f"a look that shows {names or 'nothing'}")


@pytest.fixture
def watched(in_empty_namespace: int) -> Iterator[Watched]:
    with ExitStack() as stack:
        yield Watched(Namespace(in_empty_namespace), stack)


def test_a_leaked_device_leads_to_one_hint_after_a_while(watched: Watched) -> None:
    watched.watch(hint_after=0.3)
    began = time.monotonic()
    watched.host.add_vxlan(NAME, VNI)
    await_true(lambda: watched.hints, "a hint")
    # Another device makes it look again.
    watched.host.ip("link add vx-other type vxlan id 9 dstport 4789")
    watched.await_names({NAME, "vx-other"})
    ((at, devices),) = watched.hints
    assert [device.name for device in devices] == [NAME]
    assert at - began >= 0.3


def test_a_device_that_was_there_before_is_seen_without_any_event(watched: Watched) -> None:
    watched.host.add_vxlan(NAME, VNI)
    watched.watch(hint_after=0.3)
    await_true(lambda: watched.hints, "a hint")


def test_a_device_that_goes_before_that_is_not_told(watched: Watched) -> None:
    watched.watch(hint_after=NEVER)
    watched.host.add_vxlan(NAME, VNI)
    watched.await_names({NAME})
    watched.host.ip(f"link del {NAME}")
    watched.await_names(set())
    assert watched.hints == []


def test_a_device_in_use_is_not_told(watched: Watched) -> None:
    watched.watch(hint_after=0.2)
    watched.host.ip("link add ov-001003 type bridge")
    watched.host.add_vxlan("vx-001003-n0fxr", 0x1003, master="ov-001003")
    watched.host.add_vxlan(NAME, VNI)
    await_true(lambda: len(watched.hints) == 1, "a hint at the other")
    assert [device.name for device in watched.hints[0][1]] == [NAME]


def test_events_of_other_devices_cause_no_look(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bool] = []
    really = LinkWatch._matters

    def matters(self: LinkWatch, events: NetlinkSocket) -> bool:
        heard.append(really(self, events))
        return heard[-1]

    monkeypatch.setattr(LinkWatch, "_matters", matters)
    watched.watch(hint_after=NEVER)
    watched.host.ip("link add br0 type bridge")
    await_true(lambda: heard, "the new bridge was heard")
    before = len(heard)
    watched.host.ip("link set br0 up")
    await_true(lambda: len(heard) > before, "the bridge was heard again")
    assert not any(heard)
    watched.host.add_vxlan(NAME, VNI)
    watched.await_names({NAME})
    assert len(watched.kernel.views) == 2, "the first, and the one for the VXLAN device"


def test_lost_events_are_made_good_by_a_new_look(watched: Watched) -> None:
    watched.watch(hint_after=NEVER)
    watched.kernel.open.clear()
    watched.host.add_vxlan(NAME, VNI)  # It hears this, and is held up in the look that follows.
    words = "; ".join(f"ip link add dev d{n} type bridge" for n in range(100))
    watched.host.run("sh", "-ec", words)
    watched.kernel.open.set()
    await_true(lambda: watched.sockets == 2, "the socket that lost events is replaced")
    watched.await_names({NAME})
    watched.host.ip(f"link del {NAME}")
    watched.await_names(set())


def test_events_that_cannot_be_heard_at_first_are_heard_later(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.01)
    refusals = 3

    def events() -> NetlinkSocket:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise OSError("no socket to be had")
        return watched.open_socket()

    watched.watch(hint_after=NEVER, events=events)
    watched.host.add_vxlan(NAME, VNI)
    watched.await_names({NAME})


def test_a_stop_ends_the_thread_that_waits_for_events(in_empty_namespace: int) -> None:
    with ExitStack() as stack:
        watch = Watched(Namespace(in_empty_namespace), stack).watch(hint_after=NEVER)
        assert watch._thread.is_alive()
    assert not watch._thread.is_alive()


def test_a_sandbox_that_loses_its_last_endpoint_is_noticed_at_once(watched: Watched) -> None:
    """No VXLAN device changes, only a veth in another namespace goes."""
    watched.host.add_sandbox("sandbox", NAME, VNI, endpoint=True)
    watched.watch(hint_after=0.3, events=watched.open_wide_socket)
    looks = len(watched.kernel.views)
    watched.host.ip("-n sandbox link del veth0")
    await_true(lambda: watched.hints, "a hint")
    assert len(watched.kernel.views) > looks
    assert [str(device.netns) for device in watched.hints[0][1]] == ["nsid:0"]


def test_events_of_containers_cause_no_look(watched: Watched) -> None:
    """A namespace without a Docker device is none of our business, however busy it is."""
    watched.watch(hint_after=NEVER, events=watched.open_wide_socket)
    watched.host.ip("netns add container")
    watched.host.ip("link add veth7 type veth peer name eth0 netns container")
    for _ in range(5):
        watched.host.ip("-n container link set eth0 up")
        watched.host.ip("-n container link set eth0 down")
    watched.host.add_vxlan(NAME, VNI)
    watched.await_names({NAME})
    assert len(watched.kernel.views) == 2, "the first, and the one for the VXLAN device"


def test_a_storm_of_events_makes_few_looks_and_hides_nothing(watched: Watched) -> None:
    """Twenty thousand events of a VXLAN device, as fast as the kernel makes them."""
    watched.watch(hint_after=0.5)
    begun = time.monotonic()
    watched.host.add_vxlan(NAME, VNI)
    watched.host.ip("link add vx-storm type vxlan id 9 dstport 4799")
    storm_of = "\n".join(f"link set vx-storm mtu {1300 + n % 100}" for n in range(20_000))
    watched.host.run("ip", "-batch", "-", words=storm_of)
    await_true(lambda: watched.hints, "the hint")
    assert [device.name for device in watched.hints[0][1]] == [NAME]
    lasted = time.monotonic() - begun
    assert len(watched.kernel.views) <= 2 + lasted / BETWEEN_LOOKS, "no more than one look a burst"
