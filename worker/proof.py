"""Whether a device that looks dead is dead: what proves it, or what is waited for. Pure.

Idleness is no proof: between making the device of a network and moving the first container's end of a veth
pair into the sandbox, a dockerd that is stopped, starved or waits for its disk leaves just what a dead one
leaves. Eight seconds of SIGSTOP and a grace period of five took a living device. One of these must be shown:

* *rejected*: dockerd itself tried to make the device, and failed because it was there. (moby
  libnetwork/drivers/overlay/ov_network.go makes a subnet's device only while it has none, and adopts none.)
* *unwanted*: the Swarm, read after the device went idle, has no task or container on this node that could
  need it. A task counts until the node's own dockerd has reported its end. (Even a join that failed
  after the sandbox was made leaves nothing that dockerd owns once the network has left the node: tried on
  20.10, by taking away the veth pair in the middle of a join.)
* *unclaimed*, in the host namespace or of the ingress network: nobody took it up for minutes, though the
  node's dockerd was there all the time. Of another network that is wanted here, a sandbox without an
  endpoint may be dockerd's own for any time: after a join that failed for another reason
  (`joinCnt` in ov_network.go), or for a subnet that has only peers on other nodes (peerdb.go). There a
  rejected task tells.

The kernel's evidence comes first and is read again just before the deletion; no clock of another machine is
compared with ours.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from contract.messages import Rejection, SwarmReading
from contract.verdicts import Proof
from worker.idle import ATTEMPT_SECONDS, LATE_SECONDS, Idle, IdleClock
from worker.kernel.model import Device, Identity, VethPair
from worker.networks import Networks

REJECTION_SECONDS: Final = 60.0
"""Maximum age of a rejection: a dockerd that was restarted since may have taken over what it found
(libnetwork restores the sandboxes of endpoints in its store, up to 23.0)."""

JOIN_PAUSE_SECONDS: Final = 0.2
"""Pause before the next look at a join under way: a healthy one takes milliseconds."""

_MAX_JOIN_PAUSE_SECONDS: Final = 60.0

_MIN_IDLE_SECONDS: Final = 0.5
"""Minimum idleness before a rejection proves a device dead: a join takes milliseconds."""

LEFT_OVER_SECONDS: Final = 600.0
"""A veth pair of this age was left by a dockerd that died: no join takes that long."""

_REMOVED_WHEN_REJECTED: Final = "it is removed when a task is rejected because of it"
_REJECTED_JOIN_SECONDS: Final = 2 * LATE_SECONDS
"""As `LEFT_OVER_SECONDS`, against a rejection: only the time of that may have been written late."""

Joins = Mapping[VethPair, float]
"""The veth pairs of which Docker has not moved both ends yet, with the seconds since the first sight."""


def minds_joins(proof: Proof | None, identity: Identity) -> bool:
    """Whether a proof holds only while no join is under way."""
    return proof is not None and (proof is not Proof.REJECTED or not identity.netns.is_host)


def blocking(joins: Joins, proof: Proof, identity: Identity) -> Joins:
    """Return the joins that are in the way of a proof: a pair that stays was left behind."""
    if not minds_joins(proof, identity):
        return {}
    longest = _REJECTED_JOIN_SECONDS if proof is Proof.REJECTED else LEFT_OVER_SECONDS
    return {pair: seconds for pair, seconds in joins.items() if seconds < longest}


class Finding(NamedTuple):
    """Whether a device is proved dead.

    Attributes:
        proof: None: nothing proves it, yet.
        reason: the facts of the proof, or what is waited for. The same as long as nothing has changed.
        recheck_after: seconds after which to ask again though nothing else happens; None: never.
        wants_reading: a newer reading of the Swarm may be the proof.
    """

    proof: Proof | None
    reason: str
    recheck_after: float | None = None
    wants_reading: bool = False


Prover = Callable[[Device, Networks], Finding]
"""Asks for proof that a device which looks dead is dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Minimum seconds of idleness of an unwanted device in the host namespace, or in a sandbox.

    `unclaimed`: of a device that is wanted here; 0: it is never removed for that.
    """

    grace: float
    sandbox_grace: float
    unclaimed: float

    def of(self, identity: Identity) -> float:
        return self.grace if identity.netns.is_host else max(self.grace, self.sandbox_grace)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestProver:
    """A `Prover` that goes by the Swarm and the rejected tasks in a request."""

    clock: IdleClock
    waits: Waits
    reading: SwarmReading
    rejections: Sequence[Rejection]
    joins: Joins
    now: datetime
    _unwanted_since: dict[tuple[float, bool], Finding] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __call__(self, device: Device, networks: Networks) -> Finding:
        finding = self._finding(device, networks)
        if finding.proof is None or not self.joins:
            return finding
        joins = blocking(self.joins, finding.proof, device.identity)
        return join_under_way(joins) if joins else finding

    def _finding(self, device: Device, networks: Networks) -> Finding:
        idle = self.clock.idle(device.identity)
        if idle is None:
            return Finding(None, "it was in use at the last look", ATTEMPT_SECONDS)
        if not self.rejections:  # Nearly always; a node may have thousands of devices.
            return self._without_rejection(device, idle, networks)
        rejected = self._rejected(device.identity, idle, networks)
        if rejected.proof is not None or rejected.recheck_after is not None:
            return rejected
        other = self._without_rejection(device, idle, networks)
        if other.proof is not None or not rejected.reason:
            return other
        return other._replace(reason=f"{other.reason}; {rejected.reason}")

    def _without_rejection(self, device: Device, idle: Idle, networks: Networks) -> Finding:
        identity = device.identity
        network = networks.needing(identity.vni)
        if device.set_up_by_others:
            others = "set up by other software than Docker, whose device would be in its sandbox"
            return Finding(None, f"{others}: {_REMOVED_WHEN_REJECTED}")
        if not identity.netns.is_host and network is not None and not network.ingress:
            return Finding(None, f"{_wanted(idle, network.name)}: {_REMOVED_WHEN_REJECTED}")
        if network is None:
            # Thousands may have gone idle at one time: the finding on one holds for all.
            key = idle.began, identity.netns.is_host
            if key not in self._unwanted_since:
                self._unwanted_since[key] = self._unwanted(identity, idle)
            return self._unwanted_since[key]
        return self._unclaimed(idle, network.name)

    def _rejected(self, identity: Identity, idle: Idle, networks: Networks) -> Finding:
        """Ask for proof by a rejection; without, the reason says why the newest one proves nothing."""
        doubts = []
        for rejection in sorted(self.rejections, key=lambda one: one.at, reverse=True):
            task = rejection.task_id
            if rejection.vni != identity.vni:
                # Without a VNI it may be about this one.
                if rejection.vni is None and networks.having(identity.vni) is not None:
                    doubts.append(f"that of task {task} proves nothing: {rejection.doubt}")
                continue
            at, because = format_time(rejection.at), f"task {task} was rejected because of it"
            doubt = self._doubt(rejection, idle, networks.shared)
            if doubt is not None:
                doubts.append(f"that of task {task} at {at} proves nothing: {doubt}")
            elif idle.seconds < _MIN_IDLE_SECONDS:
                reason = f"{because}, as it seems: it has half a second to come to life"
                return Finding(None, reason, _MIN_IDLE_SECONDS - idle.seconds)
            else:
                since = f"it was idle since {format_time(idle.since)}"
                return Finding(
                    Proof.REJECTED, f"{because} at {at}, by this node's clock, and {since}"
                )
        return Finding(None, doubts[0] if doubts else "")

    def _doubt(self, rejection: Rejection, idle: Idle, shared: Set[int]) -> str | None:
        """Return why a rejection with a device's VNI does not prove that device dead; None: it does."""
        vni = rejection.vni
        if rejection.doubt is not None or vni is None:
            return rejection.doubt
        if vni in shared:
            return f"two networks have VNI {vni}"
        if rejection.at > self.now:
            return "it is dated in the future"
        if self.now - rejection.at > timedelta(seconds=REJECTION_SECONDS):
            return "it is old, and dockerd may have been restarted since"
        if rejection.at - idle.rejections_from <= timedelta(seconds=ATTEMPT_SECONDS):
            if idle.rejections_from - idle.since > timedelta(seconds=ATTEMPT_SECONDS):
                return (
                    "this node's clock was set back: it had already shown "
                    f"{format_time(idle.rejections_from)}, and no rejection up to then proves anything"
                )
            since = format_time(idle.since)
            return f"the device is known to be idle only since {since}; the next rejection tells"
        went = self.clock.went(vni)
        if went is None or rejection.at - went > timedelta(seconds=LATE_SECONDS):
            return None
        return f"it may be about another device with VNI {vni}, which went at {format_time(went)}"

    def _unwanted(self, identity: Identity, idle: Idle) -> Finding:
        since = f"idle since {format_time(idle.since)}"
        grace = self.waits.of(identity)
        left = grace - idle.seconds
        if self.reading.after is None or not self.clock.spans(idle, self.reading.after):
            reason = f"{since}; the Swarm has not been read for this node since then"
            return Finding(None, reason, left if left > 0 else None, wants_reading=True)
        if self.reading.ready_seconds is None:
            reason = "the Swarm reports this node not ready: its dockerd may be stopped between two steps"
            return Finding(None, reason, wants_reading=True)
        if left > 0:
            return Finding(None, f"{since}, and the grace period is {grace:g} s", left)
        return Finding(
            Proof.UNWANTED,
            f"{since}, for more than the grace period of {grace:g} s; the Swarm was read for this node after "
            "that and wants no network with its VNI here; no join is under way",
        )

    def _unclaimed(self, idle: Idle, name: str) -> Finding:
        unclaimed, ready = self.waits.unclaimed, self.reading.ready_seconds
        waiting = f"{_wanted(idle, name)}: {_REMOVED_WHEN_REJECTED}"
        if not unclaimed:
            return Finding(None, waiting)
        waiting += f", or when nobody has taken it up for {unclaimed:g} s"
        if ready is None:
            waiting += "; that time does not count while the Swarm reports the node not ready"
            return Finding(None, waiting)
        left = unclaimed - idle.seconds
        if left > 0:
            return Finding(None, waiting, max(left, JOIN_PAUSE_SECONDS))
        if ready < unclaimed:
            return Finding(None, f"{waiting}, the node being ready", wants_reading=True)
        after = self.reading.after
        if after is None or not self.clock.spans(idle, after, unclaimed):
            return Finding(None, f"{waiting}; the Swarm is read once more", wants_reading=True)
        return Finding(
            Proof.UNCLAIMED,
            f"{_wanted(idle, name)} and nobody took it up for {unclaimed:g} s, while the Swarm reported this "
            "node ready at each reading; no join is under way",
        )


def _wanted(idle: Idle, name: str) -> str:
    return f"idle since {format_time(idle.since)}, and network {name} is wanted here"


def join_under_way(joins: Joins) -> Finding:
    """Return the finding while Docker may be joining a container to a network."""
    pair = min(joins, key=joins.__getitem__)
    what = (
        f"the veth pair {pair.one}, {pair.other} is in the host namespace, both ends, without a master"
        if pair.other
        else f"{pair.one}, an end of a veth pair, is in the host namespace without a master, and the other "
        "end in a sandbox"
    )
    return Finding(
        None,
        f"a container may be joining a network: {what} (if it stays, a dockerd that died left it: "
        f"`ip link delete {pair.one}`)",
        min(max(JOIN_PAUSE_SECONDS, joins[pair]), _MAX_JOIN_PAUSE_SECONDS),
    )


@lru_cache(maxsize=256)  # Of thousands of devices that went idle together it is one.
def format_time(at: datetime) -> str:
    """Format a time of day, to a tenth of a second."""
    return f"{at:%H:%M:%S}.{at.microsecond // 100_000} UTC"
