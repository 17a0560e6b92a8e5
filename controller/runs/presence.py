"""`PresenceWatch`: which workers give signs of life, in the leader's memory."""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Protocol

from sqlalchemy import select

from contract.messages import SignOfLife
from contract.signing.dates import MAX_SKEW
from contract.signing.envelope import Opened
from controller.conditions.node_facts import Sign
from controller.db.engine import Database
from controller.db.models import Node

MIN_EVERY_SECONDS: Final = 2.5
_PER_NODE_SECONDS: Final = 0.025
"""Up to a hundred nodes the shortest pause; at most 40 signs a second until the resync bounds the pause."""
_MISSED: Final = 3
"""Signs that fail to come before a worker counts as away."""
_SLACK_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 2.0
_PRESENT: Final = select(Node.id).where(Node.gone_at.is_(None))


def pause(nodes: int, resync: timedelta) -> float:
    """Return the seconds between signs of a worker, so that a death is known within a resync."""
    longest = (resync.total_seconds() - 2 * _SLACK_SECONDS) / _MISSED
    return max(MIN_EVERY_SECONDS, min(nodes * _PER_NODE_SECONDS, longest))


class _Seen(NamedTuple):
    """A sign, as it was read; `at` is when it showed life, None: before this process looked."""

    raw: bytes
    sign: SignOfLife
    issued: datetime
    at: datetime | None


class _Opens(Protocol):
    def __call__(self, raw: bytes, *, again: bool) -> Opened[SignOfLife] | None:
        """Open a sign; None: it is refused. `again`: the one before was, too."""


def _may_speak(
    sign: SignOfLife, node_id: str, present: Collection[str], before: _Seen | None
) -> bool:
    """Whether a sign in the key of a node counts: its own, or of the id that it had before.

    No other node of the Swarm has a say in it, and none that left, once the node speaks for itself.
    """
    if sign.node_id == node_id:
        return True
    return sign.node_id not in present and (before is None or before.sign.node_id != node_id)


class PresenceWatch:
    """Reads the signs of all nodes' workers again and again; one thread of the leader runs it.

    Args:
        read: returns the newest signs of nodes, unread; raises the errors of the broker's client.
        opened: opens a sign.
        resync: maximum time between runs of a node.
    """

    def __init__(
        self,
        database: Database,
        read: Callable[[Sequence[str]], Sequence[bytes | None]],
        opened: _Opens,
        *,
        resync: timedelta,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._read = read
        self._opened = opened
        self._resync = resync
        self._utcnow = utcnow
        self._every = MIN_EVERY_SECONDS
        self._seen: dict[str, _Seen] = {}
        """Node id to its newest sign."""
        self._refused: dict[str, bytes] = {}
        """Node id to what its key holds and is none: each is opened once."""
        self._listening_since: datetime | None = None
        self._changes = 0
        self._nodes: Sequence[str] = ()
        self._read_at: int | None = None
        """The count of the database's news before they were read."""

    def changes(self) -> int:
        """Return how often what `of` tells changed, beyond that a worker which was heard is heard again."""
        return self._changes

    def every(self) -> float:
        """Return the seconds between signs that workers are asked for."""
        return self._every

    def step(self) -> float:
        """Read all signs; return the seconds until the next step.

        Where that fails nothing is known of any worker; `controller.health` has the error.
        """
        nodes = self._present()
        self._every = pause(len(nodes), self._resync)
        try:
            found = self._read(nodes) if nodes else []
        except Exception:  # noqa: BLE001 -- whatever the broker's client raises
            if self._listening_since is not None:
                self._listening_since = None
                self._changes += 1
            return _POLL_SECONDS
        now = self._utcnow()
        first = self._listening_since is None
        if first:
            self._listening_since = now
        seen, refused, present = {}, {}, frozenset(nodes)
        changed = first
        for node_id, raw in zip(nodes, found, strict=True):
            before = self._seen.get(node_id)
            if before is not None:
                seen[node_id] = before
            if raw is None or (before is not None and before.raw == raw):
                continue
            if self._refused.get(node_id) == raw:
                refused[node_id] = raw
                continue
            sign = self._opened(raw, again=node_id in self._refused)
            if sign is None or not _may_speak(sign.payload, node_id, present, before):
                refused[node_id] = raw
            elif (
                before is None
                # One that was repeated is older.
                or sign.issued > before.issued
                # By a clock that was ahead and was put right.
                or before.issued > now + MAX_SKEW
            ):
                at = None if first and before is None else sign.alive_at(now)
                seen[node_id] = _Seen(raw, sign.payload, sign.issued, at)
                changed |= self._is_news(node_id, sign.payload, now)
        self._seen, self._refused = seen, refused
        self._changes += changed
        return max(_POLL_SECONDS, self._every / 4)

    def _present(self) -> Sequence[str]:
        """Return the ids of the Swarm's nodes, which are read when they may be others."""
        count = self._database.news.count
        if self._database.is_shared or count != self._read_at:
            with self._database.read() as session:
                self._nodes = session.scalars(_PRESENT).all()
            self._read_at = count
        return self._nodes

    def _is_news(self, node_id: str, sign: SignOfLife, now: datetime) -> bool:
        """Whether a new sign tells more than that a worker which was heard still lives."""
        known = self.of(node_id)
        if known is None or now - known.since > known.allowed:
            return True
        before = self._seen[node_id].sign
        return (sign.ended, sign.node_id, sign.every) != (
            before.ended,
            before.node_id,
            before.every,
        )

    def of(self, node_id: str) -> Sign | None:
        """Return what is known of a node's worker; None: nothing, or not now."""
        found, since = self._seen.get(node_id), self._listening_since
        if found is None or since is None:
            return None
        sign, at = found.sign, found.at
        return Sign(
            at=at,
            since=since if at is None else max(since, at),
            allowed=timedelta(seconds=_MISSED * sign.every + _SLACK_SECONDS),
            every=sign.every,
            ended=sign.ended,
            serves=sign.node_id,
        )
