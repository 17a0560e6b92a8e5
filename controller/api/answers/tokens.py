"""Answers about API tokens and their owners."""

from datetime import datetime
from typing import Literal

from controller.api.answers.base import Answer
from controller.db.states import Role


class _Owner(Answer):
    name: str
    """The actor in the audit trail."""
    role: Role
    expires_at: datetime | None
    """Null: never."""


class CallerAnswer(_Owner):
    """The owner of the token that was sent, or the user whom the trusted proxy named."""

    authenticated_by: Literal["token", "proxy"]


class TokenAnswer(_Owner):
    """A token, without its secret, which only its owner has."""

    id: str
    """The public part of the token: the 8 characters behind `vxo_`."""
    created_at: datetime
    created_by: str
    last_used_at: datetime | None
    """To the minute or so; null: never."""
    revoked_at: datetime | None
    revoked_by: str | None


class NewTokenAnswer(TokenAnswer):
    """A new token with its secret, which is shown this once."""

    token: str
