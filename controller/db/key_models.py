"""The tables of public keys: of the controllers, of nodes, and of join tokens. No secret is in any."""

from datetime import datetime

from sqlalchemy import Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from controller.db.states import ControllerKeyState, NodeKeyState
from controller.db.types import SWARM_ID, Base

KEY_ID = String(16)
"""Hexadecimal digits of the SHA-256 of the public key."""
KEY_TEXT = String(43)
"""32 bytes in base64url."""


class ControllerKey(Base):
    """A public key of the controllers, which all of them share."""

    __tablename__ = "controller_keys"

    id: Mapped[str] = mapped_column(KEY_ID, primary_key=True)
    public_key: Mapped[str] = mapped_column(KEY_TEXT)
    state: Mapped[ControllerKeyState]
    created_at: Mapped[datetime]
    retired_at: Mapped[datetime | None]
    previous: Mapped[str | None] = mapped_column(KEY_ID)
    """The key that signed before it; None: it was the first, or the one before was lost."""
    vouched: Mapped[str | None] = mapped_column(String(86))
    """The signature of that key over this one (`contract.signing.succession`)."""


class NodeKey(Base):
    """A public key that a node's worker has shown, and what became of it."""

    __tablename__ = "node_keys"
    __table_args__ = (Index("ix_node_keys_node", "node_id", "state"),)

    id: Mapped[str] = mapped_column(KEY_ID, primary_key=True)
    """One key is of one node: a node that shows another's is refused."""
    node_id: Mapped[str] = mapped_column(SWARM_ID)
    public_key: Mapped[str] = mapped_column(KEY_TEXT)
    state: Mapped[NodeKeyState]
    origin: Mapped[str] = mapped_column(Text)
    """Why it has its state: a join token, a rotation, or a person."""
    created_at: Mapped[datetime]
    broker_password: Mapped[str | None] = mapped_column(String(64))
    """SHA-256 of the password of the node's user at the broker, in hexadecimal; None: it has none."""
    broker_password_at: Mapped[datetime | None]
    """When the worker signed the Hello that told it, by its clock."""
    decided_at: Mapped[datetime | None]
    """When it was trusted or revoked; None: it is pending."""
    rotation_asked_at: Mapped[datetime | None]
    """Since when a person waits for its worker to replace it; only of a trusted one."""


class JoinToken(Base):
    """The public key of a join token: who has the token can pin the first key of a node."""

    __tablename__ = "join_tokens"

    id: Mapped[str] = mapped_column(KEY_ID, primary_key=True)
    public_key: Mapped[str] = mapped_column(KEY_TEXT)
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    """When it last pinned a key."""
    revoked_at: Mapped[datetime | None]
    revoked_by: Mapped[str | None] = mapped_column(Text)
