"""The devices that the nodes' reports showed: storing what has changed since the reports before.

Nearly always nothing has: then nothing is written, however many devices there are.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, NamedTuple

from sqlalchemy import Row, bindparam, delete, select, tuple_, update
from sqlalchemy.orm import Session

from contract.messages import DeviceReport, Drift, ReconcileReport
from contract.verdicts import Verdict
from controller.db import bulk
from controller.db.models import Device
from controller.db.types import Base

_BY_THE_WATCH: Final = "not reported by the link watch"
_MAX_HINTED: Final = 100
"""As many as one drift hint has."""
_TABLE: Final = Base.metadata.tables[Device.__tablename__]
_KEY: Final = ("node_id", "netns", "ifindex")
_IDENTITY: Final = ("name", "vni", "port")
_SAID: Final = (
    "verdict", "urgency", "network_id", "reason", "evidence", "proof", "netns_file", "held_back",
)  # fmt: skip
_said: Final = attrgetter(*_SAID)
_WRITTEN: Final = (*_IDENTITY, *_SAID, "first_seen_at", "verdict_at", "judged_at")
_NOT_OURS: Final = frozenset({Verdict.FOREIGN, Verdict.CONFLICT})
_THE_ONE: Final = [_TABLE.c[name] == bindparam(f"the_{name}") for name in _KEY]
_SELECT: Final = select(
    *(_TABLE.c[name] for name in (*_KEY, *_IDENTITY, *_SAID, "first_seen_at", "verdict_at"))
).execution_options(**bulk.UNPREPARED)
_HINTED: Final = select(_TABLE.c.netns, _TABLE.c.ifindex, _TABLE.c.evidence).where(
    _TABLE.c.node_id == bindparam("node_id"),
    (_TABLE.c.evidence == _BY_THE_WATCH)
    | tuple_(_TABLE.c.netns, _TABLE.c.ifindex).in_(bindparam("keys", expanding=True)),
)
_UPDATE: Final = (
    update(_TABLE).where(*_THE_ONE).values({name: bindparam(name) for name in _WRITTEN})
)
_DELETE: Final = delete(_TABLE).where(*_THE_ONE)

_Stored = Mapping[tuple[str, int], Row[Any]]
"""The devices of a node by place and ifindex."""


class Change(NamedTuple):
    """A device whose verdict or urgency is another than in the report before.

    `was`: the verdict before, and an orphan's urgency; None for a new device.
    """

    device: DeviceReport
    was: str | None


class _Difference(NamedTuple):
    new: list[dict[str, Any]]
    other: list[dict[str, Any]]
    gone: list[dict[str, Any]]


def store(
    session: Session, reports: Sequence[ReconcileReport], now: datetime
) -> dict[str, list[Change]]:
    """Make the devices of these nodes those of their reports, one each.

    Returns:
        Node id to the devices whose verdict is another than in the report before.
    """
    stored = _stored(session, [report.node_id for report in reports])
    difference = _Difference([], [], [])
    changes = {}
    for report in reports:
        before = stored[report.node_id]
        changes[report.node_id] = list(_compare(report, before, now, difference))
    if difference.gone:
        session.execute(_DELETE, difference.gone)
    if difference.other:
        session.execute(_UPDATE, difference.other)
    if difference.new:
        bulk.insert_rows(session, _TABLE, difference.new)
    return changes


def store_hint(session: Session, drift: Drift, now: datetime) -> None:
    """Add the devices that are new: the request that follows can then name their networks.

    At most `_MAX_HINTED` of a node at a time, however many hints come before the next report.
    """
    new = {(identity.netns, identity.ifindex): identity for identity in drift.devices}
    known = session.execute(_HINTED, {"node_id": drift.node_id, "keys": list(new)}).all()
    room = _MAX_HINTED - sum(row.evidence == _BY_THE_WATCH for row in known)
    for row in known:
        new.pop((row.netns, row.ifindex), None)
    session.add_all(
        Device(
            node_id=drift.node_id,
            netns=identity.netns,
            ifindex=identity.ifindex,
            name=identity.name,
            vni=identity.vni,
            port=identity.port,
            verdict=Verdict.SETTLING,
            reason="the link watch says that it is idle; a run judges it next",
            evidence=_BY_THE_WATCH,
            first_seen_at=now,
            verdict_at=now,
            judged_at=now,
        )
        for identity in list(new.values())[: max(room, 0)]
    )


def _stored(session: Session, nodes: Sequence[str]) -> Mapping[str, _Stored]:
    found: defaultdict[str, dict[tuple[str, int], Row[Any]]] = defaultdict(dict)
    for row in session.execute(_SELECT.where(_TABLE.c.node_id.in_(nodes))):
        found[row.node_id][row.netns, row.ifindex] = row
    return found


def _compare(
    report: ReconcileReport, stored: _Stored, now: datetime, difference: _Difference
) -> Iterator[Change]:
    """Add what is to be written of one node; yield the devices that are judged otherwise."""
    reported = {
        (device.identity.netns, device.identity.ifindex): device for device in report.devices
    }
    for key, device in reported.items():
        row = stored.get(key)
        same = row if row is not None and row[3:6] == _identity(device) else None
        before = None if same is None or same.evidence == _BY_THE_WATCH else same
        if _is_change(device, before):
            yield Change(device, None if before is None else judged(before))
        if device.removed:
            continue
        if same is not None and same[6 : 6 + len(_SAID)] == _said(device):
            continue
        written = dict(zip(_WRITTEN[:-3], _identity(device) + _said(device), strict=True))
        stays = same is not None and same.verdict is device.verdict
        written |= {
            "first_seen_at": now if same is None else same.first_seen_at,
            "verdict_at": same.verdict_at if same is not None and stays else now,
            "judged_at": now,
        }
        if row is None:
            difference.new.append(dict(zip(_KEY, (report.node_id, *key), strict=True)) | written)
        else:
            difference.other.append(_the(report.node_id, *key) | written)
    for netns, ifindex in stored:
        reported_device = reported.get((netns, ifindex))
        if reported_device is None or reported_device.removed:
            difference.gone.append(_the(report.node_id, netns, ifindex))


def judged(device: DeviceReport | Row[Any]) -> str:
    """Return a verdict, with the urgency that an orphan has: `orphan/blocking`."""
    return f"{device.verdict}/{device.urgency}" if device.urgency else f"{device.verdict}"


def _is_change(device: DeviceReport, before: Row[Any] | None) -> bool:
    """Whether the audit trail records this verdict, given the row before it.

    A new device of Docker's gets no row: every one begins as settling or in use, and an orphan has its
    own row (`detected`). An orphan that hurts more or less than before gets one.
    """
    if before is None:
        return device.verdict in _NOT_OURS
    return (device.verdict, device.urgency) != (before.verdict, before.urgency)


def _identity(device: DeviceReport) -> tuple[object, ...]:
    return device.identity.name, device.identity.vni, device.identity.port


def _the(node_id: str, netns: str, ifindex: int) -> dict[str, Any]:
    return {"the_node_id": node_id, "the_netns": netns, "the_ifindex": ifindex}
