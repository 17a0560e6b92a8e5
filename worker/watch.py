"""The link watch: hears changes of VXLAN devices; hints at what looks dead, or differs from the report.

An event only means *look now*: a burst of events leads to one full look, which feeds the idle clock. So a
lost event costs time and nothing else, and a storm costs no more than a few looks a second.
"""

import contextlib
import math
import os
import select
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from worker.idle import IdleClock
from worker.kernel.api import Kernel, KernelError
from worker.kernel.model import Device, Identity, some
from worker.kernel.socket import NETLINK_LISTEN_ALL_NSID, EventsLostError, NetlinkSocket
from worker.ownership import why_foreign

log = structlog.get_logger(__name__)

Shown = frozenset[tuple[Identity, bool]]
"""The devices of a look or a report, and whether each looks dead."""

RTMGRP_LINK: Final = 1
_VXLAN_KIND: Final = b"vxlan\0"

BETWEEN_LOOKS: Final = 0.05
"""Minimum seconds from one look to the next: a lone event is looked at at once, a burst together."""

_MAX_DRAINED: Final = 1_000
_RETRY_SECONDS: Final = 1.0
_WHILE_IDLE_SECONDS: Final = 5.0
"""Seconds between looks while a device looks dead: so its stretch of idleness stays believed."""
_MIN_SECONDS_BETWEEN_HINTS: Final = 1.0
SETTLED_SECONDS: Final = 1.25
"""Seconds without a change after which a difference from the last report leads to a hint: Docker makes and
moves a device within a second, and what looks dead by then is drift."""
_UNSETTLED_SECONDS: Final = 5.0
"""Seconds after which it does although it goes on changing."""
_CHANGES: Final = 4
"""Hints of a changed device list that may follow each other closely."""
_CHANGE_EVERY_SECONDS: Final = 15.0
"""Seconds per such hint in the long run, however often devices change."""
_REPEAT_SECONDS: Final = (5.0, 15.0, 60.0)
"""Pauses after a drift hint until the next, while the devices stay."""

_STALLED_SECONDS: Final = 60.0
"""Seconds that a look and what follows may take; more is a hang."""


def hear_links() -> NetlinkSocket:
    """Open a socket for the link events of every numbered namespace, or at least of the host.

    Hearing the peers needs CAP_NET_BROADCAST besides CAP_NET_ADMIN (net/netlink/af_netlink.c). Without
    it nothing is missed, only seen later: a sandbox that goes idle is then found by the next run.
    """
    events = NetlinkSocket(groups=RTMGRP_LINK)
    try:
        events.set_option(NETLINK_LISTEN_ALL_NSID)
    except OSError as error:
        log.info("only the host namespace's link events are heard", error=str(error))
    return events


@dataclass(kw_only=True, eq=False)
class LinkWatch:
    """A thread that turns link events into looks, and looks into hints.

    Attributes:
        kernel: with a socket of its own, not that of the reconcile runs.
        clock: shared with the reconcile runs.
        hint_after: minimum seconds that a device looks dead before a hint.
        data_path_port: returns the Swarm's UDP port, as far as known.
        drift: sends a hint about devices.
        changed: sends a hint that the devices are not those of the last report, and how they differ.
    """

    kernel: Kernel
    clock: IdleClock
    hint_after: float
    data_path_port: Callable[[], int]
    drift: Callable[[Sequence[Identity]], None]
    changed: Callable[[str], None] = lambda _: None
    events: Callable[[], NetlinkSocket] = hear_links

    def __post_init__(self) -> None:
        self._stopping = threading.Event()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="link-watch", daemon=True)
        self._due_at = time.monotonic()
        self._sandboxes: set[int | None] = set()
        self._hinted: frozenset[Identity] = frozenset()
        self._hinted_at = -math.inf
        self._repeats = 0
        self._difference = _Difference()
        self._seen: Shown | None = None
        self._reported: Shown | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread, within `timeout` seconds."""
        self._stopping.set()
        os.eventfd_write(self._wake, 1)
        self._thread.join(timeout)
        if not self._thread.is_alive():
            os.close(self._wake)

    @property
    def stalled(self) -> bool:
        """Whether its thread has ended by itself, or is long overdue."""
        return not self._thread.is_alive() or time.monotonic() > self._due_at + _STALLED_SECONDS

    def reported(self, shown: Shown) -> None:
        """Take in what a report shows; the next look tells what differs from that."""
        self._reported = shown
        if self._seen is not None and shown != self._seen:
            os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with self.events() as events:
                    self._watch(events)
            except EventsLostError:
                # More than a socket holds: a storm. A new socket is empty, and a look follows.
                log.info("link events were lost, looking at everything again")
                self._wait(BETWEEN_LOOKS)
            except OSError as error:
                log.warning("link events cannot be heard, will try again", error=str(error))
                self._wait(_RETRY_SECONDS)
            except Exception:
                # A watch that died in silence would be its worst fault.
                log.exception("the link watch failed, restarting it")
                self._wait(_RETRY_SECONDS)

    def _watch(self, events: NetlinkSocket) -> None:
        """Look once, then after each burst of events and when a hint is due."""
        while not self._stopping.is_set():
            looked_at = time.monotonic()
            deadline = looked_at + self.look()
            while (left := deadline - time.monotonic()) > 0:
                if not self._wait(left, events):
                    continue
                if self._stopping.is_set():
                    return
                if self._was_woken():
                    break
                if self._matters(events):
                    self._wait(max(looked_at + BETWEEN_LOOKS - time.monotonic(), 0.0))
                    _drain(events)
                    break

    def _wait(self, seconds: float, events: NetlinkSocket | None = None) -> bool:
        """Wait for events, the stop, or `seconds`; return False if the time passed."""
        self._due_at = time.monotonic() + seconds
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        if events is not None:
            poller.register(events.fileno(), select.POLLIN)
        return bool(poller.poll(seconds * 1000))

    def _was_woken(self) -> bool:
        try:
            return os.eventfd_read(self._wake) > 0
        except BlockingIOError:
            return False

    def look(self) -> float:
        """Look, hint at devices that look dead, and return the seconds until the next look at the latest."""
        try:
            view = self.kernel.look()
        except KernelError as error:
            log.warning("the link watch cannot look", error=str(error))
            return _RETRY_SECONDS
        self.clock.saw(view.devices)
        self._seen = shown_by(view.devices)
        self._sandboxes = {device.identity.netns.nsid for device in view.devices}
        port = self.data_path_port()
        ages = {
            device.identity: idle.seconds
            for device in view.devices
            if why_foreign(device, port) is None
            and (idle := self.clock.idle(device.identity)) is not None
        }
        dead = frozenset(device for device, seconds in ages.items() if seconds >= self.hint_after)
        # Bounded: without devices, or a difference, nothing else ends the pause.
        pauses = [_REPEAT_SECONDS[-1]]
        pauses += [self.hint_after - ages[device] for device in ages.keys() - dead]
        if dead:
            pauses += [self._hint(dead), _WHILE_IDLE_SECONDS]
        else:
            self._hinted = dead
        if self._reported is not None:
            pauses.append(self._tell_change(self._seen, self._reported))
        return max(min(pauses), 0.001)

    def _matters(self, events: NetlinkSocket) -> bool:
        """Whether a datagram of events is a reason to look: of a VXLAN device, or in a sandbox any event.

        There the ports of its bridge distinguish a live device from a dead one.
        """
        nsid, messages = events.receive_events()
        in_sandbox = nsid is not None and nsid in self._sandboxes
        return in_sandbox or any(_VXLAN_KIND in body for _, body in messages)

    def _hint(self, dead: frozenset[Identity]) -> float:
        """Send a drift hint if one is due; return the seconds until the next may be.

        A new device is reported at once, one that stays ever more seldom; never more than one hint a second.
        """
        now = time.monotonic()
        new = not dead <= self._hinted
        pause = _MIN_SECONDS_BETWEEN_HINTS if new else _REPEAT_SECONDS[self._repeats]
        left = self._hinted_at + pause - now
        if left > 0:
            return left
        self._repeats = 0 if new else min(self._repeats + 1, len(_REPEAT_SECONDS) - 1)
        self._hinted, self._hinted_at = dead, now
        log.info("devices look dead", devices=[str(device) for device in dead])
        self.drift(sorted(dead, key=str))
        return _REPEAT_SECONDS[self._repeats]

    def _tell_change(self, seen: Shown, reported: Shown) -> float:
        """Send a hint if one is due that the devices differ; return the seconds until the next may be."""
        now = time.monotonic()
        left = self._difference.due_in(seen, reported, now)
        if left > 0:
            return left
        self._difference.tell(seen, now)
        how = describe_change(seen, reported)
        log.info("devices are not those of the last report", difference=how)
        self.changed(how)
        return self._difference.due_in(seen, reported, now)


class _Difference:
    """When devices that differ from the last report lead to a hint: settled, and not too often."""

    def __init__(self) -> None:
        self._seen: Shown | None = None
        self._changed_at = self._since = 0.0
        self._hinted: Shown | None = None
        self._hinted_at = 0.0
        self._repeats = 0
        self._tokens = float(_CHANGES)
        self._filled_at = 0.0

    def due_in(self, seen: Shown, reported: Shown, now: float) -> float:
        """Return the seconds until a hint is due; infinity: there is no difference."""
        if seen == reported:
            self._seen = self._hinted = None
            return math.inf
        if self._seen is None:
            self._since = now
        if seen != self._seen:
            self._seen, self._changed_at = seen, now
        due_at = min(self._changed_at + SETTLED_SECONDS, self._since + _UNSETTLED_SECONDS)
        if seen == self._hinted:
            due_at = self._hinted_at + _REPEAT_SECONDS[self._repeats]
        elif self._hinted is not None:
            due_at = max(due_at, self._hinted_at + SETTLED_SECONDS)
        if self._left(now) < 1:
            due_at = max(due_at, now + (1 - self._left(now)) * _CHANGE_EVERY_SECONDS)
        return max(due_at - now, 0.0)

    def tell(self, seen: Shown, now: float) -> None:
        """Note that a hint was sent."""
        repeated = seen == self._hinted
        self._repeats = min(self._repeats + 1, len(_REPEAT_SECONDS) - 1) if repeated else 0
        self._tokens = self._left(now) - 1
        self._filled_at = self._hinted_at = self._since = now
        self._hinted = seen

    def _left(self, now: float) -> float:
        filled = (now - self._filled_at) / _CHANGE_EVERY_SECONDS
        return min(self._tokens + filled, float(_CHANGES))


def shown_by(devices: Iterable[Device]) -> Shown:
    """Return what of devices decides whether a report still shows them as they are."""
    return frozenset((device.identity, device.looks_dead) for device in devices)


def describe_change(seen: Shown, reported: Shown) -> str:
    """Return how devices differ from those of a report, with a few names: `new: vx-001001-n0fxr in host`."""
    now, before = dict(seen), dict(reported)
    parts = {
        "new": now.keys() - before.keys(),
        "gone": before.keys() - now.keys(),
        "idle or in use again": {
            identity for identity in now.keys() & before.keys() if now[identity] != before[identity]
        },
    }
    return "; ".join(
        f"{what}: {some(sorted(f'{each.name} in {each.netns}' for each in which))}"
        for what, which in parts.items()
        if which
    )


def _drain(events: NetlinkSocket) -> None:
    """Drop queued events, up to a bound: the look that follows sees what came of them."""
    poller = select.poll()
    poller.register(events.fileno(), select.POLLIN)
    for _ in range(_MAX_DRAINED):
        if not poller.poll(0):
            return
        with contextlib.suppress(EventsLostError):  # A look follows anyway.
            events.receive_events()
