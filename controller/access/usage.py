"""When tokens and sessions were last used: remembered, and written once a minute, by nobody who waits."""

import threading
from datetime import datetime
from typing import Final

from sqlalchemy import update

from controller.db.access_models import ApiToken, WebSession
from controller.db.engine import Database

WRITE_SECONDS: Final = 60.0


class Usage:
    """The times of use that are not written yet; for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._used: dict[str, datetime] = {}
        self._sessions: dict[str, datetime] = {}

    def note(self, token_id: str, at: datetime) -> None:
        """Remember a use of a valid token."""
        with self._lock:
            self._used[token_id] = at

    def note_session(self, id_: str, at: datetime) -> None:
        """Remember a use of a valid session of the dashboard."""
        with self._lock:
            self._sessions[id_] = at

    def write(self, database: Database) -> None:
        """Write what was remembered. After an error it is kept for the next time."""
        with self._lock:
            used, seen = dict(self._used), dict(self._sessions)
        if not used and not seen:
            return
        with database.write(news=False) as session:
            for token_id, at in sorted(used.items()):
                session.execute(
                    update(ApiToken)
                    .where(ApiToken.id == token_id)
                    .where(ApiToken.last_used_at.is_(None) | (ApiToken.last_used_at < at))
                    .values(last_used_at=at)
                )
            for id_, at in sorted(seen.items()):
                session.execute(
                    update(WebSession)
                    .where(WebSession.id == id_, WebSession.seen_at < at)
                    .values(seen_at=at)
                )
        with self._lock:
            for remembered, written in ((self._used, used), (self._sessions, seen)):
                for id_, at in written.items():
                    if remembered.get(id_) == at:
                        del remembered[id_]
