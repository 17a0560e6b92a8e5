"""The tables of API tokens, and of logins to the dashboard."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, LargeBinary, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from controller.db.states import Role
from controller.db.types import Base

_VALID = text("revoked_at IS NULL")


class ApiToken(Base):
    """A token of the API: its owner, and the hash of the secret, which only the owner has."""

    __tablename__ = "tokens"
    __table_args__ = (
        Index("ix_tokens_name", "name", unique=True, postgresql_where=_VALID, sqlite_where=_VALID),
    )

    id: Mapped[str] = mapped_column(String(8), primary_key=True)
    """Public part of the secret."""
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    """SHA-256 of the secret."""
    name: Mapped[str] = mapped_column(Text)
    """The actor in the audit trail; unique among tokens that are not revoked."""
    role: Mapped[Role]
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    """To the minute or so: `controller.access.usage`."""
    revoked_at: Mapped[datetime | None]
    revoked_by: Mapped[str | None] = mapped_column(Text)


class WebSession(Base):
    """A login to the dashboard: it ends with its token, or by `controller.access.sessions`' bounds."""

    __tablename__ = "web_sessions"

    id: Mapped[str] = mapped_column(String(8), primary_key=True)
    """Public: what the list of sessions shows."""
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    """SHA-256 of the secret, which only the browser has."""
    token_id: Mapped[str] = mapped_column(ForeignKey("tokens.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    """However much it is used."""
    seen_at: Mapped[datetime]
    """To the minute or so: `controller.access.usage`."""
    address: Mapped[str] = mapped_column(Text)
    """From where the login came: the address of the connection's other end."""
    browser: Mapped[str] = mapped_column(Text)
    """What the browser says it is."""
