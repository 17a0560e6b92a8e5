"""Nodes by networks: what should be there against what was seen, and all about one cell.

Rows are the nodes on which something is not as it should be, columns the networks that it is about: of 500
nodes and 60 networks, nearly all cells are as they should be, and are counted. `Cell.sign` is a verdict of
docs/dashboard.md.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import String, cast, func, select, text
from sqlalchemy.orm import Session

from contract.verdicts import Mode, Verdict
from controller.api.answers.devices import DeviceAnswer
from controller.api.routes.devices import device_answers
from controller.conditions.model import Status
from controller.db import lookup
from controller.db.models import (
    NOT_IN_USE,
    Attachment,
    Cluster,
    Device,
    Network,
    NetworkVni,
    Node,
)
from controller.views import queries
from controller.views.diff import Kind
from controller.views.queries import NodeReady
from controller.web import words

PAGE_ROWS: Final = 40
PAGE_COLUMNS: Final = 14
MAX_SEARCHED: Final = 60
"""Networks that a search may show at a time."""
_MAX_DEVICES: Final = 50
"""Of a cell: a node with more of one network is lost anyway."""
_MISSING: Final = Kind.MISSING.value
_UNWANTED: Final = Kind.UNWANTED.value
_GRAVITY: Final = (
    Verdict.CONFLICT.value, Verdict.ORPHAN.value, _MISSING, Verdict.SETTLING.value, _UNWANTED,
    Verdict.FOREIGN.value, Verdict.IN_USE.value,
)  # fmt: skip
"""Signs of a cell, the one that is shown first."""
_AS_IT_SHOULD_BE: Final = frozenset({Verdict.IN_USE.value, Verdict.FOREIGN.value, ""})


class Column(NamedTuple):
    """A network, or a VNI of none that is known, which has no `id`."""

    key: str
    id: str
    name: str
    vnis: Sequence[int]


class Cell(NamedTuple):
    """A network on a node.

    Attributes:
        sign: a verdict, `missing`, `unwanted`, or "": nothing is there, and nothing has to be.
        wanted: whether the node should have the network.
        more: further devices with the network's VNIs there.
    """

    sign: str
    wanted: bool
    more: int

    @property
    def says(self) -> str:
        """The cell in words."""
        wanted = "wanted" if self.wanted else "not wanted"
        seen = self.sign.replace("_", " ") or "no device"
        more = f", and {self.more} more" if self.more else ""
        return f"{seen}, {wanted}{more}"


_EMPTY: Final = Cell("", wanted=False, more=0)


class Row(NamedTuple):
    """A node with its cells, and how well it is.

    Attributes:
        look, reason: of `controller.web.words`.
        fine: networks that are as they should be, and in no column.
    """

    id: str
    hostname: str
    look: str
    reason: str
    looked_at: datetime | None
    cells: Sequence[Cell]
    fine: int


class Matrix(NamedTuple):
    """A part of the matrix.

    Attributes:
        more_rows, more_columns: nodes and networks that match, and are not in this part.
        folded_rows, folded_columns: those that are as they should be, or do not match.
        wrong: number of devices by verdict, of the whole Swarm.
    """

    columns: Sequence[Column]
    rows: Sequence[Row]
    more_rows: int
    more_columns: int
    folded_rows: int
    folded_columns: int
    wrong: Mapping[str, int]


class Search(NamedTuple):
    """What is asked for.

    Attributes:
        node, network: part of the name, or the beginning of the id; "": any.
        everything: also what is as it should be.
        page: from 0.
    """

    node: str = ""
    network: str = ""
    everything: bool = False
    page: int = 0


def matrix(session: Session, search: Search, now: datetime) -> Matrix:
    """Return the part of the matrix that was asked for."""
    stale = queries.age(session.get(Cluster, 1)).is_stale(now)
    known = {node.id: node for node in queries.ready_of_all(session)}
    networks = _networks(session)
    sought = {key for key, column in networks.items() if _is_sought(search.network, column)}
    ids = _nodes(session, search, known, sought, stale=stale)
    first = search.page * PAGE_ROWS
    shown = ids[first : first + PAGE_ROWS]
    cells = _cells(session, shown, networks)
    columns = _columns(search, networks, cells)
    part = columns[: MAX_SEARCHED if search.network else PAGE_COLUMNS]
    looked_at = dict(
        session.execute(select(Node.id, Node.looked_at).where(Node.id.in_(shown))).all()
    )
    return Matrix(
        columns=part,
        rows=[_row(known[id_], looked_at[id_], part, cells[id_], stale=stale) for id_ in shown],
        more_rows=max(len(ids) - first - len(shown), 0),
        more_columns=len(columns) - len(part),
        folded_rows=len(known) - len(ids),
        folded_columns=len(networks) - len(columns),
        wrong=_wrong(session),
    )


def _networks(session: Session) -> dict[str, Column]:
    """Return the networks of the Swarm by id, in the order of their names."""
    vnis: defaultdict[str, list[int]] = defaultdict(list)
    for id_, vni in session.execute(select(NetworkVni.network_id, NetworkVni.vni)):
        vnis[id_].append(vni)
    query = select(Network.id, Network.name).where(Network.gone_at.is_(None))
    rows = session.execute(query.order_by(Network.name, Network.id))
    return {id_: Column(id_, id_, name, vnis[id_]) for id_, name in rows}


def _is_sought(text_: str, column: Column) -> bool:
    lowered = text_.lower()
    return not text_ or lowered in column.name.lower() or column.id.startswith(lowered)


def _nodes(
    session: Session,
    search: Search,
    known: Mapping[str, NodeReady],
    sought: Collection[str],
    *,
    stale: bool,
) -> list[str]:
    """Return the ids of the nodes that are rows, the gravest first."""
    query = select(Device.node_id).where(
        text(f"devices.{NOT_IN_USE}"), Device.verdict != Verdict.FOREIGN
    )
    with_devices = {*session.scalars(query.distinct())}
    missing = select(Node.id).where(Node.gone_at.is_(None), cast(Node.missing, String) != "[]")
    with_devices |= {*session.scalars(missing), *_with_unwanted(session)}
    lowered = search.node.lower()
    found = [
        node
        for node in known.values()
        if lowered in node.hostname.lower() or node.id.startswith(lowered)
    ]
    looks = {node.id: _look(node, stale=stale) for node in found}
    if search.network:
        carriers = select(Attachment.node_id).where(Attachment.network_id.in_(sought)).distinct()
        holders = select(Device.node_id).where(Device.network_id.in_(sought)).distinct()
        having = {*session.scalars(carriers), *session.scalars(holders)}
        found = [node for node in found if node.id in having]
    elif not search.node and not search.everything:
        found = [node for node in found if node.id in with_devices or looks[node.id] != words.OK]
    found.sort(
        key=lambda node: (
            words.ORDER.index(looks[node.id]), node.id not in with_devices, node.hostname, node.id
        )
    )  # fmt: skip
    return [node.id for node in found]


def _with_unwanted(session: Session) -> set[str]:
    """Return the ids of the nodes with a device in use whose VNI no network has that is wanted there."""
    of_its_network = select(Attachment.node_id).where(
        Attachment.node_id == Device.node_id, Attachment.network_id == Device.network_id
    )
    # Asked for few: of a network that the controller did not know when the node was looked at.
    of_its_vni = (
        select(Attachment.node_id)
        .join(NetworkVni, NetworkVni.network_id == Attachment.network_id)
        .where(NetworkVni.vni == Device.vni, Attachment.node_id == Device.node_id)
    )
    query = select(Device.node_id).where(
        Device.verdict == Verdict.IN_USE, ~of_its_network.exists(), ~of_its_vni.exists()
    )
    return {*session.scalars(query.distinct())}


def _look(node: NodeReady, *, stale: bool) -> str:
    return words.UNKNOWN if stale else words.look(node.status, node.reason, node.left)


def _cells(
    session: Session, ids: Sequence[str], networks: dict[str, Column]
) -> Mapping[str, Mapping[str, Cell]]:
    """Return the cells of nodes by network; a VNI of no known network becomes a network."""
    by_vni = {vni: column for column in networks.values() for vni in column.vnis}
    wanted: dict[tuple[str, str], bool] = {}
    attached = select(Attachment.node_id, Attachment.network_id, Attachment.running)
    for node_id, network_id, running in session.execute(
        attached.where(Attachment.node_id.in_(ids))
    ):
        wanted[node_id, network_id] = running
    seen: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    rows = select(Device.node_id, Device.vni, Device.verdict).where(Device.node_id.in_(ids))
    for node_id, vni, verdict in session.execute(rows):
        column = by_vni.get(vni)
        if column is None and verdict is Verdict.FOREIGN:
            continue  # Not Docker's, and in nobody's way.
        if column is None:
            key = f"vni:{vni}"
            column = by_vni[vni] = networks[key] = Column(key, "", f"VNI {vni}", (vni,))
        seen[node_id, column.key].append(verdict.value)
    cells: dict[str, dict[str, Cell]] = {id_: {} for id_ in ids}
    for node_id, key in wanted.keys() | seen.keys():
        cells[node_id][key] = _cell(seen.get((node_id, key), []), wanted.get((node_id, key)))
    return cells


def _cell(verdicts: Sequence[str], running: bool | None) -> Cell:
    """Return a cell; `running`: whether a task of the network runs there, None: it is not wanted there."""
    signs = [
        _UNWANTED if verdict == Verdict.IN_USE and running is None else verdict
        for verdict in verdicts
    ]
    if running and Verdict.IN_USE.value not in signs:
        signs.append(_MISSING)
    signs.sort(key=_GRAVITY.index)
    return Cell(signs[0] if signs else "", running is not None, max(len(verdicts) - 1, 0))


def _columns(
    search: Search,
    networks: Mapping[str, Column],
    cells: Mapping[str, Mapping[str, Cell]],
) -> list[Column]:
    """Return the networks that are columns, those with the gravest cells first."""
    gravity: dict[str, int] = {}
    for row in cells.values():
        for key, cell in row.items():
            if cell.sign not in _AS_IT_SHOULD_BE:
                gravity[key] = min(_GRAVITY.index(cell.sign), gravity.get(key, len(_GRAVITY)))
    everything = search.everything or len(networks) <= PAGE_COLUMNS or bool(search.network)
    found = [
        column
        for key, column in networks.items()
        if (everything or key in gravity) and _is_sought(search.network, column)
    ]
    return sorted(found, key=lambda column: gravity.get(column.key, len(_GRAVITY)))


def _row(
    node: NodeReady,
    looked_at: datetime | None,
    columns: Sequence[Column],
    cells: Mapping[str, Cell],
    *,
    stale: bool,
) -> Row:
    keys = {column.key for column in columns}
    reason = node.left if node.status == Status.TRUE and node.left else node.reason
    return Row(
        id=node.id,
        hostname=node.hostname,
        look=_look(node, stale=stale),
        reason=words.words(reason),
        looked_at=looked_at,
        cells=[cells.get(column.key, _EMPTY) for column in columns],
        fine=sum(cell.wanted and key not in keys for key, cell in cells.items()),
    )


def _wrong(session: Session) -> Mapping[str, int]:
    query = select(Device.verdict, func.count()).where(text(f"devices.{NOT_IN_USE}"))
    return {
        verdict.value: count for verdict, count in session.execute(query.group_by(Device.verdict))
    }


class Details(NamedTuple):
    """All about a cell.

    Attributes:
        network: None: no known network has the VNI.
        attachment: why the node should have the network; None: it should not.
        devices: those with a VNI of the network on the node.
        cell: the same in short.
    """

    node: Node
    network: Network | None
    vni: int | None
    attachment: Attachment | None
    devices: Sequence[DeviceAnswer]
    cell: Cell


def details(
    session: Session, mode: Mode, *, node: str, network: str | None, vni: int | None
) -> Details:
    """Return all about a cell.

    Args:
        mode: of the controller's settings.
        network: id, id prefix or name; None: `vni` says which one, if any has it.

    Raises:
        UnknownError, AmbiguousError: no or several nodes or networks have this name.
    """
    found = lookup.find_node(session, node)
    of: Network | None
    if network is not None:
        of = lookup.find_network(session, network)
    else:
        ids = select(NetworkVni.network_id).where(NetworkVni.vni == vni)
        query = select(Network).where(Network.id.in_(ids), Network.gone_at.is_(None))
        of = session.scalars(query.limit(1)).first()
    vnis = [row.vni for row in of.vnis] if of is not None else [vni]
    devices = queries.devices_query(found, None, None).where(Device.vni.in_(vnis))
    rows = session.execute(devices.order_by(Device.netns, Device.ifindex).limit(_MAX_DEVICES)).all()
    attachment = None if of is None else session.get(Attachment, (found.id, of.id))
    return Details(
        node=found,
        network=of,
        vni=vni,
        attachment=attachment,
        devices=device_answers(session, [(row[0], row[1]) for row in rows], mode),
        cell=_cell(
            [row[0].verdict.value for row in rows],
            None if attachment is None else attachment.running,
        ),
    )
