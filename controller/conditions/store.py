"""Keeping the conditions of every node and of the cluster what the rows beside them say.

They are worked out anew from all rows, again and again, by whoever leads: some depend on time alone.
Only what changed is written. `since` comes from what is stored, and so outlives restarts.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, bindparam, func, select, tuple_, update
from sqlalchemy.orm import Session

from contract.verdicts import Mode, Urgency, Verdict
from controller.conditions.cluster import ClusterFacts, of_cluster
from controller.conditions.model import Condition, dated, max_silence
from controller.conditions.node import Holder, NodeFacts, Rejecting, of_node
from controller.db.engine import Database
from controller.db.models import (
    Cluster,
    Device,
    DueNode,
    Network,
    Node,
    Rejection,
)

_PERIOD: Final = 1.0
"""Seconds between two steps, at the least."""
_SHARE: Final = 0.2
"""At most so much of the time is spent on steps: at some thousand nodes one takes a while."""

_SETTLES_WITHIN: Final = timedelta(seconds=30)
_ROWS: Final = 200
"""Nodes whose facts are in memory at a time."""

Stored = list[dict[str, Any]]
"""Conditions as a row has them."""


class ConditionStore:
    """Works the conditions out. One thread of the controller that leads runs it.

    Args:
        database: where the rows are.
        mode: what the settings allow.
        resync: how long a node may go without a run.
        utcnow: the time of day.
    """

    def __init__(
        self,
        database: Database,
        *,
        mode: Mode,
        resync: timedelta,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._mode = mode
        self._silence = max_silence(resync)
        self._utcnow = utcnow
        # Silence means something only while somebody was there to hear.
        self._listening_since = utcnow()

    def step(self) -> float:
        """Bring all conditions up to date; return for how many seconds to wait then."""
        begin = time.monotonic()
        now = self._utcnow()
        with self._database.read() as session:
            cluster = session.get(Cluster, 1)
            if cluster is None:
                return _PERIOD
            changed, nodes = self._of_nodes(session, cluster, now)
        facts = cluster_facts(cluster, self._mode, now, self._silence)
        of_all = dated(of_cluster(facts, nodes), cluster.conditions, now)
        if changed or of_all != cluster.conditions:
            with self._database.write() as session:
                _write_nodes(session, changed)
                session.execute(update(Cluster).values(conditions=of_all))
        return max(_PERIOD, (time.monotonic() - begin) * (1 / _SHARE - 1))

    def _of_nodes(
        self, session: Session, cluster: Cluster, now: datetime
    ) -> tuple[dict[str, Stored], list[tuple[str, Sequence[Condition]]]]:
        """Node id to its conditions where they are others now, and those of all by hostname."""
        devices = _devices(session, now)
        rejecting = rejecting_nodes(session)
        cluster_paused = paused(cluster)
        changed: dict[str, Stored] = {}
        all_: list[tuple[str, Sequence[Condition]]] = []
        for row in session.execute(_FACTS):
            facts = NodeFacts(
                state=row.state,
                cluster_paused=cluster_paused,
                paused=paused(row),
                ignored=row.label_ignore,
                seen_at=row.worker_seen_at,
                silent=row.worker_seen_at is not None
                and now - max(row.worker_seen_at, self._listening_since) > self._silence,
                failures=row.failures,
                last_run=row.last_run_state,
                last_error=row.last_error,
                running=row.run_id is not None,
                generation=row.generation,
                converged_generation=row.converged_generation,
                missing=row.missing,
                limitations=row.limitations,
                breaker=_breaker(row) or _breaker(cluster),
                observe=Mode.OBSERVE in (cluster.mode or self._mode, row.label_mode, row.mode),
                conflicts=devices[row.id]["conflicts"],
                blocking=devices[row.id]["blocking"],
                orphans=devices[row.id]["orphans"],
                lookalikes=devices[row.id]["lookalikes"],
                rejecting=rejecting.get(row.id, ()),
            )
            found = of_node(facts)
            all_.append((row.hostname, found))
            its = dated(found, row.conditions, now)
            if its != row.conditions:
                changed[row.id] = its
        return changed, all_


def cluster_facts(cluster: Cluster, mode: Mode, now: datetime, silence: timedelta) -> ClusterFacts:
    """What is known of the cluster, as far as its conditions go.

    Args:
        mode: what the settings allow.
        silence: after how long what was read is stale.
    """
    return ClusterFacts(
        synced_at=cluster.synced_at,
        stale=now - cluster.synced_at > silence,
        sync_reason=cluster.sync_reason if cluster.sync_error is not None else None,
        sync_error=cluster.sync_error,
        paused=paused(cluster),
        breaker=_breaker(cluster),
        observe=(cluster.mode or mode) is Mode.OBSERVE,
    )


_FACTS: Final = (
    select(
        Node.id,
        Node.hostname,
        Node.state,
        Node.paused_at,
        Node.paused_by,
        Node.paused_reason,
        Node.label_ignore,
        Node.worker_seen_at,
        Node.last_run_state,
        Node.last_error,
        Node.generation,
        Node.converged_generation,
        Node.missing,
        Node.limitations,
        Node.breaker_tripped_at,
        Node.breaker_reason,
        Node.label_mode,
        Node.mode,
        Node.conditions,
        DueNode.failures,
        DueNode.run_id,
    )
    .join(DueNode, DueNode.node_id == Node.id)
    .where(Node.gone_at.is_(None))
    .order_by(Node.hostname, Node.id)
    .execution_options(yield_per=_ROWS)
)


def paused(row: Cluster | Row[*tuple[Any, ...]]) -> str | None:
    """By whom and why a cluster or node is paused; None: it is not."""
    if row.paused_at is None:
        return None
    why = f" ({row.paused_reason})" if row.paused_reason else ""
    return f"by {row.paused_by or 'somebody'}{why}"


def _breaker(row: Cluster | Row[*tuple[Any, ...]]) -> str | None:
    if row.breaker_tripped_at is None:
        return None
    return row.breaker_reason or "too much was removed at once"


def _devices(session: Session, now: datetime) -> Mapping[str, Mapping[str, int]]:
    """Node id to how many of its devices are conflicts, orphans, blocking ones, and look dead for long."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for node_id, verdict, urgency, count in session.execute(
        select(Device.node_id, Device.verdict, Device.urgency, func.count())
        .where(
            Device.verdict.in_((Verdict.CONFLICT, Verdict.ORPHAN))
            # A device that is on its way somewhere is there before anybody need hear of it.
            | ((Device.verdict == Verdict.SETTLING) & (Device.verdict_at < now - _SETTLES_WITHIN))
        )
        .group_by(Device.node_id, Device.verdict, Device.urgency)
    ):
        counts[node_id][_COUNTED[verdict]] += count
        if urgency is Urgency.BLOCKING:
            counts[node_id]["blocking"] += count
    return counts


_COUNTED: Final = {
    Verdict.CONFLICT: "conflicts",
    Verdict.ORPHAN: "orphans",
    Verdict.SETTLING: "lookalikes",
}


def rejecting_nodes(session: Session, node_id: str | None = None) -> Mapping[str, list[Rejecting]]:
    """Node id to the networks whose tasks it rejects just now, each once, with what has the VNI.

    Args:
        node_id: only of this node.
    """
    query = (
        select(Rejection, Network.name)
        .outerjoin(Network, Network.id == Rejection.network_id)
        .where(Rejection.settled_at.is_(None))
        # There are a few of each VNI on a node (controller.swarm.rejections).
        .order_by(Rejection.at.desc(), Rejection.task_id)
    )
    if node_id is not None:
        query = query.where(Rejection.node_id == node_id)
    newest: dict[tuple[str, int | str | None], tuple[Rejection, str | None]] = {}
    for row, name in session.execute(query):
        newest.setdefault((row.node_id, row.cidr if row.vni is None else row.vni), (row, name))
    holders: defaultdict[tuple[str, int], list[Holder]] = defaultdict(list)
    if newest:
        for device in session.scalars(
            select(Device).where(
                tuple_(Device.node_id, Device.vni).in_(
                    [(row.node_id, row.vni) for row, _ in newest.values() if row.vni is not None]
                )
            )
        ):
            holders[device.node_id, device.vni].append(
                Holder(f"{device.name} in {where(device)}", device.verdict, device.reason)
            )
    found: defaultdict[str, list[Rejecting]] = defaultdict(list)
    for row, named_so in newest.values():
        found[row.node_id].append(
            Rejecting(
                named_so or row.cidr or "unknown",
                row.vni,
                row.at,
                row.doubt,
                () if row.vni is None else holders[row.node_id, row.vni],
            )
        )
    return found


def where(device: Device) -> str:
    """Where a device is, as a person finds it."""
    if device.netns_file is None:
        return device.netns
    return f"{device.netns} ({device.netns_file})"


def _write_nodes(session: Session, changed: Mapping[str, Stored]) -> None:
    if not changed:
        return
    # Whoever has a row just now changes it: it is looked at again in the next step, and nobody waits.
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
