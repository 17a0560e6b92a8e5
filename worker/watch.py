"""The link watch: hears that VXLAN devices change, and says so when one has outstayed the grace period.

Events only say *look now*: each burst of them leads to one full look, which feeds the idle clock. So
a lost event costs time and nothing else, and a storm costs no more than a few looks a second. The
watch never removes anything; it sends a drift hint, and the controller asks for a run.
"""

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from contract.verdicts import Verdict
from worker.idle import IdleClock
from worker.judge import Networks, judge
from worker.kernel import Kernel, KernelError
from worker.netlink import EventsLostError, NetlinkSocket
from worker.view import Identity

log = structlog.get_logger(__name__)

RTMGRP_LINK: Final = 1
_VXLAN_KIND: Final = b"vxlan\0"

SETTLE_BURST: Final = 0.05
"""Seconds to let a burst of events end before looking: one teardown makes several."""

_MOST_DRAINED: Final = 10_000
_RETRY_SECONDS: Final = 1.0
_REPEAT_SECONDS: Final = (5.0, 15.0, 60.0)
"""How long after a drift hint the next follows, while the devices stay."""


class LinkWatch:
    """A thread that turns link events into looks, and what they show into drift hints.

    Args:
        kernel: where to look; its own socket, not that of the reconcile runs.
        clock: the idle clock, shared with the reconcile runs.
        grace: seconds that a device must have carried nothing to be an orphan.
        data_path_port: tells the Swarm's UDP port, as far as known.
        drift: called with the identities of devices that outstayed the grace period.
        events: opens the socket that hears link events.
    """

    def __init__(
        self,
        *,
        kernel: Kernel,
        clock: IdleClock,
        grace: float,
        data_path_port: Callable[[], int],
        drift: Callable[[Sequence[Identity]], None],
        events: Callable[[], NetlinkSocket] = lambda: NetlinkSocket(groups=RTMGRP_LINK),
    ) -> None:
        self._kernel = kernel
        self._clock = clock
        self._grace = grace
        self._data_path_port = data_path_port
        self._drift = drift
        self._events = events
        self._stopping = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="link-watch", daemon=True)
        self._told: frozenset[Identity] = frozenset()
        self._repeats = 0
        self._repeat_at = 0.0

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
                log.warning("link events were lost, looking at everything again")
            except OSError as error:
                log.warning("link events cannot be heard, will try again", error=str(error))
                self._wait(_RETRY_SECONDS)

    def _watch(self, events: NetlinkSocket) -> None:
        """Look once, then after each burst of events and when a device is about to outstay."""
        while not self._stop_asked():
            deadline = time.monotonic() + self.look()
            while (left := deadline - time.monotonic()) > 0:
                if not self._wait(left, events):
                    continue
                if self._stop_asked():
                    return
                if _about_vxlan(events):
                    self._wait(SETTLE_BURST)
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
        """Look, tell what has outstayed, and return after how many seconds to look again at the latest."""
        try:
            view = self._kernel.look()
        except KernelError as error:
            log.warning("the link watch cannot look", error=str(error))
            return _RETRY_SECONDS
        self._clock.saw(view.devices)
        networks = Networks({}, {}, self._data_path_port())
        judgements = judge(view.devices, networks, self._clock.idle_for, self._grace)
        self._tell(
            frozenset(each.device.identity for each in judgements if each.verdict is Verdict.ORPHAN)
        )
        settling = [each.settles_in for each in judgements if each.settles_in is not None]
        if self._told:
            # Often enough for the idle clock to go on believing what it saw.
            settling.append(max(self._grace, _RETRY_SECONDS))
        return max(min(settling, default=_REPEAT_SECONDS[-1]), 0.001)

    def _tell(self, orphans: frozenset[Identity]) -> None:
        """Send a drift hint for what is new at once, and for what stays ever more seldom."""
        now = time.monotonic()
        if orphans - self._told:
            self._repeats = 0
        elif not orphans or now < self._repeat_at:
            self._told = orphans
            return
        self._told = orphans
        self._repeat_at = now + _REPEAT_SECONDS[min(self._repeats, len(_REPEAT_SECONDS) - 1)]
        self._repeats += 1
        log.info("devices have outstayed the grace period", devices=[str(each) for each in orphans])
        self._drift(sorted(orphans, key=str))


def _about_vxlan(events: NetlinkSocket) -> bool:
    """Whether one datagram of events mentions a VXLAN device. Cheap: no decoding, a look decides."""
    _, messages = events.receive_events()
    return any(_VXLAN_KIND in body for _, body in messages)


def _drain(events: NetlinkSocket) -> None:
    """Drop what is queued, a bounded share of it: the look that follows sees what came of it."""
    poller = select.poll()
    poller.register(events.fileno(), select.POLLIN)
    for _ in range(_MOST_DRAINED):
        if not poller.poll(0):
            return
        with contextlib.suppress(EventsLostError):  # A look follows anyway.
            events.receive_events()
