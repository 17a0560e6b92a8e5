"""Ends the keys of nodes that left the Swarm: a loop of the leader.

A key is forgotten, not revoked: a node that joins again shows it as for the first time, and a join token or a
person vouches for it. Revoked keys stay, so that none of them comes back that way.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import select

from contract.verdicts import Stage
from controller.access.store import By
from controller.audit.append import append
from controller.db.engine import Database
from controller.db.key_models import NodeKey
from controller.db.models import Node
from controller.db.states import CONTROLLER, NodeKeyState
from controller.trust import store

log = structlog.get_logger(__name__)

_KEPT: Final = timedelta(hours=1)
"""A node that is listed again within it needs nobody to vouch for its key."""
_BATCH: Final = 100
"""Keys per transaction."""


class Departed:
    """Ends keys in small batches. Most steps read one row."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def step(self, now: datetime | None = None) -> None:
        """End keys of nodes that left an hour ago."""
        now = now or datetime.now(UTC)
        old = (
            select(NodeKey.id, Node)
            .join(Node, Node.id == NodeKey.node_id)
            .where(Node.gone_at < now - _KEPT, NodeKey.state != NodeKeyState.REVOKED)
            .order_by(NodeKey.id)
            .limit(_BATCH)
        )
        with self._database.read() as session:
            if session.execute(old.limit(1)).first() is None:
                return
        with self._database.write() as session:
            by, entries = By(CONTROLLER, None, now), []
            for key_id, node in session.execute(old).all():
                row = session.get_one(NodeKey, key_id, with_for_update=True)
                if row.state is NodeKeyState.TRUSTED:
                    why = "its node left the Swarm"
                    entries.append(store.entry(Stage.KEY_REVOKED, node, row, by, why))
                session.delete(row)
            append(session, entries, now)
        log.info("keys of nodes that left the Swarm are believed no more", audit_rows=len(entries))
