"""Reasons of conditions in plain words, and how the dashboard shows them: look, heading, and where to act."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from contract.verdicts import Proof, Urgency
from controller.conditions.model import Reason, Status

OK: Final = "ok"
LEFT: Final = "left"
BAD: Final = "bad"
UNKNOWN: Final = "unknown"
CHOSEN: Final = "chosen"
ORDER: Final = (BAD, UNKNOWN, LEFT, CHOSEN, OK)
"""Looks, the gravest first."""

_BY_CHOICE: Final = frozenset(
    {Reason.PAUSED, Reason.CLUSTER_PAUSED, Reason.IGNORED_BY_LABEL, Reason.OBSERVE_MODE}
)

NO_LEADER: Final = "VxlanOperatorNoLeader"
"""What no condition tells, as nobody derives any: the name of its alert."""

WORDS: Final[Mapping[str, str]] = {
    Reason.CONVERGED: "ready",
    Reason.CLUSTER_PAUSED: "the cluster is paused",
    Reason.PAUSED: "paused",
    Reason.IGNORED_BY_LABEL: "left alone, by a Swarm label",
    Reason.NODE_DOWN: "down, as the Swarm says",
    Reason.NEVER_SEEN: "no worker has ever reported",
    Reason.WORKER_AWAY: "the worker is silent",
    Reason.KEY_UNTRUSTED: "the worker's key is not trusted",
    Reason.NOT_LOOKED_AT: "not looked at lately",
    Reason.RUNS_LOST: "the last run brought no report",
    Reason.RUN_FAILED: "the last run failed",
    Reason.RUN_REFUSED: "the worker refused the run",
    Reason.NOT_CONVERGED: "not looked at since its networks changed",
    Reason.DEVICE_CONFLICT: "other software holds a VNI that is needed",
    Reason.VNI_HELD: "tasks are rejected by a device in use",
    Reason.BREAKER_TRIPPED: "the breaker stopped removals",
    Reason.OBSERVE_MODE: "orphans stay: mode observe",
    Reason.ORPHANS_LEFT: "orphans are left",
    Reason.TASKS_REJECTED: "tasks are rejected",
    Reason.LOOKS_DEAD: "a device looks dead, without proof",
    Reason.NETWORK_WITHOUT_DEVICE: "a network has no device",
    Reason.KEY_NOT_REPLACED: "the worker keeps a key that it was asked to replace",
    Reason.TOO_MANY_MESSAGES: "the worker sends too many messages",
    Reason.WORKER_LIMITED: "the worker cannot see everything",
    Reason.SWARM_UNREADABLE: "the Swarm cannot be read",
    Reason.SWARM_CHANGED: "the manager belongs to another Swarm",
    Reason.LIST_SHRUNK: "much of the Swarm vanished at once",
    Reason.READING_STALE: "the Swarm was not read lately",
    Reason.WORKERS_AWAY: "workers are silent",
    Reason.NO_WORKERS: "no worker reports",
    Reason.MESSAGES_REFUSED: "messages were refused",
    Reason.TARGETS_FAIL: "notifications are not taken",
    Reason.BROKER_UNREACHABLE: "the broker does not answer",
    Reason.BROKER_REFUSES: "the broker takes no messages",
    Reason.DATABASE_FULL: "the database's disk is full",
    Reason.DATABASE_READ_ONLY: "the database is read-only",
    Reason.DATABASE_LOCKED: "the database is locked",
    Reason.DATABASE_UNREACHABLE: "the database does not answer",
    Reason.AUDIT_WENT_BACK: "the audit trail lost rows",
    Reason.USERS_REFUSED: "Redis' users cannot be kept",
    Reason.NOT_PROBED: "broker and database not tested yet",
    Reason.CONDITIONS_STALE: "not known now: no controller leads, or it cannot write",
    NO_LEADER: "no controller leads",
    "NotJudgedYet": "new, and not looked at yet",
}
"""By reason; what is wrong or chosen, but for `Converged`."""


def words(reason: str) -> str:
    """Return a reason in plain words; one that is not known here, as a program writes it."""
    return WORDS.get(reason, reason)


def look(status: str, reason: str, left: str | None = None) -> str:
    """Return how well a node is: by its condition Ready, and by what is left although it is ready."""
    if status == Status.TRUE:
        if left is None:
            return OK
        return CHOSEN if left in _BY_CHOICE else LEFT
    if reason in _BY_CHOICE:
        return CHOSEN
    return BAD if status == Status.FALSE else UNKNOWN


class Action(NamedTuple):
    """Where something can be done about it; `acts`: and not only looked at."""

    label: str
    path: str
    acts: bool = False


def action(reason: str, node_id: str | None, *, may_operate: bool) -> Action:
    """Return the way to the remedy; a caller who may not act is only shown where to look.

    Args:
        node_id: of the one node that it is about; None: the cluster, or several nodes.
    """
    act = _ACTS.get(reason)
    if act is not None and may_operate and (node_id is not None or reason in _OF_CLUSTER):
        label, path = act
        return Action(label, path if node_id is None else f"{path}?node={node_id}", acts=True)
    if reason == Reason.ORPHANS_LEFT:
        return Action("See what holds them", "/safety")
    if reason == Reason.TARGETS_FAIL:
        return Action("See the targets", "/notifications")
    if reason in _OF_CLUSTER or reason == Reason.PAUSED:
        return Action("Look at it", "/safety")
    if node_id is not None:
        return Action("Look at the node", f"/nodes/{node_id}")
    return Action("Look at all nodes", "/matrix")


_ACTS: Final[Mapping[str, tuple[str, str]]] = {
    Reason.CLUSTER_PAUSED: ("Resume…", "/do/resume"),
    Reason.PAUSED: ("Resume…", "/do/resume"),
    Reason.BREAKER_TRIPPED: ("Reset the breaker…", "/do/breaker-reset"),
    Reason.OBSERVE_MODE: ("Change the mode…", "/do/mode"),
    Reason.RUN_FAILED: ("Look again now…", "/do/requeue"),
    Reason.RUNS_LOST: ("Look again now…", "/do/requeue"),
    Reason.RUN_REFUSED: ("Look again now…", "/do/requeue"),
    Reason.NOT_CONVERGED: ("Look again now…", "/do/requeue"),
}
_OF_CLUSTER: Final = frozenset({Reason.CLUSTER_PAUSED, Reason.BREAKER_TRIPPED, Reason.OBSERVE_MODE})
"""Reasons that the cluster can have; the form without a node is about it."""

PROOFS: Final[Mapping[str, str]] = {
    Proof.REJECTED: "a task was rejected because of it after it went idle: a dockerd that owned it would "
    "not have tried to make it (`rejected`)",
    Proof.UNWANTED: "the Swarm was read after it went idle, and wants no network of its VNI here "
    "(`unwanted`)",
    Proof.UNCLAIMED: "idle for minutes, while every reading of the Swarm found the node ready "
    "(`unclaimed`)",
    Proof.BY_HAND: "a person looked, with `vxlan-worker scan --fix` (`by_hand`)",
}
URGENCIES: Final[Mapping[str, str]] = {
    Urgency.BLOCKING: "blocking: every task of its network is rejected here",
    Urgency.STALE: "stale: its network is not wanted here, so nothing is blocked now",
    Urgency.UNKNOWN: "unknown: no network of the Swarm has its VNI",
}
