"""What open pages follow: a few parts of the database, each with a mark that changes when it does.

A page that hears of a change asks for itself again, so nothing is missed however many changes were between.
Every mark is cheap, as all of them are read five times a second while anything is written: a maximum along
an index, or a few columns of a small table.
"""

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Text, func, select, text
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import Session

from controller.api.answers.base import Answer
from controller.api.watch.topic import Source
from controller.db.audit_models import AuditRow
from controller.db.models import NOT_IN_USE, Cluster, Device, Event, Lease, Network, Node, Run
from controller.db.states import RunState

_MOVING: Final = frozenset(
    {"synced_at", "sync_seconds", "sync_share", "conditions_at", "conditions_until"}
)
"""Columns of the cluster that every reading and every look moves."""


class Part(StrEnum):
    """What a page can depend on; the name of its server-sent event."""

    CLUSTER = "cluster"
    """The Swarm's reading, the cluster's conditions, mode, pause and breaker, and who leads."""
    NODES = "nodes"
    """Nodes, their conditions, modes, pauses and breakers."""
    NETWORKS = "networks"
    """Networks, their modes and pauses."""
    DEVICES = "devices"
    """Devices that are not in use."""
    RUNS = "runs"
    """Runs that begin and end."""
    AUDIT = "audit"
    """New audit rows."""


class PartAnswer(Answer):
    """A part that has changed."""

    part: str
    mark: str


class PartSource(Source):
    """The parts, as rows that can be followed."""

    quiet: Mapping[str, Any] = {}
    depends_on_time = False

    def __init__(self) -> None:
        self._marks: Mapping[str, str] = {}

    def marks(self, session: Session) -> Mapping[Hashable, int]:
        """See `Source`."""
        self._marks = marks(session)
        return {part: hash(mark) for part, mark in self._marks.items()}

    def items(self, session: Session, keys: Sequence[Hashable]) -> Mapping[Hashable, Answer]:  # noqa: ARG002
        """See `Source`."""
        return {key: PartAnswer(part=str(key), mark=self._marks[str(key)]) for key in keys}


def marks(session: Session) -> Mapping[str, str]:
    """Return the mark of each part: equal ones, of whichever controller, are of the same state.

    A page that reads them first, and then what it shows, is told of everything that it does not show yet.
    """
    return {part.value: _mark(read(session)) for part, read in _READ.items()}


def _mark(values: tuple[Any, ...]) -> str:
    return hashlib.blake2b(repr(values).encode(), digest_size=6).hexdigest()


def _cluster(session: Session) -> tuple[Any, ...]:
    columns = [column for column in Cluster.__table__.columns if column.name not in _MOVING]
    cluster = session.execute(select(*(sql_cast(column, Text) for column in columns))).all()
    lease = session.execute(select(Lease.holder, Lease.fence).order_by(Lease.name)).all()
    return (*map(tuple, cluster), *map(tuple, lease))


def _nodes(session: Session) -> tuple[Any, ...]:
    # Every change of a condition is an event.
    newest = session.scalar(select(func.max(Event.id)))
    table = Node.__table__.c
    decided = session.execute(
        select(
            func.count(),
            *(
                part
                for name in (
                    "gone_at",
                    "mode_at",
                    "paused_at",
                    "paused_until",
                    "breaker_tripped_at",
                )
                for part in (func.count(table[name]), func.max(table[name]))
            ),
        )
    ).one()
    return newest, *decided


def _networks(session: Session) -> tuple[Any, ...]:
    table = Network.__table__.c
    return tuple(
        session.execute(
            select(
                func.count(),
                *(
                    part
                    for name in ("gone_at", "mode_at", "paused_at", "paused_until")
                    for part in (func.count(table[name]), func.max(table[name]))
                ),
            )
        ).one()
    )


def _devices(session: Session) -> tuple[Any, ...]:
    query = select(func.count(), func.max(Device.judged_at)).where(text(f"devices.{NOT_IN_USE}"))
    return tuple(session.execute(query).one())


def _runs(session: Session) -> tuple[Any, ...]:
    running = select(func.count()).where(Run.state == RunState.RUNNING)
    return session.scalar(select(func.max(Run.requested_at))), session.scalar(running)


def _audit(session: Session) -> tuple[Any, ...]:
    return (session.scalar(select(func.max(AuditRow.id))),)


_READ: Final[Mapping[Part, Callable[[Session], tuple[Any, ...]]]] = {
    Part.CLUSTER: _cluster,
    Part.NODES: _nodes,
    Part.NETWORKS: _networks,
    Part.DEVICES: _devices,
    Part.RUNS: _runs,
    Part.AUDIT: _audit,
}
