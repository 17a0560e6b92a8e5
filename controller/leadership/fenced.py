"""The leader's database: its transactions commit only while this process holds the lease."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

from controller.db.engine import Database
from controller.leadership.lease import Lease


class FencedDatabase(Database):
    """A database whose transactions fail unless this process leads."""

    def __init__(self, database: Database, lease: Lease) -> None:
        super().__init__(database.engine)
        self.news, self.writers = database.news, database.writers
        self._lease = lease

    @contextmanager
    def write(self, *, news: bool = True) -> Iterator[Session]:
        """See `Database.write`.

        Raises:
            LeaseLostError: another leads; nothing was changed.
        """
        with super().write(news=news) as session:
            self._lease.hold(session)
            yield session
