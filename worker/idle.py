"""Since when each device has been idle: the one fact that every proof is about.

The kernel keeps no creation time, and dockerd may tear down a sandbox that lost its last endpoint a moment
ago: the unbroken time of idleness under one identity counts.

Looks can miss a use in between. So a stretch of idleness is believed only while the looks lie close together;
after a longer gap it restarts.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import uuid4

from contract.messages import Stamp
from worker.kernel.model import Device, Identity

ATTEMPT_SECONDS: Final = 0.2
"""More than lies between a dockerd's failed attempt at a device and the time that it writes into the task,
unless it is held up just then (`LATE_SECONDS`). Not much more: a restarted dockerd was seen to make its first
attempt 0.4 s after its containers' end, and that is the one that should prove."""

HINT_SECONDS: Final = 1.0
"""Minimum time that a device looks dead before a hint: on two busy cores, no join or leave took as long."""

LATE_SECONDS: Final = 60.0
"""Maximum time that a held-up dockerd takes to write that time. A rejection dated so soon after the end of a
device that dockerd may have found in its way may still be about that device."""

_STEP_SECONDS: Final = 1.0
"""A larger step of the time of day is one that was set; smaller ones are corrections."""


class Idle(NamedTuple):
    """A stretch of idleness.

    Attributes:
        began: its beginning by the clock of this process, as in `Stamp.seconds`.
        since: its beginning by this machine's time of day; the later of two readings where that was set.
        rejections_from: a rejection dated up to then may be older than the stretch. Later than `since`
            where the time of day was set back: the highest that it had shown.
    """

    seconds: float
    began: float
    since: datetime
    rejections_from: datetime


class _Time(NamedTuple):
    """One reading of both clocks.

    Attributes:
        at: by the time of day.
        ahead: seconds that the time of day was ahead of the other then.
        highest: the highest that the time of day can have shown until then, as far as this process read it.
    """

    monotonic: float
    at: datetime
    ahead: float
    highest: datetime


class IdleClock:
    """Remembers stretches of idleness. Thread-safe: the link watch and the reconcile runs share it.

    Args:
        believed_gap: maximum seconds between two looks at one stretch.
        shown: the highest time of day that is known to have been shown before this process; None: none is.
    """

    def __init__(
        self,
        believed_gap: float,
        now: Callable[[], float] = time.monotonic,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
        shown: datetime | None = None,
    ) -> None:
        self._session = uuid4()
        self._believed_gap = believed_gap
        self._now = now
        self._utcnow = utcnow
        self._starts: dict[Identity, _Time] = {}
        self._first: dict[Identity, _Time] = {}
        self._in_the_way: set[Identity] = set()
        self._went: dict[int, tuple[int, _Time]] = {}
        self._looked_at = now()
        self._ahead = 0.0
        self._highest = shown or datetime.min.replace(tzinfo=UTC)
        self._doubtful_until = self._highest
        self._lock = threading.Lock()

    def saw(self, devices: Iterable[Device]) -> None:
        """Take in a full look: start the stretches of idle devices, end all others."""
        present = {device.identity: device.looks_dead for device in devices}
        with self._lock:
            now = self._read_clocks()
            self._note_gone(present, now)
            close = now.monotonic - self._looked_at <= self._believed_gap
            before = self._starts if close else {}
            self._starts = {
                identity: before.get(identity, now) for identity, idle in present.items() if idle
            }
            self._first = {identity: self._first.get(identity, now) for identity in present}
            self._looked_at = now.monotonic

    def idle(self, identity: Identity) -> Idle | None:
        """Return the stretch of idleness that lasts; None if the device was not idle at the last look."""
        with self._lock:
            start = self._starts.get(identity)
            if start is None:
                return None
            seconds = self._now() - start.monotonic
            return Idle(seconds, start.monotonic, self._by_now(start), self._rejections_from(start))

    def _read_clocks(self) -> _Time:
        monotonic, at = self._now(), self._utcnow()
        # Until it was set back, just now perhaps, it went on from the last look.
        shown = datetime.fromtimestamp(monotonic + self._ahead, UTC)
        self._highest = max(self._highest, at, shown)
        if self._highest - at > timedelta(seconds=_STEP_SECONDS):
            self._doubtful_until = self._highest
        self._ahead = at.timestamp() - monotonic
        return _Time(monotonic, at, self._ahead, self._highest)

    def _rejections_from(self, start: _Time) -> datetime:
        return max(self._by_now(start), start.highest, self._doubtful_until)

    def _note_gone(self, present: Mapping[Identity, bool], now: _Time) -> None:
        """Note the devices that went, and that dockerd may have found in its way."""
        for identity in self._starts.keys() - present.keys():
            if now.monotonic - self._starts[identity].monotonic > ATTEMPT_SECONDS:
                self._in_the_way.add(identity)
        for identity in self._in_the_way - present.keys():
            self._went[identity.vni] = (identity.ifindex, now)
        self._in_the_way &= present.keys()
        if not self._went:
            return
        moved = {(identity.vni, identity.ifindex) for identity in present}
        self._went = {
            vni: (ifindex, went)
            for vni, (ifindex, went) in self._went.items()
            # One that was only moved to another namespace keeps its ifindex, nearly always.
            if (vni, ifindex) not in moved and now.monotonic - went.monotonic <= LATE_SECONDS
        }

    def in_the_way(self, identity: Identity) -> None:
        """Note that dockerd has found a device in its way, or may have: `went` then reports its end."""
        with self._lock:
            self._in_the_way.add(identity)

    def _by_now(self, start: _Time) -> datetime:
        """Return the later of a time by the time of day as it was then, and as it has been since.

        A clock that was set forward must not make old news look new.
        """
        step = self._ahead - start.ahead
        return start.at + timedelta(seconds=step) if step > _STEP_SECONDS else start.at

    def seen_since(self, identity: Identity) -> datetime | None:
        """Return since when a device is known to be there (see `Idle.rejections_from`); None if it is not."""
        with self._lock:
            first = self._first.get(identity)
            return None if first is None else self._rejections_from(first)

    def went(self, vni: int) -> datetime | None:
        """Return when a device of this VNI went that dockerd may have found in its way; None: not lately."""
        with self._lock:
            _, went = self._went.get(vni, (0, None))
            if went is None or self._now() - went.monotonic > LATE_SECONDS:
                return None
            return self._by_now(went)

    def stamp(self) -> Stamp:
        """Return the time by the clock of this process, for a controller to give back."""
        return Stamp(session=self._session, seconds=self._now())

    def spans(self, idle: Idle, stamp: Stamp, seconds: float = 0.0) -> bool:
        """Whether a stretch began more than `seconds` before a stamp of this process.

        A stamp of another process cannot be compared, and one of the future is forged.
        """
        ours = stamp.session == self._session and stamp.seconds <= self._now()
        return ours and stamp.seconds - idle.began > seconds
