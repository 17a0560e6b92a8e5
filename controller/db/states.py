"""Words that the tables store: states of runs, keys and deliveries, roles, and the controller as an actor."""

from enum import StrEnum
from typing import Final

CONTROLLER: Final = "controller"
"""The actor of what no person asked for."""

SCAN: Final = "scan"
"""The actor of what a person did on a node with `vxlan-worker scan`."""


def with_claim(actor: str, claimed_name: str | None) -> str:
    """Return an actor with the name that it claimed, for people: `ci (as alice)`."""
    return actor if claimed_name is None else f"{actor} (as {claimed_name})"


class RunState(StrEnum):
    """RUNNING becomes exactly one of the others, once; LOST what a report says that comes a little late."""

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


class TargetKind(StrEnum):
    """How a notification target is spoken to."""

    WEBHOOK = "webhook"
    """JSON by HTTP, signed by Standard Webhooks."""
    SLACK = "slack"
    """A Slack-compatible incoming webhook: also Mattermost's, Rocket.Chat's, and Discord's with `/slack`."""
    EMAIL = "email"
    """Mail by the SMTP server of the settings."""
    APPRISE = "apprise"
    """A service of the library apprise, by its URL."""
    HEARTBEAT = "heartbeat"
    """A URL that is asked at regular times while all works, and whose owner calls when it is not."""


class DeliveryState(StrEnum):
    """PENDING and HELD become one of the others, once."""

    PENDING = "pending"
    """To be sent, or sent in vain so far."""
    HELD = "held"
    """Of a muted target: a problem that is told after the mute, if it is not over by then."""
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"
    """The target did not take it for a day."""
