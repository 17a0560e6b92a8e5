"""Keeps the stored conditions of all nodes and of the cluster up to date.

The leader derives them again when something on which they depend has changed, or time alone changes one, and
every few seconds all the same, and writes what changed. `since` comes from the stored conditions, so it
survives restarts.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from contract.runtime.refusals import Refusals, Refused, refusals
from contract.verdicts import Mode
from controller.conditions.changes import Change, changes, record
from controller.conditions.cluster import RefusedFacts, of_cluster
from controller.conditions.facts import cluster_facts, node_facts, refused_facts
from controller.conditions.instant import Instant
from controller.conditions.model import Condition, Conditions, Stored, dated, max_silence
from controller.conditions.node import of_node
from controller.conditions.node_facts import QUIET, Dropping, Sign
from controller.conditions.untaken import untaken
from controller.db.engine import Database
from controller.db.models import Cluster, Node
from controller.db.types import Base

_PERIOD_SECONDS: Final = 1.0
"""Between looks whether something changed."""
_BLIND_SECONDS: Final = 2.0
"""After which they are derived again in any case where others write to the database, too."""
_ALONE_SECONDS: Final = 10.0
"""The same where this process writes alone."""
_MAX_SHARE: Final = 0.2
"""Share of the time spent on steps: with some thousand nodes a step takes a while."""
_DATED_SECONDS: Final = 5.0
"""Between notes that the conditions still hold; each is a commit."""
_HOLD_SECONDS: Final = 15.0
"""For so long conditions hold unless they are derived again; for at least three periods."""
_CLUSTER: Final = Base.metadata.tables[Cluster.__tablename__]
_DATE: Final = update(_CLUSTER).values(
    conditions_at=bindparam("at"), conditions_until=bindparam("until")
)


class _Known(NamedTuple):
    """On what conditions depend, but for the time: they are the same while this is."""

    news: int
    broker: Condition | None
    signs: object
    refused: Refused | None


class ConditionStore:
    """Derives and stores the conditions; one thread of the leader runs it.

    Args:
        mode: of the controller's settings.
        resync: the time between periodic runs of a node.
        broker: returns why the broker cannot be used; None: it can.
        sign_of: returns the newest sign of life of a node's worker, by node id.
        signs: returns what is another value once a sign says more than that a worker still lives.
        dropping: returns which messages of a node are dropped, by node id; each drop is refused, too.
        refusals: what this process refused.
    """

    def __init__(
        self,
        database: Database,
        *,
        mode: Mode,
        resync: timedelta,
        broker: Callable[[], Condition | None] = lambda: None,
        sign_of: Callable[[str], Sign | None] = lambda _: None,
        signs: Callable[[], object] = lambda: None,
        dropping: Callable[[str], Dropping | None] = lambda _: None,
        refusals: Refusals = refusals,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._mode = mode
        self._max_silence = max_silence(resync)
        self._broker = broker
        self._sign_of = sign_of
        self._signs = signs
        self._dropping = dropping
        self._refusals = refusals
        self._utcnow = utcnow
        self._period = _PERIOD_SECONDS
        self._known: _Known | None = None
        """As of the last step that derived; None: derive in any case."""
        self._instant = Instant(utcnow())
        """The same."""
        self._dated_at = utcnow()
        # Silence means nothing while no controller was there to receive reports.
        self._listening_since = utcnow()

    def step(self) -> float:
        """Derive all conditions if one may have changed; return the seconds until the next step."""
        begin = time.monotonic()
        now = self._utcnow()
        # Before anything is read: what changes meanwhile is seen by the next step.
        known = _Known(
            self._database.news.count, self._broker(), self._signs(), self._refusals.newest
        )
        if known.broker is not None:
            self._listening_since = now
        if not self._is_due(known, now):
            if _apart(now, self._dated_at) >= _DATED_SECONDS:
                with self._database.write(news=False) as session:
                    self._date(session, now)
            return _PERIOD_SECONDS
        self._known = None
        if self._derive(known, Instant(now)):
            self._known = known
        elapsed = time.monotonic() - begin
        self._period = max(_PERIOD_SECONDS, elapsed / _MAX_SHARE)
        return self._period - elapsed if elapsed < self._period else 0.0

    def _is_due(self, known: _Known, now: datetime) -> bool:
        """Whether a condition may have changed, or it is time to look all the same."""
        before = self._instant
        longest = _BLIND_SECONDS if self._database.is_shared else _ALONE_SECONDS
        return (
            known != self._known
            or (before.next is not None and now > before.next)
            or _apart(now, before.now) >= longest
        )

    def _derive(self, known: _Known, instant: Instant) -> bool:
        """Derive all conditions, and write what changed; return whether all of that was written."""
        now = instant.now
        with self._database.read() as session:
            cluster = session.get(Cluster, 1)
            if cluster is None:
                return False
            changed: dict[str, Stored] = {}
            events: list[Change] = []
            nodes: list[tuple[str, Conditions]] = []
            for id_, hostname, before, facts in node_facts(
                session,
                cluster,
                mode=self._mode,
                instant=instant,
                max_silence=self._max_silence,
                listening_since=self._listening_since,
                broker=known.broker,
                sign_of=self._sign_of,
                dropping=self._dropping,
            ):
                conditions = of_node(facts)
                nodes.append((facts.typed, conditions))
                stored = dated(conditions, before, now)
                if stored != before:
                    changed[id_] = stored
                    events += changes(before, stored, now, node=(id_, hostname))
            refused = self._refused(session, known.refused, instant)
            not_taken = untaken(session, instant)
        of_swarm = cluster_facts(
            cluster,
            self._mode,
            instant,
            self._max_silence,
            broker=known.broker,
            refused=refused,
            untaken=not_taken,
        )
        of_all = dated(of_cluster(of_swarm, nodes), cluster.conditions, now)
        written: Sequence[str] = ()
        if changed or of_all != cluster.conditions or self._is_old(cluster, now):
            events += changes(cluster.conditions, of_all, now)
            with self._database.write(news=False) as session:
                written = _write_nodes(session, changed)
                if of_all != cluster.conditions:
                    session.execute(update(Cluster).values(conditions=of_all))
                self._date(session, now)
                record(session, [event for event in events if event.node_id in {None, *written}])
        self._instant = instant
        return len(written) == len(changed)

    def _date(self, session: Session, now: datetime) -> None:
        """Note that all conditions hold, and until when unless they are derived again."""
        hold = timedelta(seconds=max(_HOLD_SECONDS, 3 * self._period))
        session.execute(_DATE, {"at": now, "until": now + hold})
        self._dated_at = now

    def _refused(
        self, session: Session, newest: Refused | None, instant: Instant
    ) -> RefusedFacts | None:
        """Return what was refused, unless that is some quiet minutes ago."""
        if newest is None or instant.is_past(newest.at + QUIET):
            return None
        counts = {reason.value: count for reason, count in self._refusals.counts.items()}
        return refused_facts(session, newest, counts)

    def _is_old(self, cluster: Cluster, now: datetime) -> bool:
        """Whether it is time to note that the conditions still hold."""
        at = cluster.conditions_at
        return at is None or _apart(now, at) >= _DATED_SECONDS


def _apart(one: datetime, other: datetime) -> float:
    """Return the seconds between two times; a clock may have been put back."""
    return abs((one - other).total_seconds())


def _write_nodes(session: Session, changed: Mapping[str, Stored]) -> Sequence[str]:
    """Write the conditions of nodes; return the ids of the nodes written."""
    if not changed:
        return []
    # A locked row is being changed, so the next step derives it again; nothing waits for the lock.
    free = session.scalars(
        select(Node.id)
        .where(Node.id.in_(changed))
        .order_by(Node.id)
        .with_for_update(skip_locked=True, key_share=True)
    ).all()
    if free:
        session.connection().execute(
            update(Node.__table__)  # type: ignore[arg-type]
            .where(Node.__table__.c.id == bindparam("node"))
            .values(conditions=bindparam("stored")),
            [{"node": id_, "stored": changed[id_]} for id_ in free],
        )
    return free
