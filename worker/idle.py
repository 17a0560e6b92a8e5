"""Since when each device has been known to carry nothing: the one fact that every proof is about.

The kernel keeps no creation time, and a sandbox that lost its last endpoint a moment ago may be torn
down by dockerd in the next: what counts is the unbroken time of carrying nothing, under one identity.

Looks can miss a moment of use in between. So a stretch of idleness is believed only while the looks
at it lie close together; after a longer gap it begins anew.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import uuid4

from contract.messages import Stamp
from worker.kernel.model import Device, Identity

ATTEMPT_SECONDS: Final = 0.2
"""More than lies between a dockerd's failed attempt at a device and the time that it writes into the task,
unless it is held up just then (`LATE_SECONDS`). Not much more: a dockerd that was started again was seen to
make its first attempt 0.4 s after its containers' end, and that is the one that should prove.
"""

HINT_SECONDS: Final = 1.0
"""For how long a device must look dead to be worth a word: a healthy join or leave takes milliseconds, and on
two busy cores none was seen to take as long."""

LATE_SECONDS: Final = 60.0
"""How long a dockerd that is held up may take to write that time. What it says so soon after a device went
that it may have found in its way, may still be about that one."""

_STEP_SECONDS: Final = 1.0
"""By more the time of day moves only when somebody sets it; by less it is always being put right."""


class Idle(NamedTuple):
    """A stretch of idleness.

    Attributes:
        seconds: how long it has lasted.
        began: its beginning by the clock of this process, as in `Stamp.seconds`.
        since: its beginning by this machine's time of day; the later of two readings where that was set.
        rejections_from: a rejection dated up to then may be older than the stretch. Later than `since`
            where the time of day was set back: the highest that it had shown.
    """

    seconds: float
    began: float
    since: datetime
    rejections_from: datetime


@dataclass(frozen=True, slots=True)
class _Start:
    """A time.

    Attributes:
        monotonic: by the clock that never goes back.
        at: by the time of day.
        ahead: seconds that the time of day was ahead of the other then.
        highest: the highest that the time of day can have shown until then, as far as this process looked.
    """

    monotonic: float
    at: datetime
    ahead: float
    highest: datetime


class IdleClock:
    """Thread-safe: the link watch and the reconcile runs share it.

    Args:
        believed_gap: seconds that may lie between two looks at one stretch of idleness.
        now: a clock in seconds that never goes back.
        utcnow: the time of day.
    """

    def __init__(
        self,
        believed_gap: float,
        now: Callable[[], float] = time.monotonic,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._session = uuid4()
        self._believed_gap = believed_gap
        self._now = now
        self._utcnow = utcnow
        self._starts: dict[Identity, _Start] = {}
        self._first: dict[Identity, _Start] = {}
        self._in_the_way: set[Identity] = set()
        self._went: dict[int, tuple[int, _Start]] = {}
        self._looked_at = now()
        self._ahead = 0.0
        self._highest = datetime.min.replace(tzinfo=UTC)
        self._doubtful_until = self._highest
        self._lock = threading.Lock()

    def saw(self, devices: Iterable[Device]) -> None:
        """Take in a full look: start the clocks of what is idle, drop all others."""
        there = {device.identity: device.looks_dead for device in devices}
        with self._lock:
            now = self._start()
            self._miss(there, now)
            close = now.monotonic - self._looked_at <= self._believed_gap
            before = self._starts if close else {}
            self._starts = {
                identity: before.get(identity, now) for identity, idle in there.items() if idle
            }
            self._first = {identity: self._first.get(identity, now) for identity in there}
            self._looked_at = now.monotonic

    def idle(self, identity: Identity) -> Idle | None:
        """Its stretch of idleness that lasts still; None if the last look did not show one."""
        with self._lock:
            start = self._starts.get(identity)
            if start is None:
                return None
            seconds = self._now() - start.monotonic
            return Idle(seconds, start.monotonic, self._by_now(start), self._rejections_from(start))

    def _start(self) -> _Start:
        """Read both clocks."""
        monotonic, at = self._now(), self._utcnow()
        # Until it was set back, just now perhaps, it went on from the last look.
        shown = datetime.fromtimestamp(monotonic + self._ahead, UTC)
        self._highest = max(self._highest, at, shown)
        if self._highest - at > timedelta(seconds=_STEP_SECONDS):
            self._doubtful_until = self._highest
        self._ahead = at.timestamp() - monotonic
        return _Start(monotonic, at, self._ahead, self._highest)

    def _rejections_from(self, start: _Start) -> datetime:
        """Up to when a rejection may be older than a start, by a clock that was set back since."""
        return max(self._by_now(start), start.highest, self._doubtful_until)

    def _miss(self, there: Mapping[Identity, bool], now: _Start) -> None:
        """Note which devices went that dockerd may have found in its way."""
        for identity in self._starts.keys() - there.keys():
            if now.monotonic - self._starts[identity].monotonic > ATTEMPT_SECONDS:
                self._in_the_way.add(identity)
        for identity in self._in_the_way - there.keys():
            self._went[identity.vni] = (identity.ifindex, now)
        self._in_the_way &= there.keys()
        if not self._went:
            return
        moved = {(each.vni, each.ifindex) for each in there}
        self._went = {
            vni: (ifindex, went)
            for vni, (ifindex, went) in self._went.items()
            # One that was only moved to another namespace keeps its number, nearly always.
            if (vni, ifindex) not in moved and now.monotonic - went.monotonic <= LATE_SECONDS
        }

    def in_the_way(self, identity: Identity) -> None:
        """Note that dockerd has found a device in its way, or may have: it is no secret when it goes."""
        with self._lock:
            self._in_the_way.add(identity)

    def _by_now(self, start: _Start) -> datetime:
        """When something was, by the time of day as it was then, or is since the last look: the later one.

        A clock that was set back must not make old news look new, nor one set forward.
        """
        step = self._ahead - start.ahead
        return start.at + timedelta(seconds=step) if step > _STEP_SECONDS else start.at

    def seen_since(self, identity: Identity) -> datetime | None:
        """Since when it is known to be there, for a rejection to be about it; None if it was not seen."""
        with self._lock:
            first = self._first.get(identity)
            return None if first is None else self._rejections_from(first)

    def went(self, vni: int) -> datetime | None:
        """When a device of this VNI went that dockerd may have found in its way; None: not lately."""
        with self._lock:
            _, went = self._went.get(vni, (0, None))
            if went is None or self._now() - went.monotonic > LATE_SECONDS:
                return None
            return self._by_now(went)

    def stamp(self) -> Stamp:
        """This moment, for a controller to give back."""
        return Stamp(session=self._session, seconds=self._now())

    def spans(self, idle: Idle, stamp: Stamp, seconds: float = 0.0) -> bool:
        """Whether a stretch began more than so many seconds before a moment of this process.

        Of another process's moments nothing is known, and one that is still to come was never said.
        """
        return (
            stamp.session == self._session
            and stamp.seconds <= self._now()
            and stamp.seconds - idle.began > seconds
        )
