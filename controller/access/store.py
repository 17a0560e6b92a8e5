"""Tokens in the database: creating, listing, revoking, and finding out whose one is."""

import hmac
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from contract.verdicts import Stage
from controller.access.roles import Identity
from controller.access.tokens import NAME_PATTERN, Secret
from controller.audit.append import Entry, append
from controller.db.access_models import ApiToken
from controller.db.states import Role

_NO_DIGEST: Final = bytes(32)
"""Compared where there is no row, so that an unknown id takes as long as a wrong secret."""


class UnauthenticatedError(Exception):
    """The token is not valid; the message says no more than its owner may know."""


class NameTakenError(Exception):
    """A token with this name is valid; `hint` says what to do."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a token {name!r} already")
        self.hint = f"choose another name, or revoke it first: `vxctl token revoke {name}`"


class NoTokenError(Exception):
    """No valid token has this name or id."""

    hint = "`vxctl token list` shows all tokens"


class By(NamedTuple):
    """The actor, the name that it claims to act for, and the time of a change.

    Attributes:
        id: of its audit row, where the change must not be made twice.
    """

    actor: str
    claimed_name: str | None
    at: datetime
    id: UUID | None = None


class Identified(NamedTuple):
    """A token's id and owner."""

    id: str
    identity: Identity


def identify(session: Session, text: str, now: datetime) -> Identified:
    """Find out whose token this is.

    Raises:
        UnauthenticatedError: nobody's, or it is revoked or has expired.
    """
    secret = Secret.parse(text)
    row = None if secret is None else session.get(ApiToken, secret.id)
    expected = _NO_DIGEST if row is None else row.digest
    given = _NO_DIGEST if secret is None else secret.digest
    if not hmac.compare_digest(given, expected) or row is None:
        raise UnauthenticatedError("the token is not valid")
    # From here on the caller has proved to own the token, and may know what became of it.
    return Identified(row.id, valid(row, now))


def valid(row: ApiToken, now: datetime) -> Identity:
    """Return the owner of a token.

    Raises:
        UnauthenticatedError: it is revoked or has expired.
    """
    if row.revoked_at is not None:
        raise UnauthenticatedError(f"the token {row.name!r} was revoked")
    if row.expires_at is not None and row.expires_at <= now:
        raise UnauthenticatedError(f"the token {row.name!r} has expired")
    return Identity(row.name, row.role, row.expires_at)


def create(
    session: Session,
    secret: Secret,
    *,
    name: str,
    role: Role,
    expires_at: datetime | None,
    by: By,
    reason: str = "",
) -> ApiToken:
    """Store a token and record that; the transaction's last lock is the end of the audit trail.

    Args:
        name: as `tokens.checked_name` returns it.
        reason: further words for the audit row.

    Raises:
        NameTakenError: a valid token has this name.
    """
    former = session.scalar(
        select(ApiToken)
        .where(ApiToken.name == name, ApiToken.revoked_at.is_(None))
        .with_for_update()
    )
    if former is not None:
        if former.expires_at is None or former.expires_at > by.at:
            raise NameTakenError(name)
        former.revoked_at, former.revoked_by = former.expires_at, former.name
        session.flush()
    row = ApiToken(
        id=secret.id,
        digest=secret.digest,
        name=name,
        role=role,
        created_at=by.at,
        created_by=by.actor,
        expires_at=expires_at,
    )
    session.add(row)
    until = "" if expires_at is None else f", until {expires_at:%Y-%m-%dT%H:%M:%SZ}"
    words = f"token {name} ({row.id}) with the role {role}{until}{reason}"
    append(session, [_entry(Stage.TOKEN_CREATED, words, by)], by.at)
    return row


def revoke(session: Session, given: str, by: By) -> ApiToken:
    """Revoke the valid token of this name or id, and record that.

    Raises:
        NoTokenError: there is none.
    """
    row = None
    if (
        re.fullmatch(NAME_PATTERN, given) is not None
    ):  # PostgreSQL refuses a NUL even in a comparison.
        row = session.scalar(
            select(ApiToken)
            .where(or_(ApiToken.name == given, ApiToken.id == given), ApiToken.revoked_at.is_(None))
            # A token may be named like the id of another: the name counts.
            .order_by((ApiToken.name == given).desc())
            .limit(1)
            .with_for_update()
        )
    if row is None:
        raise NoTokenError(f"there is no valid token {given!r}")
    row.revoked_at, row.revoked_by = by.at, by.actor
    words = f"token {row.name} ({row.id}) with the role {row.role}"
    append(session, [_entry(Stage.TOKEN_REVOKED, words, by)], by.at)
    return row


def listed(session: Session, *, revoked: bool) -> Sequence[ApiToken]:
    """Return the tokens by name; with `revoked` also those that are revoked, the newest first of a name."""
    query = select(ApiToken).order_by(ApiToken.name, ApiToken.created_at.desc(), ApiToken.id)
    return session.scalars(query if revoked else query.where(ApiToken.revoked_at.is_(None))).all()


def _entry(stage: Stage, words: str, by: By) -> Entry:
    return Entry(stage=stage, at=by.at, reason=words, actor=by.actor, claimed_name=by.claimed_name)
