"""Whether a device that looks dead is dead: what proves it, or what is waited for. Pure.

That a device carries nothing is no proof, however long it lasts: between making the device of a network
and moving the first container's end of a veth pair into the sandbox, a dockerd that is stopped, starved or
waits for its disk leaves just what a dead one leaves. Eight seconds of SIGSTOP and a grace period of five
took a living device. So one of these must be shown:

* *rejected*: dockerd itself tried to make the device, and failed because it was there. (moby
  libnetwork/drivers/overlay/ov_network.go makes a subnet's device only while it has none, and adopts none.)
* *unwanted*: the Swarm, asked after the device went idle, has no task or container on this node that could
  need it. A task counts until the node's own dockerd has said that it has ended. (Even a join that failed
  after the sandbox was made leaves nothing that dockerd owns once the network has left the node: tried on
  20.10, by taking away the veth pair in the middle of a join.)
* *unclaimed*, in the host namespace or of the ingress network: nobody took it up for minutes, though the
  node's dockerd was there all the time. Of another network that is wanted here, a sandbox without an
  endpoint may be dockerd's own for as long as it likes: after a join that failed for another reason
  (`joinCnt` in ov_network.go), or for a subnet that has only peers on other nodes (peerdb.go). There a task
  tells.

What a message says can only be the last thing that is missing: the kernel's evidence comes first, is read
again just before the deletion, and no clock of another machine is compared with ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

from contract.messages import Rejection, Stamp, SwarmReading
from contract.verdicts import Proof
from worker.idle import ATTEMPT_SECONDS, LATE_SECONDS, Idle
from worker.kernel.model import Device, Identity, VethPair
from worker.networks import Networks

REJECTION_SECONDS: Final = 60.0
"""How old a rejection may be: a dockerd that was started anew since may have taken over what it found
(libnetwork restores the sandboxes of endpoints in its store, up to 23.0)."""

JOIN_PAUSE_SECONDS: Final = 0.2
"""After so long there is another look at a join that is under way: a healthy one takes milliseconds."""

_MAX_JOIN_PAUSE_SECONDS: Final = 60.0

_MIN_IDLE_SECONDS: Final = 0.5
"""For how long a device must carry nothing before anything proves it dead: a join takes milliseconds."""

LEFT_OVER_SECONDS: Final = 600.0
"""A veth pair that is the same for so long was left by a dockerd that died: no join takes that long."""

_REJECTED_JOIN_SECONDS: Final = 2 * LATE_SECONDS
"""The same against a rejection, which is proof enough but for the case that its time was written late."""

Joins = Mapping[VethPair, float]
"""What Docker has between making a veth pair and moving one end, of any network, with the seconds since it
was seen first."""


def minds_joins(proof: Proof | None, identity: Identity) -> bool:
    """Whether a proof holds only while no join is under way."""
    return proof is not None and (proof is not Proof.REJECTED or not identity.netns.is_host)


def blocking(joins: Joins, proof: Proof, identity: Identity) -> Joins:
    """Those of these joins that are in the way of a proof: a pair that stays was left behind."""
    if not minds_joins(proof, identity):
        return {}
    longest = _REJECTED_JOIN_SECONDS if proof is Proof.REJECTED else LEFT_OVER_SECONDS
    return {pair: seconds for pair, seconds in joins.items() if seconds < longest}


class Found(NamedTuple):
    """What came of asking for proof.

    Attributes:
        proof: what proves the device dead; None: nothing does, yet.
        words: its facts; or what is waited for. The same as long as nothing has changed.
        again: seconds after which asking again is worth while though nothing else happens; None: it is not.
        wants_reading: a newer reading of the Swarm may be the proof.
    """

    proof: Proof | None
    words: str
    again: float | None = None
    wants_reading: bool = False


class Prover(Protocol):
    """Asks for proof that a device which looks dead is dead."""

    def __call__(self, device: Device, networks: Networks) -> Found: ...


class Clock(Protocol):
    """What `worker.idle.IdleClock` knows of a device."""

    def idle(self, identity: Identity) -> Idle | None:
        """Its stretch of idleness."""

    def went(self, vni: int) -> datetime | None:
        """When another dead device of this VNI was missed."""

    def spans(self, idle: Idle, stamp: Stamp, seconds: float = 0.0) -> bool:
        """Whether a stretch began more than so many seconds before a moment of this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """How long is waited, in seconds; there is no bound that is off by default.

    Attributes:
        grace: a device in the host namespace must have carried nothing, to count as unwanted.
        sandbox_grace: the same in a sandbox.
        unclaimed: nobody must have taken up a device that is wanted here; 0: it is never removed for that.
    """

    grace: float
    sandbox_grace: float
    unclaimed: float

    def of(self, identity: Identity) -> float:
        """The grace period of a device."""
        return self.grace if identity.netns.is_host else max(self.grace, self.sandbox_grace)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestProver:
    """Proof from what a request tells of the Swarm and of rejected tasks. A `Prover`.

    Attributes:
        clock: since when devices carry nothing.
        waits: how long is waited.
        reading: how the Swarm's word was come by; None: the request does not say.
        rejections: tasks that this node rejected.
        joins: what may be joins under way.
        now: the time of day.
    """

    clock: Clock
    waits: Waits
    reading: SwarmReading | None
    rejections: Sequence[Rejection]
    joins: Joins
    now: datetime
    _unwanted_since: dict[tuple[float, bool], Found] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __call__(self, device: Device, networks: Networks) -> Found:
        found = self._found(device, networks)
        if found.proof is None or not self.joins:
            return found
        joins = blocking(self.joins, found.proof, device.identity)
        return join_under_way(joins) if joins else found

    def _found(self, device: Device, networks: Networks) -> Found:
        """Proof, as far as no join is under way."""
        idle = self.clock.idle(device.identity)
        if idle is None:
            return Found(None, "it carried something at the last look", ATTEMPT_SECONDS)
        if not self.rejections:  # Nearly always; a node may have thousands of devices.
            return self._other(device, idle, networks)
        rejected = self._rejected(device.identity, idle, networks)
        if rejected.proof is not None or rejected.again is not None:
            return rejected
        other = self._other(device, idle, networks)
        return other if other.proof is not None else _with(rejected.words, other)

    def _other(self, device: Device, idle: Idle, networks: Networks) -> Found:
        """Proof without any rejection."""
        identity = device.identity
        network = networks.needing(identity.vni)
        if device.set_up_by_others:
            return Found(
                None,
                "somebody else's software has set it up, and not Docker, whose device would be in its "
                "sandbox: it is removed when a task is rejected because of it",
            )
        if not identity.netns.is_host and network is not None and not network.ingress:
            return Found(
                None,
                f"idle since {format_time(idle.since)}, and network {network.name} is wanted here: "
                "it is removed when a task is rejected because of it",
            )
        if self.reading is None:
            return Found(
                None, "the request does not say when the Swarm was read (an older controller?)"
            )
        if network is None:
            # A node may have thousands that went idle at one time: what is said of one holds for all.
            key = idle.began, identity.netns.is_host
            if key not in self._unwanted_since:
                self._unwanted_since[key] = self._unwanted(identity, idle, self.reading)
            return self._unwanted_since[key]
        return self._unclaimed(idle, network.name, self.reading)

    # --- rejected ---

    def _rejected(self, identity: Identity, idle: Idle, networks: Networks) -> Found:
        """Proof by a rejection; without it, why the rejections that there are prove nothing."""
        doubts = []
        for each in sorted(self.rejections, key=lambda one: one.at, reverse=True):
            if each.vni != identity.vni:
                # One that cannot be told to be about another VNI may be about this one: say so.
                if each.vni is None and networks.having(identity.vni) is not None:
                    doubts.append(f"that of task {each.task_id} proves nothing: {each.doubt}")
                continue
            doubt = self._doubt(each, idle, identity.vni, networks)
            if doubt is None and idle.seconds < _MIN_IDLE_SECONDS:
                return Found(
                    None,
                    f"task {each.task_id} was rejected because of it, as it seems: it has half a second to "
                    "come to life",
                    _MIN_IDLE_SECONDS - idle.seconds,
                )
            if doubt is None:
                return Found(
                    Proof.REJECTED,
                    f"task {each.task_id} was rejected because of it at {format_time(each.at)}, by this "
                    f"node's clock, and it was idle since {format_time(idle.since)}",
                )
            doubts.append(
                f"that of task {each.task_id} at {format_time(each.at)} proves nothing: {doubt}"
            )
        return Found(None, doubts[0] if doubts else "")

    def _doubt(self, rejection: Rejection, idle: Idle, vni: int, networks: Networks) -> str | None:
        """Why a rejection with this VNI does not prove the device dead; None: it does."""
        if rejection.doubt is not None:
            return rejection.doubt
        if vni in networks.shared:
            return f"two networks have VNI {vni}"
        if rejection.at > self.now:
            return "it is dated in the future"
        if self.now - rejection.at > timedelta(seconds=REJECTION_SECONDS):
            return "it is old, and dockerd may have been started anew since"
        if rejection.at - idle.rejections_from <= timedelta(seconds=ATTEMPT_SECONDS):
            if idle.rejections_from - idle.since > timedelta(seconds=ATTEMPT_SECONDS):
                return (
                    "this node's clock was set back: it had already shown "
                    f"{format_time(idle.rejections_from)}, and no rejection up to then proves anything"
                )
            return (
                "the device is known to carry nothing only since "
                f"{format_time(idle.since)}; the next rejection tells"
            )
        went = self.clock.went(vni)
        if went is not None and rejection.at - went <= timedelta(seconds=LATE_SECONDS):
            return (
                f"it may be about another device with VNI {vni}, which went at {format_time(went)}"
            )
        return None

    # --- unwanted ---

    def _unwanted(self, identity: Identity, idle: Idle, reading: SwarmReading) -> Found:
        grace = self.waits.of(identity)
        left = grace - idle.seconds
        read = reading.after is not None and self.clock.spans(idle, reading.after)
        if not read:
            return Found(
                None,
                f"idle since {format_time(idle.since)}; the Swarm has not been read for this node "
                "since then",
                left if left > 0 else None,
                wants_reading=True,
            )
        if reading.ready_seconds is None:
            return Found(
                None,
                "the Swarm says that this node is not ready: its dockerd may be stopped between two steps",
                wants_reading=True,
            )
        if left > 0:
            return Found(
                None,
                f"idle since {format_time(idle.since)}, and the grace period is {grace:g} s",
                left,
            )
        return Found(
            Proof.UNWANTED,
            f"idle since {format_time(idle.since)}, for the grace period of {grace:g} s and "
            "more; the Swarm was read for this node after that and wants no network with its VNI here; "
            "no join is under way",
        )

    # --- unclaimed ---

    def _unclaimed(self, idle: Idle, name: str, reading: SwarmReading) -> Found:
        wanted = f"idle since {format_time(idle.since)}, and network {name} is wanted here"
        if not self.waits.unclaimed:
            return Found(None, f"{wanted}: it is removed when a task is rejected because of it")
        until = f"or when nobody has taken it up for {self.waits.unclaimed:g} s"
        waiting = f"{wanted}: it is removed when a task is rejected because of it, {until}"
        if reading.ready_seconds is None:
            return Found(
                None,
                f"{waiting}; that time does not count while the Swarm calls the node not ready",
            )
        own = self.waits.unclaimed - idle.seconds
        if own > 0:
            return Found(None, waiting, max(own, JOIN_PAUSE_SECONDS))
        if reading.ready_seconds < self.waits.unclaimed:
            return Found(None, f"{waiting}, the node being ready", wants_reading=True)
        if reading.after is None or not self.clock.spans(idle, reading.after, self.waits.unclaimed):
            return Found(None, f"{waiting}; the Swarm is read once more", wants_reading=True)
        return Found(
            Proof.UNCLAIMED,
            f"idle since {format_time(idle.since)}; network {name} is wanted here and nobody "
            f"took it up for {self.waits.unclaimed:g} s, while the Swarm said at each reading that this "
            "node is ready; no join is under way",
        )


def _with(doubts: str, found: Found) -> Found:
    """What is waited for, and why the rejections that there are prove nothing."""
    return found._replace(words=f"{found.words}; {doubts}") if doubts else found


def join_under_way(joins: Joins) -> Found:
    """What is waited for while Docker may be joining a container to a network."""
    pair = min(joins, key=joins.__getitem__)
    return Found(
        None,
        f"a container may be joining a network just now: the veth pair {pair.one}, {pair.other} is in the "
        "host namespace, both ends and without a master (if it stays, a dockerd that died left it: "
        f"`ip link delete {pair.one}`)",
        min(max(JOIN_PAUSE_SECONDS, joins[pair]), _MAX_JOIN_PAUSE_SECONDS),
    )


@lru_cache(maxsize=256)  # Of thousands of devices that went idle together it is one.
def format_time(at: datetime) -> str:
    """A time of day, to a tenth of a second."""
    return f"{at:%H:%M:%S}.{at.microsecond // 100_000} UTC"
