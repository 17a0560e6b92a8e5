"""Removals that something holds back: which they are now, and how many there were ever."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, and_, bindparam, or_, select, tuple_, update
from sqlalchemy.orm import Session

from contract.verdicts import HELD_BY_WORKER, HeldBack, Mode, Verdict
from controller.conditions.facts import SETTLES_WITHIN
from controller.conditions.holds import Hold
from controller.db.engine import Database
from controller.db.models import Device, Network, Node, SuppressedTotal
from controller.db.types import Base
from controller.safety.holding import Holding

_READ: Final = 500
"""Devices that one query reads."""
_PERIOD_SECONDS: Final = 5.0
_MAX_SHARE: Final = 0.1
"""Share of the time spent on counting: with very many devices held back, a step takes a while."""
_TABLE: Final = Base.metadata.tables[Device.__tablename__]
_COUNTED: Final = (
    update(_TABLE)
    .where(
        *(_TABLE.c[name] == bindparam(f"the_{name}") for name in ("node_id", "netns", "ifindex"))
    )
    .values(counted_holds=bindparam("counted"))
)


class DeviceKey(NamedTuple):
    """The primary key of devices, and their sort key."""

    node_id: str
    netns: str
    ifindex: int


def suppressed(
    session: Session,
    holding: Holding,
    now: datetime,
    *,
    node: Node | None = None,
    network: Network | None = None,
    reason: HeldBack | None = None,
    after: DeviceKey | None = None,
) -> Iterator[tuple[Device, Node, Sequence[Hold]]]:
    """Yield devices whose removal is held back (by `reason`, if given), node by node, after `after`."""
    order = (Device.node_id, Device.netns, Device.ifindex)
    query = (
        select(Device, Node)
        .join(Node, Node.id == Device.node_id)
        .where(Node.gone_at.is_(None), _may_be_held(now, reason))
        .order_by(*order)
        .limit(_READ)
    )
    if node is not None:
        query = query.where(Device.node_id == node.id)
    if network is not None:
        query = query.where(Device.vni.in_([row.vni for row in network.vnis]))
    while True:
        part = query if after is None else query.where(tuple_(*order) > after)
        rows = session.execute(part).all()
        for device, owner in rows:
            found = holding.of(device, owner)
            if found and (reason is None or any(hold.reason is reason for hold in found)):
                yield device, owner, found
        if len(rows) < _READ:
            return
        last = rows[-1][0]
        after = DeviceKey(last.node_id, last.netns, last.ifindex)


def _may_be_held(now: datetime, reason: HeldBack | None = None) -> ColumnElement[bool]:
    settling = and_(Device.verdict == Verdict.SETTLING, Device.verdict_at < now - SETTLES_WITHIN)
    if reason is HeldBack.PROOF:
        return settling
    if reason in HELD_BY_WORKER - {HeldBack.BREAKER}:
        return and_(Device.verdict == Verdict.ORPHAN, Device.held_back == reason)
    orphan = Device.verdict == Verdict.ORPHAN
    return orphan if reason is not None else or_(orphan, settling)


_CANDIDATES: Final = (
    select(Device, Node)
    .join(Node, Node.id == Device.node_id)
    .where(
        Node.gone_at.is_(None),
        or_(
            Device.verdict == Verdict.ORPHAN,
            and_(Device.verdict == Verdict.SETTLING, Device.verdict_at < bindparam("settled")),
            Device.counted_holds.is_not(None),
        ),
    )
)


def totals(session: Session) -> dict[HeldBack, int]:
    """Return how many removals each reason has held back, ever."""
    found: dict[HeldBack, int] = dict.fromkeys(HeldBack, 0)
    found.update(session.execute(select(SuppressedTotal.reason, SuppressedTotal.total)).all())
    return found


class SuppressedCount:
    """Counts holdings as they begin: a device and a reason once, until that reason has ended for it.

    What is counted is stored beside the device, so neither a resync nor a restart counts it again.

    Args:
        mode: of the controller's settings.
    """

    def __init__(
        self,
        database: Database,
        *,
        mode: Mode,
        utcnow: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._mode = mode
        self._utcnow = utcnow

    def step(self) -> float:
        """Count what began since the last step, and forget what has ended.

        Returns:
            Seconds until the next step.
        """
        begin = time.monotonic()
        self._count(self._utcnow())
        return max(_PERIOD_SECONDS, (time.monotonic() - begin) * (1 / _MAX_SHARE - 1))

    def _count(self, now: datetime) -> None:
        with self._database.read() as session:
            holding = Holding(session, self._mode, now)
            changed = {
                key: (counted, before)
                for key, device, node, before in _candidates(session, now)
                if (counted := _reasons(holding.of(device, node))) != before
            }
        if not changed:
            return
        with self._database.write() as session:
            # As in `controller.conditions.store`: a locked node is left to the next step.
            free = set(
                session.scalars(
                    select(Node.id)
                    .where(Node.id.in_({key.node_id for key in changed}))
                    .order_by(Node.id)
                    .with_for_update(skip_locked=True, key_share=True)
                )
            )
            new: Counter[HeldBack] = Counter()
            rows = []
            for key, (counted, before) in changed.items():
                if key.node_id in free:
                    new.update(map(HeldBack, counted - before))
                    joined = ",".join(sorted(counted)) or None
                    rows.append(
                        {f"the_{name}": value for name, value in key._asdict().items()}
                        | {"counted": joined}
                    )
            if rows:
                session.connection().execute(_COUNTED, rows)
            for reason, count in sorted(new.items()):
                row = session.get(SuppressedTotal, reason)
                if row is None:
                    session.add(SuppressedTotal(reason=reason, total=count))
                else:
                    row.total += count


def _candidates(
    session: Session, now: datetime
) -> Iterator[tuple[DeviceKey, Device, Node, frozenset[str]]]:
    """Yield the devices that may be held back, or were, with the reasons that are counted."""
    rows = session.execute(_CANDIDATES, {"settled": now - SETTLES_WITHIN})
    for device, node in rows:
        before = frozenset(device.counted_holds.split(",") if device.counted_holds else ())
        yield DeviceKey(device.node_id, device.netns, device.ifindex), device, node, before


def _reasons(found: Sequence[Hold]) -> frozenset[str]:
    return frozenset(hold.reason.value for hold in found)
