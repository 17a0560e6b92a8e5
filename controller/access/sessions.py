"""Logins to the dashboard: starting, finding, listing and ending sessions in the database.

A session is a token's: it has the token's role at every request, and ends when the token is revoked or
expires. The browser has a secret of 256 random bits, the database its SHA-256.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from controller.access import store
from controller.access.roles import Identity
from controller.access.store import UnauthenticatedError
from controller.db.access_models import ApiToken, WebSession

IDLE: Final = timedelta(hours=12)
"""Without a request after which a session ends."""
LONGEST: Final = timedelta(days=7)
"""After which a session ends, however much it is used."""
LONGEST_PLAIN: Final = timedelta(hours=12)
"""The same over plain HTTP at loopback, where servers on other ports are sent the cookie (RFC 6265, 8.5)."""
MAX_OF_TOKEN: Final = 20
"""Sessions of one token; another login ends the one that was used longest ago."""
_MAX_BROWSER: Final = 200
"""Characters of a browser's name that are kept."""
_FORM: Final = re.compile(r"([0-9a-f]{8})\.[0-9A-Za-z_-]{43}", re.ASCII)


class NoSessionError(Exception):
    """The caller has no session with this id."""

    hint = "the list of your sessions is at /sessions"


class Started(NamedTuple):
    """A new session: the secret for the browser, and whose it is."""

    secret: str
    identity: Identity


class Found(NamedTuple):
    """A valid session: its public id, its token's id, and whose it is."""

    id: str
    token_id: str
    identity: Identity


def start(
    session: Session,
    token: str,
    now: datetime,
    *,
    address: str,
    browser: str,
    longest: timedelta = LONGEST,
) -> Started:
    """Begin a session for a token.

    Args:
        address: of the connection's other end.
        browser: the header User-Agent.
        longest: after which it ends, however much it is used.

    Raises:
        UnauthenticatedError: the token is not valid.
    """
    owner = store.identify(session, token, now)
    sweep(session, now)
    of_token = select(WebSession.id).where(WebSession.token_id == owner.id)
    newest_first = of_token.order_by(WebSession.seen_at.desc(), WebSession.id)
    surplus = session.scalars(newest_first.offset(MAX_OF_TOKEN - 1)).all()
    session.execute(delete(WebSession).where(WebSession.id.in_(surplus)))
    id_ = secrets.token_hex(4)
    secret = f"{id_}.{secrets.token_urlsafe(32)}"
    session.add(
        WebSession(
            id=id_,
            digest=_digest(secret),
            token_id=owner.id,
            created_at=now,
            ends_at=now + longest,
            seen_at=now,
            address=address,
            browser=browser[:_MAX_BROWSER],
        )
    )
    return Started(secret, owner.identity)


def identify(session: Session, secret: str, now: datetime) -> Found:
    """Find out whose session this is.

    Raises:
        UnauthenticatedError: nobody's, or it has ended.
    """
    form = _FORM.fullmatch(secret)
    row = None if form is None else session.get(WebSession, form[1])
    if row is None or not hmac.compare_digest(row.digest, _digest(secret)):
        raise UnauthenticatedError("the session has ended: log in again")
    if now - row.seen_at > IDLE or now > row.ends_at:
        raise UnauthenticatedError("the session has ended: log in again")
    token = session.get_one(ApiToken, row.token_id)
    return Found(row.id, token.id, store.valid(token, now))


def end(session: Session, id_: str, token_id: str | None) -> None:
    """End a session.

    Args:
        token_id: only if it is one of this token; None: of any token.

    Raises:
        NoSessionError: there is none.
    """
    row = session.get(WebSession, id_)
    if row is None or token_id not in (None, row.token_id):
        raise NoSessionError(f"there is no session {id_!r}")
    session.delete(row)


def listed(
    session: Session, token_id: str | None, now: datetime
) -> Sequence[tuple[WebSession, ApiToken]]:
    """Return the valid sessions with their tokens, the last used first; `token_id` None: of all tokens."""
    query = (
        select(WebSession, ApiToken)
        .join(ApiToken, ApiToken.id == WebSession.token_id)
        .where(WebSession.seen_at >= now - IDLE, WebSession.ends_at >= now)
        .where(ApiToken.revoked_at.is_(None))
        .where(or_(ApiToken.expires_at.is_(None), ApiToken.expires_at > now))
        .order_by(WebSession.seen_at.desc(), WebSession.id)
    )
    if token_id is not None:
        query = query.where(WebSession.token_id == token_id)
    return session.execute(query.limit(1000)).all()


def sweep(session: Session, now: datetime) -> None:
    """Delete the sessions that have ended by their bounds."""
    ended = or_(WebSession.seen_at < now - IDLE, WebSession.ends_at < now)
    session.execute(delete(WebSession).where(ended))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
