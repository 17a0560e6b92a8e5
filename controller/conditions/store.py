"""Keeps the stored conditions of all nodes and of the cluster up to date.

The leader derives them again and again, because some depend on time alone, and writes what changed.
`since` comes from the stored conditions, so it survives restarts.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from contract.runtime.refusals import Refusals, refusals
from contract.verdicts import Mode
from controller.conditions.changes import Change, changes, record
from controller.conditions.cluster import RefusedFacts, of_cluster
from controller.conditions.facts import cluster_facts, node_facts, refused_facts
from controller.conditions.model import Condition, Conditions, Stored, dated, max_silence
from controller.conditions.node import Sign, of_node
from controller.db.engine import Database
from controller.db.models import Cluster, Node

_MIN_PERIOD_SECONDS: Final = 1.0
_MAX_SHARE: Final = 0.2
"""Share of the time spent on steps: with some thousand nodes a step takes a while."""
_DATED_SECONDS: Final = 4.0
"""Between notes that the conditions still hold; each is a commit."""
_HOLD_SECONDS: Final = 15.0
"""For so long conditions hold unless they are derived again; for at least three periods."""


_QUIET: Final = timedelta(minutes=10)
"""So long after the last refused message nothing is said of it any more."""


class ConditionStore:
    """Derives and stores the conditions; one thread of the leader runs it.

    Args:
        mode: of the controller's settings.
        resync: the time between periodic runs of a node.
        broker: returns why the broker cannot be used; None: it can.
        sign_of: returns the newest sign of life of a node's worker, by node id.
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
        refusals: Refusals = refusals,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._mode = mode
        self._max_silence = max_silence(resync)
        self._broker = broker
        self._sign_of = sign_of
        self._refusals = refusals
        self._utcnow = utcnow
        self._period = _MIN_PERIOD_SECONDS
        # Silence means nothing while no controller was there to receive reports.
        self._listening_since = utcnow()

    def step(self) -> float:
        """Bring all conditions up to date; return the seconds until the next step."""
        begin = time.monotonic()
        now = self._utcnow()
        with self._database.read() as session:
            cluster = session.get(Cluster, 1)
            if cluster is None:
                return _MIN_PERIOD_SECONDS
            broker = self._broker()
            if broker is not None:
                self._listening_since = now
            changed: dict[str, Stored] = {}
            events: list[Change] = []
            nodes: list[tuple[str, Conditions]] = []
            for id_, hostname, before, facts in node_facts(
                session,
                cluster,
                mode=self._mode,
                now=now,
                max_silence=self._max_silence,
                listening_since=self._listening_since,
                broker=broker,
                sign_of=self._sign_of,
            ):
                conditions = of_node(facts)
                nodes.append((facts.typed, conditions))
                stored = dated(conditions, before, now)
                if stored != before:
                    changed[id_] = stored
                    events += changes(before, stored, now, node=(id_, hostname))
            refused = self._refused(session, now)
        of_swarm = cluster_facts(
            cluster, self._mode, now, self._max_silence, broker=broker, refused=refused
        )
        of_all = dated(of_cluster(of_swarm, nodes), cluster.conditions, now)
        if changed or of_all != cluster.conditions or self._is_old(cluster, now):
            events += changes(cluster.conditions, of_all, now)
            hold = timedelta(seconds=max(_HOLD_SECONDS, 3 * self._period))
            with self._database.write() as session:
                written = _write_nodes(session, changed)
                values = {"conditions_at": now, "conditions_until": now + hold}
                session.execute(update(Cluster).values(conditions=of_all, **values))
                record(session, [event for event in events if event.node_id in {None, *written}])
        elapsed = time.monotonic() - begin
        self._period = max(_MIN_PERIOD_SECONDS, elapsed / _MAX_SHARE)
        return self._period - elapsed if elapsed < self._period else 0.0

    def _refused(self, session: Session, now: datetime) -> RefusedFacts | None:
        """Return what was refused, unless that is some quiet minutes ago."""
        newest = self._refusals.newest
        if newest is None or now - newest.at > _QUIET:
            return None
        counts = {reason.value: count for reason, count in self._refusals.counts.items()}
        return refused_facts(session, newest, counts)

    def _is_old(self, cluster: Cluster, now: datetime) -> bool:
        """Whether it is time to note that the conditions still hold."""
        at = cluster.conditions_at
        return at is None or abs((now - at).total_seconds()) >= _DATED_SECONDS


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
