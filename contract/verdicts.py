"""The words for what was concluded about a device, and for what happened to it."""

from enum import StrEnum
from typing import Final


class Verdict(StrEnum):
    """What the worker concludes about one VXLAN device."""

    IN_USE = "in_use"
    """It is UP, has a master or an address, or its sandbox has an endpoint."""
    SETTLING = "settling"
    """It is Docker's and looks dead, and proof is missing; the reason says what is waited for."""
    ORPHAN = "orphan"
    """It is Docker's, idle, and proved dead."""
    FOREIGN = "foreign"
    """It is not Docker's."""
    CONFLICT = "conflict"
    """It is not Docker's, and holds a VNI that a network of this node needs."""


class Proof(StrEnum):
    """What shows that a device which looks dead belongs to no dockerd. Time alone never does."""

    REJECTED = "rejected"
    """A task of its network was rejected here because of it, after it was known to be idle: a dockerd
    that owned it would not have tried to make it."""
    UNWANTED = "unwanted"
    """The Swarm, read for this node after the device went idle, wants no network of its VNI
    here; the grace period is over, and no join is under way."""
    UNCLAIMED = "unclaimed"
    """Wanted here and idle for minutes, while every reading of the Swarm found the node ready; no join is
    under way."""
    BY_HAND = "by_hand"
    """A person looked (`vxlan-worker scan --fix`): the grace period is over, and no join is under way."""


class HeldBack(StrEnum):
    """What holds back the removal of a device that looks dead; the order is that of answers."""

    PAUSE = "pause"
    """The cluster, its node or its network is paused, by a person or a Swarm label."""
    BREAKER = "breaker"
    """The breaker of the cluster or node has tripped, or allows no more removals for now."""
    MODE = "mode"
    """The mode of the cluster, its node or its network is observe."""
    WORKER_MODE = "worker_mode"
    """The settings of the worker on its node say observe."""
    PORT = "port"
    """The request says that its UDP port is the Swarm's data path port, and nothing on its node does."""
    LIMIT = "limit"
    """The run had removed as many as one run may."""
    JOURNAL = "journal"
    """The worker's journal is full: nothing is removed without a record."""
    CHANGED = "changed"
    """It had changed when it was read again, just before its removal."""
    FAILED = "failed"
    """The kernel refused its removal."""
    PROOF = "proof"
    """It looks dead, and nothing proves it."""


HELD_BY_WORKER: Final = frozenset(
    {
        HeldBack.WORKER_MODE,
        HeldBack.PORT,
        HeldBack.LIMIT,
        HeldBack.BREAKER,
        HeldBack.JOURNAL,
        HeldBack.CHANGED,
        HeldBack.FAILED,
    }
)
"""What a worker may say; the others are the controller's."""


class Urgency(StrEnum):
    """How much an orphan hurts."""

    BLOCKING = "blocking"
    """Its network is desired on this node, where it keeps Docker from making a device of its own."""
    STALE = "stale"
    """Its network exists, but is not desired on this node."""
    UNKNOWN = "unknown"
    """No network known to the run has its VNI."""


class Stage(StrEnum):
    """What an audit row records: what happened to a device, or what a person decided."""

    REQUESTED = "requested"
    """A run was requested, which then found something: by whom, and why."""
    VERDICT_CHANGED = "verdict_changed"
    """A device has another verdict than in the report before."""
    LEFT_OUT = "left_out"
    """Changed verdicts of a node were not recorded, for they were too many: how many."""
    DETECTED = "detected"
    """First judged an orphan."""
    PLANNED = "planned"
    """About to be removed: written to disk before the kernel is asked."""
    REFUSED = "refused"
    """Was to be removed, but the re-check found that it had changed."""
    APPLIED = "applied"
    """The kernel confirmed the removal."""
    VANISHED = "vanished"
    """Gone by itself before we could remove it."""
    FAILED = "failed"
    """The kernel refused the removal."""
    VERIFIED = "verified"
    """A second look showed that it is gone."""
    LINGERING = "lingering"
    """The kernel was asked for the removal, but a second look still shows the device."""
    UNCERTAIN = "uncertain"
    """The worker stopped between plan and outcome, or the kernel's answer did not come: the reason says.

    The next stage says what a later look showed.
    """
    REQUEUED = "requeued"
    """A person asked for a run."""
    PAUSED = "paused"
    RESUMED = "resumed"
    MODE_CHANGED = "mode_changed"
    BREAKER_TRIPPED = "breaker_tripped"
    """Too much was removed at once: nothing more is, until somebody resets the breaker."""
    BREAKER_RESET = "breaker_reset"
    TOKEN_CREATED = "token_created"  # noqa: S105 -- a word
    TOKEN_REVOKED = "token_revoked"  # noqa: S105 -- a word
    KEY_TRUSTED = "key_trusted"
    """A node's key is believed from now on: by a join token, by its key before, or by a person."""
    KEY_REVOKED = "key_revoked"
    ROTATION_ASKED = "rotation_asked"
    """A person asked that a node's worker replaces its key."""
    ROTATION_DROPPED = "rotation_dropped"
    """A person asks for that no more."""
    JOIN_CREATED = "join_created"
    """A join token was created."""
    JOIN_REVOKED = "join_revoked"
    KEYS_ROTATED = "keys_rotated"
    """The controllers' keys: another is made known, or signs from now on."""
    NOTIFY_CHANGED = "notify_changed"
    """A notification target was added, removed, muted, tested, or has another secret."""
    PRUNED = "pruned"
    """Rows older than the retention were archived and deleted; says which."""


STAGE_WORDS: Final = {
    Stage.REQUESTED: "requested",
    Stage.VERDICT_CHANGED: "verdict changed",
    Stage.LEFT_OUT: "changed verdicts not recorded: they were too many",
    Stage.DETECTED: "found to be an orphan",
    Stage.PLANNED: "removal written to the journal",
    Stage.REFUSED: "left alone: it had changed when it was read again",
    Stage.APPLIED: "removed, as the kernel confirmed",
    Stage.VANISHED: "gone before it could be removed",
    Stage.FAILED: "not removed: the kernel refused",
    Stage.VERIFIED: "verified: gone at a second look",
    Stage.LINGERING: "still there at a second look, after its removal",
    Stage.UNCERTAIN: "outcome unknown: the worker stopped meanwhile, or the kernel did not answer",
    Stage.REQUEUED: "run requested by a person",
    Stage.PAUSED: "paused",
    Stage.RESUMED: "resumed",
    Stage.MODE_CHANGED: "mode changed",
    Stage.BREAKER_TRIPPED: "breaker tripped: nothing is removed until it is reset",
    Stage.BREAKER_RESET: "breaker reset",
    Stage.TOKEN_CREATED: "token created",
    Stage.TOKEN_REVOKED: "token revoked",
    Stage.KEY_TRUSTED: "key trusted",
    Stage.KEY_REVOKED: "key revoked",
    Stage.ROTATION_ASKED: "worker asked to replace its key",
    Stage.ROTATION_DROPPED: "worker no longer asked to replace its key",
    Stage.JOIN_CREATED: "join token created",
    Stage.JOIN_REVOKED: "join token revoked",
    Stage.KEYS_ROTATED: "keys of the controllers rotated",
    Stage.NOTIFY_CHANGED: "notification targets changed",
    Stage.PRUNED: "old rows archived and deleted",
}
"""Each stage in the words of a timeline."""

DEVICE_STAGES: Final = frozenset(
    {
        Stage.DETECTED,
        Stage.PLANNED,
        Stage.REFUSED,
        Stage.APPLIED,
        Stage.VANISHED,
        Stage.FAILED,
        Stage.VERIFIED,
        Stage.LINGERING,
        Stage.UNCERTAIN,
    }
)
"""What a worker's journal may say; the other stages are the controller's."""


class Mode(StrEnum):
    """What the operator may do."""

    OBSERVE = "observe"
    """Judge and report only."""
    ENFORCE = "enforce"
    """Remove orphans."""


class Outcome(StrEnum):
    """How a run ended, as the worker tells it."""

    DONE = "done"
    """The node was looked at and every removal that was allowed has been tried."""
    REFUSED = "refused"
    """The request was stale, late or not for this node; nothing was looked at."""
    FAILED = "failed"
    """The node could not be looked at, or not everything could be done; `error` says why."""
