"""The nodes and devices that clients follow, with the filters of their lists."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, cast

from sqlalchemy import Text, case, func, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import Session

from contract.verdicts import Mode, Verdict
from controller.api.answers.base import Answer
from controller.api.routes.devices import device_answers
from controller.api.routes.nodes import node_answers
from controller.api.watch.topic import MAX_ROWS, Source
from controller.conditions.model import Status
from controller.db.models import Cluster, Device, DueNode, Network, Node
from controller.db.states import RunState
from controller.safety.suppressed import DeviceKey
from controller.views import queries

_CHUNK: Final = 500
_MOVING: Final = frozenset(
    {"worker_seen_at", "last_run_at", "last_run_id", "looked_at", "journal_id", "journal_through"}
)
"""Columns of nodes that every run moves: no event, so the item is not derived for them alone."""

Item = TypeVar("Item")


def chunks(keys: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Yield keys, as many at a time as a statement takes."""
    for first in range(0, len(keys), _CHUNK):
        yield keys[first : first + _CHUNK]


class NodeSource(Source):
    """Nodes; `ready`: only those with this status of `Ready`."""

    quiet: Mapping[str, Any] = {
        "worker_seen_at": True,
        "looked_at": True,
        "due_at": True,
        "due_reasons": True,
        "running": True,
        "last_run": {"at"},
    }
    depends_on_time = True

    def __init__(self, ready: Status | None) -> None:
        self._ready = ready

    def marks(self, session: Session) -> Mapping[Hashable, int]:
        columns = [
            sql_cast(column, Text)
            for column in Node.__table__.columns
            if not column.primary_key and column.name not in _MOVING
        ]
        stale = queries.age(session.get(Cluster, 1)).is_stale(datetime.now(UTC))
        failed_run = case((Node.last_run_state != RunState.SUCCEEDED, Node.last_run_id))
        query = queries.nodes_query(self._ready, stale=stale).with_only_columns(
            Node.id, *columns, sql_cast(failed_run, Text), DueNode.failures
        )
        query = query.join(DueNode, DueNode.node_id == Node.id, isouter=True)
        rows = session.execute(query.order_by(Node.hostname, Node.id).limit(MAX_ROWS + 1)).all()
        counts: dict[str, int] = {}
        for node_id, *count in session.execute(
            select(Device.node_id, sql_cast(Device.verdict, Text), func.count())
            .group_by(Device.node_id, sql_cast(Device.verdict, Text))
            .order_by(Device.node_id, sql_cast(Device.verdict, Text))
        ):
            counts[node_id] = hash((counts.get(node_id), *count))
        return {row[0]: hash((stale, counts.get(row[0]), *row)) for row in rows}

    def items(self, session: Session, keys: Sequence[Hashable]) -> Mapping[Hashable, Answer]:
        found: dict[Hashable, Answer] = {}
        for chunk in chunks(keys):
            query = queries.nodes_query(None).where(Node.id.in_(chunk))
            for answer in node_answers(session, session.scalars(query).all()):
                found[answer.id] = answer
        return found


class DeviceSource(Source):
    """Devices; None: of any node or network, with any verdict. `mode`: of the controller's settings."""

    quiet: Mapping[str, Any] = {"looked_at": True}
    depends_on_time = True

    def __init__(
        self, mode: Mode, node: Node | None, network: Network | None, verdict: Verdict | None
    ) -> None:
        self._mode = mode
        self._query = queries.devices_query(node, network, verdict)

    def marks(self, session: Session) -> Mapping[Hashable, int]:
        order = (Device.node_id, Device.netns, Device.ifindex)
        columns = [
            sql_cast(column, Text)
            for column in (*Device.__table__.columns, *_holding(Node))
            if not column.primary_key
        ]
        query = self._query.with_only_columns(*order, Node.hostname, *columns)
        rows = session.execute(query.order_by(*order).limit(MAX_ROWS + 1)).all()
        held = self._holds(session)
        return {DeviceKey(*row[:3]): hash((held, *row)) for row in rows}

    def items(self, session: Session, keys: Sequence[Hashable]) -> Mapping[Hashable, Answer]:
        wanted = cast("Sequence[DeviceKey]", keys)
        found: dict[Hashable, Answer] = {}
        for chunk in chunks(list(dict.fromkeys(key.node_id for key in wanted))):
            rows = session.execute(self._query.where(Device.node_id.in_(chunk))).all()
            for answer in device_answers(session, rows, self._mode):
                found[DeviceKey(answer.node_id, answer.netns, answer.ifindex)] = answer
        return {key: found[key] for key in wanted if key in found}

    @staticmethod
    def _holds(session: Session) -> int:
        """Return a mark of what holds removals back on the whole cluster, or on networks."""
        return hash(
            tuple(
                tuple(row)
                for table in (Cluster, Network)
                for row in session.execute(
                    select(
                        table.id, *(sql_cast(column, Text) for column in _holding(table))
                    ).order_by(table.id)
                )
            )
        )


def _holding(table: type[Cluster | Network | Node]) -> list[Any]:
    """Return the columns of a table by which people, labels and breakers hold removals back."""
    first = ("mode", "paused", "breaker", "label", "name", "gone")
    return [column for column in table.__table__.columns if column.name.startswith(first)]
