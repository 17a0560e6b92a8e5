"""What the conditions of a node depend on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from contract.verdicts import Verdict
from controller.conditions.holds import Hold
from controller.conditions.model import Condition
from controller.db.states import RunState

QUIET: Final = timedelta(minutes=10)
"""So long after the last message that was refused or dropped nothing is said of it any more."""


@dataclass(frozen=True, slots=True)
class Dropping:
    """Messages of a node that were dropped because they are too many.

    Attributes:
        since: when the first of them came, after which there was no pause of `QUIET`.
        newest_at: when the last one came.
    """

    since: datetime
    newest_at: datetime


@dataclass(frozen=True, slots=True)
class Sign:
    """The newest sign of life of a node's worker.

    Attributes:
        at: when it came; None: before this controller listened.
        since: the time from which silence counts.
        allowed: the longest silence.
        every: seconds between signs.
        ended: whether the worker said that it ends.
        serves: the node id that the worker serves.
    """

    at: datetime | None
    since: datetime
    allowed: timedelta
    every: float
    ended: bool
    serves: str


@dataclass(frozen=True, slots=True)
class Holder:
    """A device that has the VNI which dockerd found taken.

    Attributes:
        device: its name and netns, as a person finds it.
        verdict, reason: its worker's judgement.
        in_the_way: whether that is why Docker cannot make its own, as far as the worker knows.
    """

    device: str
    verdict: Verdict
    reason: str
    in_the_way: bool = True


@dataclass(frozen=True, slots=True)
class Rejecting:
    """A network whose tasks the node rejects with the error of the fault.

    Attributes:
        network: its name, or the subnet if the network is unknown.
        vni: None: unknown.
        at: when the last task was rejected, by the node's clock.
        doubt: why the rejection proves nothing about a device; None: no doubt.
        holders: the devices with the VNI in the node's last report.
    """

    network: str
    vni: int | None
    at: datetime
    doubt: str | None = None
    holders: Sequence[Holder] = ()


@dataclass(frozen=True, slots=True)
class Unreplaced:
    """A key that a worker was asked to replace, and has not for too long.

    Attributes:
        asked_at: when a person asked.
    """

    key: str
    asked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What the conditions of a node depend on.

    Attributes:
        id: in the Swarm.
        typed: its hostname as it can be typed in a command, or its id.
        state: in the Swarm: `ready`, `down`, `unknown`, `disconnected`.
        joined_again_as: where it is down: the id under which it joined the Swarm again; None: it did not.
        served_as: the id that it had before it joined again, where its worker still serves that, as far as
            the worker's signs of life under that id tell; None: none does.
        unread_since: when the Swarm was last read, if it cannot be read now; None: it can.
        reports: whether its worker has reported since the Swarm called it down.
        seen_at: when its worker last reported; None: never.
        broker: why the leader cannot use the broker; None: it can.
        sign: the newest sign of life of its worker, where that shows a fault; None: it shows none.
        untrusted: keys of its worker that nobody vouches for, the newest first; none while one is believed.
        revoked: whether the newest of these was revoked.
        unreplaced: the key that its worker should have replaced by now; None: there is none.
        dropped_since: since when messages of its worker are dropped because they are too many; None: none is.
        stale: whether that is too long ago to say anything of now.
        silent: whether that is too long ago, with a controller there to receive reports.
        failures: consecutive runs that failed or were lost.
        last_run: state of the last closed run; None: there was none.
        running: whether a run is under way.
        missing: networks that should have a device there and have none.
        limitations: what its worker could not look at.
        holds: what holds removals back on the node or everywhere: pauses, breakers, modes.
        held: what holds some of its orphans back besides, and how many.
        conflicts, blocking, orphans: devices with that verdict; `orphans` includes the blocking ones.
        lookalikes: devices that have looked dead for a while, without proof.
        rejecting: networks whose tasks the node rejects with the error of the fault.
    """

    id: str = "NODE"
    typed: str = "NODE"
    state: str = "ready"
    joined_again_as: str | None = None
    served_as: str | None = None
    unread_since: datetime | None = None
    reports: bool = False
    seen_at: datetime | None
    broker: Condition | None = None
    sign: Sign | None = None
    untrusted: Sequence[str] = ()
    revoked: bool = False
    unreplaced: Unreplaced | None = None
    dropped_since: datetime | None = None
    stale: bool = False
    silent: bool = False
    failures: int = 0
    last_run: RunState | None = RunState.SUCCEEDED
    last_error: str | None = None
    running: bool = False
    generation: int = 1
    converged_generation: int = 1
    missing: Sequence[str] = ()
    limitations: Sequence[str] = ()
    holds: Sequence[Hold] = ()
    held: Sequence[tuple[Hold, int]] = ()
    conflicts: int = 0
    blocking: int = 0
    orphans: int = 0
    lookalikes: int = 0
    rejecting: Sequence[Rejecting] = ()
