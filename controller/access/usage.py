"""When each token was last used: remembered in memory, and written once a minute, by nobody who waits."""

import threading
from datetime import datetime
from typing import Final

from sqlalchemy import update

from controller.db.access_models import ApiToken
from controller.db.engine import Database

WRITE_SECONDS: Final = 60.0


class Usage:
    """The times of use that are not written yet; for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._used: dict[str, datetime] = {}

    def note(self, token_id: str, at: datetime) -> None:
        """Remember a use of a valid token."""
        with self._lock:
            self._used[token_id] = at

    def write(self, database: Database) -> None:
        """Write what was remembered. After an error it is kept for the next time."""
        with self._lock:
            used = dict(self._used)
        if not used:
            return
        with database.write() as session:
            for token_id, at in sorted(used.items()):
                session.execute(
                    update(ApiToken)
                    .where(ApiToken.id == token_id)
                    .where(ApiToken.last_used_at.is_(None) | (ApiToken.last_used_at < at))
                    .values(last_used_at=at)
                )
        with self._lock:
            for token_id, at in used.items():
                if self._used.get(token_id) == at:
                    del self._used[token_id]
