"""Explains error texts: their faults, and what the controller knows of the nodes and networks they name.

Docker's line names a subnet at most. More is known from the text around it (names, ids, a device), from the
networks' subnets, and from tasks that were rejected with the same subnet.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, TypeVar

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from contract.verdicts import Verdict
from controller.conditions import holds
from controller.conditions.model import Status, Type
from controller.db.models import Device, Network, Node, Rejection
from controller.explain.catalogue import Entry
from controller.explain.clues import Clues
from controller.explain.reading import Finding, Group, grouped, read
from controller.explain.sentences import LOOK_AT_LOG, filled, missing
from controller.safety.holding import Holding
from controller.swarm.model import normal_cidr
from controller.views.directory import Directory
from controller.views.outlook import NodeOutlook, Question, Situation, State, look_for, node_outlook

Row = TypeVar("Row", Node, Network)

_MAX_SUBJECTS: Final = 5
"""Nodes or networks of one finding."""
_MAX_VNIS: Final = 16
_MAX_TASKS: Final = 2_000
_MAX_PREFIXES: Final = 50
_TASK_ID: Final = 25

_CONFLICT_TITLE: Final = "a device of other software has the VNI that a network needs"
_CONFLICT: Final = (
    "Docker could not make the VXLAN device of a network, because a device of other software has the same "
    "VNI and UDP port. Swarm rejects each task of the network on that node until one of the two has another. "
    "The operator never removes it."
)


@dataclass(frozen=True, slots=True)
class Explained:
    """A group of findings and what is known of it; the API's answer describes the fields."""

    group: Group
    title: str
    cause: str
    cure: Sequence[str]
    nodes: Sequence[Node]
    networks: Sequence[Network]
    vnis: Sequence[int]
    on_nodes: Sequence[NodeOutlook]
    look_for: Sequence[str]
    missing: Sequence[str]

    @property
    def finding(self) -> Finding:
        return self.group.finding


@dataclass(frozen=True, slots=True)
class Explanation:
    """The meaning of a text.

    Attributes:
        nodes, networks: those named by a text without any known fault.
        advice: what to do about such a text.
        more: the number of groups that are left out.
    """

    lines: int
    findings: Sequence[Explained]
    more: int
    nodes: Sequence[Node]
    networks: Sequence[Network]
    advice: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Subjects:
    """The nodes and networks of a finding, as ids."""

    nodes: tuple[str, ...]
    networks: tuple[str, ...]


def explain(session: Session, text: str, situation: Situation) -> Explanation:
    """Explain a text of any kind.

    Raises:
        TooLongError: it is longer than `controller.explain.text.MAX_TEXT`.
    """
    return _Explainer(session, situation).explain(text)


# Made once: a log of a thousand lines asks hundreds of times, and making them costs more than asking.
_REJECTED: Final = (
    select(Rejection.node_id, Rejection.network_id)
    .join(Node, Node.id == Rejection.node_id)
    .where(Rejection.cidr == bindparam("cidr"), Node.gone_at.is_(None))
    .group_by(Rejection.node_id, Rejection.network_id)
    .order_by(func.max(Rejection.at).desc())
    .limit(4 * _MAX_SUBJECTS)
)
_REJECTED_BY: Final = _REJECTED.where(Rejection.node_id.in_(bindparam("nodes", expanding=True)))


class _Explainer:
    """Explains one text with one look at the names of all nodes and networks."""

    def __init__(self, session: Session, situation: Situation) -> None:
        self._session = session
        self._situation = situation
        self._directory = Directory(session)
        self._typed = holds.Names(
            (node.id, node.name) for node in self._directory.nodes.by_id.values() if not node.gone
        )
        self._holding = Holding(session, situation.mode, situation.now)
        self._rejections: Mapping[str, Rejection] = {}

    def explain(self, text: str) -> Explanation:
        reading = read(text, self._situation.now)
        self._rejections = self._of_tasks(
            dict.fromkeys(task for found in reading.findings for task in found.clues.tasks)
        )
        subjects: dict[object, _Subjects] = {}

        def key(found: Finding) -> tuple[str, bool, str | None, str | None, _Subjects]:
            named = found.clues
            clue = (
                named.nodes, named.networks, named.words, named.ids, named.vnis, named.devices, found.subnet,
                tuple(task for task in named.tasks if task in self._rejections), found.about.leak,
            )  # fmt: skip
            if clue not in subjects:
                subjects[clue] = self._subjects(found)
            device = None if found.device is None else found.device.name
            return found.about.id, found.certain, found.subnet, device, subjects[clue]

        groups, more = grouped(reading.findings, key)
        # Those of the group's key, which all its findings have.
        findings = [self._explained(group, key(group.finding)[-1]) for group in groups]
        if findings:
            return Explanation(reading.lines, findings, more, [], [], [])
        nodes = self._rows(Node, self._directory.named_nodes(reading.clues))
        networks = self._rows(Network, self._directory.named_networks(reading.clues, None))
        return Explanation(reading.lines, [], 0, nodes, networks, [*_of_unknown(nodes)])

    def _of_tasks(self, tasks: Iterable[str]) -> Mapping[str, Rejection]:
        """Return the rejections of tasks that are named by their ids or the beginnings of these."""
        given = list(tasks)[:_MAX_TASKS]
        whole = [task for task in given if len(task) == _TASK_ID]
        found: dict[str, Rejection] = {}
        for start in range(0, len(whole), 500):
            query = select(Rejection).where(Rejection.task_id.in_(whole[start : start + 500]))
            found.update((row.task_id, row) for row in self._session.scalars(query))
        for task in [task for task in given if len(task) < _TASK_ID][:_MAX_PREFIXES]:
            between = Rejection.task_id.between(task, task.ljust(_TASK_ID, "z"))
            rows = self._session.scalars(select(Rejection).where(between).limit(2)).all()
            if len(rows) == 1:
                found[task] = rows[0]
        return found

    def _subjects(self, found: Finding) -> _Subjects:
        named, subnet = found.clues, found.subnet
        rejections = [self._rejections[task] for task in named.tasks if task in self._rejections]
        nodes = self._directory.named_nodes(named) or [row.node_id for row in rejections]
        networks = [row.network_id for row in rejections if row.network_id is not None]
        networks = networks or self._directory.named_networks(
            _without(named, nodes, self._directory), subnet
        )
        if found.about.leak:
            if subnet is not None:
                rejected = self._rejected(subnet, nodes)
                # A line that names a node is about that node, even if others rejected the same subnet.
                nodes = nodes or [node for node, _ in rejected]
                known = [network for _, network in rejected if network is not None]
                networks = [id_ for id_ in networks if id_ in known] or networks or known
            elif not nodes and networks:
                nodes = self._where_blocked(networks, named.vnis)
        return _Subjects(_first(nodes), _first(networks))

    def _rejected(self, subnet: str, nodes: Sequence[str]) -> Sequence[tuple[str, str | None]]:
        """Return nodes that rejected tasks because of a subnet, newest first, each with the network.

        However many there were since: of each node and network the index gives the newest.
        """
        query = _REJECTED_BY if nodes else _REJECTED
        values = {"cidr": normal_cidr(subnet), **({"nodes": nodes} if nodes else {})}
        return [(row.node_id, row.network_id) for row in self._session.execute(query, values)]

    def _where_blocked(self, networks: Sequence[str], vnis: Sequence[int]) -> list[str]:
        """Return the nodes where a device is, or tasks are rejected, because of these networks' VNIs."""
        wanted = list(vnis) or self._vnis(self._rows(Network, networks), None)
        blocked = (Verdict.ORPHAN, Verdict.CONFLICT, Verdict.SETTLING)
        query = (
            select(Device.node_id)
            .join(Node, Node.id == Device.node_id)
            .where(Device.vni.in_(wanted), Device.verdict.in_(blocked), Node.gone_at.is_(None))
            .limit(_MAX_SUBJECTS)
        )
        rejecting = (
            select(Rejection.node_id)
            .where(Rejection.settled_at.is_(None), Rejection.vni.in_(wanted))
            .limit(4 * _MAX_SUBJECTS)
        )
        return [*self._session.scalars(query), *self._session.scalars(rejecting)]

    def _rows(self, kind: type[Row], ids: Iterable[str]) -> list[Row]:
        rows = (self._session.get(kind, id_) for id_ in dict.fromkeys(ids))
        return [row for row in rows if row is not None][:_MAX_SUBJECTS]

    def _vnis(self, networks: Sequence[Network], subnet: str | None) -> list[int]:
        """Return the VNIs of networks, or of their subnet that is meant."""
        rows = [row for network in networks for row in network.vnis]
        cidr = normal_cidr(subnet) if subnet else None
        meant = [row.vni for row in rows if cidr is not None and row.cidr == cidr]
        return list(dict.fromkeys(meant or [row.vni for row in rows]))[:_MAX_VNIS]

    def _explained(self, group: Group, subjects: _Subjects) -> Explained:
        found = group.finding
        nodes = self._rows(Node, subjects.nodes)
        networks = self._rows(Network, subjects.networks)
        vnis = [*found.clues.vnis] or self._vnis(networks, found.subnet)
        on_nodes: list[NodeOutlook] = []
        if found.about.leak and (found.certain or vnis or nodes):
            if found.device is not None and not nodes:
                nodes = self._with_device(found.device.name, vnis)
            on_nodes = [self._on_node(node, group, networks, vnis) for node in nodes]
        title, cause = found.about.title, found.about.cause
        if on_nodes and _is_conflict(on_nodes) and isinstance(found.about, Entry):
            title, cause = _CONFLICT_TITLE, _CONFLICT
        return Explained(
            group,
            title,
            cause,
            self._cure(found, nodes, networks),
            nodes,
            networks,
            vnis,
            on_nodes,
            look_for(networks, vnis) if found.about.leak and found.device is None else [],
            [*missing(found, node=bool(nodes), network=bool(networks or vnis))],
        )

    def _cure(
        self, found: Finding, nodes: Sequence[Node], networks: Sequence[Network]
    ) -> list[str]:
        names = {
            "NODE": self._typed.typed(nodes[0].id) if len(nodes) == 1 else None,
            "NETWORK": networks[0].name if len(networks) == 1 else None,
            "SANDBOX": f"1-{networks[0].id[:10]}" if len(networks) == 1 else None,
            "SERVICE": found.clues.service,
            "DEVICE": None if found.device is None else found.device.name,
        }
        return filled(found.about.cure, names)

    def _on_node(
        self, node: Node, group: Group, networks: Sequence[Network], vnis: Sequence[int]
    ) -> NodeOutlook:
        found = group.finding
        subnet = normal_cidr(found.subnet) if found.subnet else None
        device = found.device.name if found.device is not None else None
        at: datetime | None = group.last
        question = Question(networks, vnis, subnet, at, device)
        typed = self._typed.typed(node.id)
        return node_outlook(self._session, node, question, self._situation, self._holding, typed)

    def _with_device(self, name: str, vnis: Sequence[int]) -> list[Node]:
        """Return the nodes whose last report has a device of this name."""
        having = select(Device.node_id).where(Device.name == name)
        if vnis:
            having = having.where(Device.vni.in_(vnis))
        query = (
            select(Node)
            .where(Node.id.in_(having), Node.gone_at.is_(None))
            .order_by(Node.id)
            .limit(_MAX_SUBJECTS)
        )
        return list(self._session.scalars(query))


def _without(named: Clues, nodes: Sequence[str], directory: Directory) -> Clues:
    """Return the clues to networks: a word that names a node names no network."""
    known = {
        directory.nodes.by_id[id_].name.lower() for id_ in nodes if id_ in directory.nodes.by_id
    }
    return replace(named, words=tuple(word for word in named.words if word not in known))


def _first(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(ids))[:_MAX_SUBJECTS]


def _is_conflict(on_nodes: Sequence[NodeOutlook]) -> bool:
    """Whether all devices in the way are those of other software."""
    devices = [
        device for where in on_nodes if where.state is State.HELD for device in where.devices
    ]
    in_the_way = [device for device in devices if device.verdict is not Verdict.IN_USE]
    return bool(in_the_way) and all(
        device.verdict in (Verdict.CONFLICT, Verdict.FOREIGN) for device in in_the_way
    )


def _of_unknown(nodes: Sequence[Node]) -> Iterable[str]:
    for node in nodes:
        ready = node.conditions.get(Type.READY)
        if ready is not None and ready["status"] != Status.TRUE:
            yield f"Node {node.hostname} is not ready: {ready['message']}."
    yield LOOK_AT_LOG
