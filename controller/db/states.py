"""Words that the tables store: states of runs and keys, roles, and the controller as an actor."""

from enum import StrEnum
from typing import Final

CONTROLLER: Final = "controller"
"""The actor of what no person asked for."""


def with_claim(actor: str, claimed_name: str | None) -> str:
    """Return an actor with the name that it claimed, for people: `ci (as alice)`."""
    return actor if claimed_name is None else f"{actor} (as {claimed_name})"


class RunState(StrEnum):
    """RUNNING becomes exactly one of the others, once."""

    RUNNING = "running"
    """Sent to the node's queue; its report is awaited until its deadline."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The worker said that it could not look, or not do everything."""
    REFUSED = "refused"
    """The worker refused the request as late or stale."""
    LOST = "lost"
    """No report came by the deadline."""


class Role(StrEnum):
    """What a caller of the API may do; each of the last three includes the ones before."""

    METRICS = "metrics"
    """Scrape `/metrics`, and nothing else."""
    READ = "read"
    """See everything but tokens."""
    OPERATE = "operate"
    """Also request runs, pause, resume, set modes and reset breakers."""
    ADMIN = "admin"
    """Also create, list and revoke tokens; trust and revoke keys."""


class ControllerKeyState(StrEnum):
    """What a key of the controllers is for."""

    SIGNING = "signing"
    """Signs every request."""
    NEXT = "next"
    """Workers are told of it; it will sign once they know it."""
    RETIRED = "retired"
    """Signs nothing any more."""


class NodeKeyState(StrEnum):
    """What is thought of a node's key."""

    TRUSTED = "trusted"
    """Its messages count."""
    PENDING = "pending"
    """Shown, and trusted by nobody yet: its messages do nothing."""
    REVOKED = "revoked"
