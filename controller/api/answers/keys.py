"""Answers about the keys of controllers and nodes, and join tokens."""

from datetime import datetime

from controller.api.answers.base import Answer
from controller.db.states import ControllerKeyState, NodeKeyState


class ControllerKeyAnswer(Answer):
    """A public key that all controllers of this database share."""

    id: str
    """The first 16 hexadecimal digits of the SHA-256 of the key."""
    public_key: str
    """32 bytes in base64url: what a worker's `VXLAN_OPERATOR_CONTROLLER_KEY` takes."""
    state: ControllerKeyState
    created_at: datetime
    retired_at: datetime | None


class RotationAnswer(ControllerKeyAnswer):
    """The controllers' next key, and who does not know it yet."""

    lacking: list[str]
    """Hostnames of nodes that are asked for runs, and whose workers have not said that they believe it."""
    later: list[str]
    """Hostnames of nodes that are paused, ignored or not ready: they learn of it by their next request."""


class NodeKeyAnswer(Answer):
    """A public key that a node's worker has shown."""

    id: str
    """The first 16 hexadecimal digits of the SHA-256 of the key."""
    node_id: str
    node_name: str | None
    """Null: the Swarm has never listed the node."""
    public_key: str
    """32 bytes in base64url."""
    state: NodeKeyState
    origin: str
    """Why it has its state."""
    broker_password: str | None
    """SHA-256 of the password of the node's user at the broker, which the worker made; null: it told none."""
    created_at: datetime
    decided_at: datetime | None
    """Null: nobody has decided."""
    rotation_asked_at: datetime | None
    """Since when its worker is asked to replace it (`vxctl node rotate`); null: it is not."""


class JoinTokenAnswer(Answer):
    """A join token, without its secret."""

    id: str
    """The first 16 hexadecimal digits of the SHA-256 of its public key."""
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    """Null: never."""
    last_used_at: datetime | None
    """When it last pinned a node's key; null: never."""
    revoked_at: datetime | None
    revoked_by: str | None


class NewJoinTokenAnswer(JoinTokenAnswer):
    """A new join token with its secret, which is stored nowhere and shown this once."""

    token: str
