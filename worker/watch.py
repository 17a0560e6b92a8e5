"""The link watch: hears that VXLAN devices change, and says so when one looks dead for longer than a join.

Events only say *look now*: each burst of them leads to one full look, which feeds the idle clock. So
a lost event costs time and nothing else, and a storm costs no more than a few looks a second. The
watch never removes anything; it sends a drift hint, and the controller asks for a run.
"""

import contextlib
import math
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from worker.idle import IdleClock
from worker.kernel.api import Kernel, KernelError
from worker.kernel.model import Identity
from worker.kernel.socket import NETLINK_LISTEN_ALL_NSID, EventsLostError, NetlinkSocket
from worker.ownership import why_foreign

log = structlog.get_logger(__name__)

RTMGRP_LINK: Final = 1
_VXLAN_KIND: Final = b"vxlan\0"

BETWEEN_LOOKS: Final = 0.05
"""Seconds from one look to the next at the least: a lone event is looked at once, a burst together."""

_MAX_DRAINED: Final = 1_000
_RETRY_SECONDS: Final = 1.0
_WHILE_IDLE_SECONDS: Final = 5.0
"""Between two looks while something looks dead: so its stretch of idleness stays believed."""
_MIN_SECONDS_BETWEEN_HINTS: Final = 1.0
_REPEAT_SECONDS: Final = (5.0, 15.0, 60.0)
"""How long after a drift hint the next follows, while the devices stay."""


def hear_links() -> NetlinkSocket:
    """Open a socket that hears link events: of every numbered namespace, or at least of the host.

    Hearing the peers wants CAP_NET_BROADCAST besides CAP_NET_ADMIN (net/netlink/af_netlink.c). Without
    it nothing is missed, only seen later: a sandbox that goes idle is then found by the next run.
    """
    events = NetlinkSocket(groups=RTMGRP_LINK)
    try:
        events.set_option(NETLINK_LISTEN_ALL_NSID)
    except OSError as error:
        log.info("only the host namespace's link events are heard", error=str(error))
    return events


class LinkWatch:
    """A thread that turns link events into looks, and what they show into drift hints.

    Args:
        kernel: where to look; its own socket, not that of the reconcile runs.
        clock: the idle clock, shared with the reconcile runs.
        hint_after: seconds that a device must look dead to be worth a hint.
        data_path_port: tells the Swarm's UDP port, as far as known.
        drift: called with the identities of devices that have looked dead for so long.
        events: opens the socket that hears link events.
    """

    def __init__(
        self,
        *,
        kernel: Kernel,
        clock: IdleClock,
        hint_after: float,
        data_path_port: Callable[[], int],
        drift: Callable[[Sequence[Identity]], None],
        events: Callable[[], NetlinkSocket] = hear_links,
    ) -> None:
        self._kernel = kernel
        self._clock = clock
        self._hint_after = hint_after
        self._data_path_port = data_path_port
        self._drift = drift
        self._events = events
        self._stopping = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="link-watch", daemon=True)
        self._sandboxes: frozenset[int | None] = frozenset()
        self._told: frozenset[Identity] = frozenset()
        self._told_at = -math.inf
        self._repeats = 0

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread, within `timeout` seconds."""
        self._stopping = True
        os.eventfd_write(self._wake, 1)
        self._thread.join(timeout)
        if not self._thread.is_alive():
            os.close(self._wake)

    def _run(self) -> None:
        while not self._stop_asked():
            try:
                with self._events() as events:
                    self._watch(events)
            except EventsLostError:
                # More than a socket holds: a storm. A new socket is empty, and a look follows.
                log.info("link events were lost, looking at everything again")
                self._wait(BETWEEN_LOOKS)
            except OSError as error:
                log.warning("link events cannot be heard, will try again", error=str(error))
                self._wait(_RETRY_SECONDS)
            except Exception:
                # A watch that died in silence would be the worst of its faults.
                log.exception("the link watch failed, starting it again")
                self._wait(_RETRY_SECONDS)

    def _watch(self, events: NetlinkSocket) -> None:
        """Look once, then after each burst of events and when it is time to tell of a device."""
        while not self._stop_asked():
            looked_at = time.monotonic()
            deadline = looked_at + self.look()
            while (left := deadline - time.monotonic()) > 0:
                if not self._wait(left, events):
                    continue
                if self._stop_asked():
                    return
                if self._matters(events):
                    self._wait(max(looked_at + BETWEEN_LOOKS - time.monotonic(), 0.0))
                    _drain(events)
                    break

    def _stop_asked(self) -> bool:
        return self._stopping

    def _wait(self, seconds: float, events: NetlinkSocket | None = None) -> bool:
        """Wait for events, the stop, or the time to pass; return whether it was not the time."""
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        if events is not None:
            poller.register(events.fileno(), select.POLLIN)
        return bool(poller.poll(seconds * 1000))

    def look(self) -> float:
        """Look, tell what looks dead, and return after how many seconds to look again at the latest."""
        try:
            view = self._kernel.look()
        except KernelError as error:
            log.warning("the link watch cannot look", error=str(error))
            return _RETRY_SECONDS
        self._clock.saw(view.devices)
        self._sandboxes = frozenset(
            each.identity.netns.nsid for each in view.devices if not each.identity.netns.is_host
        )
        port = self._data_path_port()
        ages = {
            each.identity: idle.seconds
            for each in view.devices
            if why_foreign(each, port) is None
            and (idle := self._clock.idle(each.identity)) is not None
        }
        dead = frozenset(each for each, seconds in ages.items() if seconds >= self._hint_after)
        again = [self._hint_after - ages[each] for each in ages.keys() - dead]
        if dead:
            again += [self._tell(dead), _WHILE_IDLE_SECONDS]
        else:
            self._told = dead
        return max(min(again, default=_REPEAT_SECONDS[-1]), 0.001)

    def _matters(self, events: NetlinkSocket) -> bool:
        """Whether one datagram of events is a reason to look. Cheap: no decoding, a look decides.

        That is whatever mentions a VXLAN device, and in a sandbox whatever happens: the ports of its
        bridge are what tells a live one from a dead one.
        """
        nsid, messages = events.receive_events()
        if nsid is not None and nsid in self._sandboxes:
            return True
        return any(_VXLAN_KIND in body for _, body in messages)

    def _tell(self, dead: frozenset[Identity]) -> float:
        """Send a drift hint when it is time for one; return in how many seconds the next may be.

        What is new is told at once, what stays ever more seldom; never more than one hint a second.
        """
        now = time.monotonic()
        new = not dead <= self._told
        pause = _MIN_SECONDS_BETWEEN_HINTS if new else _REPEAT_SECONDS[self._repeats]
        left = self._told_at + pause - now
        if left > 0:
            return left
        self._repeats = 0 if new else min(self._repeats + 1, len(_REPEAT_SECONDS) - 1)
        self._told, self._told_at = dead, now
        log.info("devices look dead", devices=[str(each) for each in dead])
        self._drift(sorted(dead, key=str))
        return _REPEAT_SECONDS[self._repeats]


def _drain(events: NetlinkSocket) -> None:
    """Drop what is queued, a bounded share of it: the look that follows sees what came of it."""
    poller = select.poll()
    poller.register(events.fileno(), select.POLLIN)
    for _ in range(_MAX_DRAINED):
        if not poller.poll(0):
            return
        with contextlib.suppress(EventsLostError):  # A look follows anyway.
            events.receive_events()
