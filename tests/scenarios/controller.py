"""The controller of a scenario: its real pure parts, with a few attributes for a database.

Real are: reading the Swarm (`DockerSwarm`), desired state, which rejections count and what they are about,
when the Swarm was read, the limits of the breaker. What the database does otherwise is a line or two here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

from contract.messages import (
    Acknowledgement,
    DesiredNetwork,
    JournalEntry,
    NetworkRef,
    ReconcileReport,
    ReconcileRequest,
    Rejection,
)
from contract.verdicts import Mode
from controller.safety.breaker import BreakerLimits
from controller.swarm.desired import NodeAttachments, desired_state
from controller.swarm.faults import cause_of
from controller.swarm.model import (
    READY,
    SwarmError,
    SwarmNetwork,
    SwarmNode,
    SwarmTask,
)
from controller.swarm.readings import Readings
from controller.swarm.rejections import Rejections
from tests.fake_clock import Clock
from tests.scenarios.manager import FakeManager

LIFETIME = timedelta(seconds=120)
"""From a request's making to its deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a scenario may say of one request.

    Attributes:
        to: id of the node that it is for.
        issued_after: when it was made, from now.
        lifetime: until its deadline.
        fence: which leader speaks.
        mode: what the controller allows.
    """

    to: str
    issued_after: timedelta = timedelta()
    lifetime: timedelta = LIFETIME
    fence: int = 1
    mode: Mode = Mode.ENFORCE


class Controller:
    """Reads the Swarm, asks for runs, and takes their reports in.

    Attributes:
        wants: node id to what it should carry, by the last reading that could be believed.
        networks: all overlay networks, by id.
        rejections: those that are open, of all nodes: node id and what a request tells.
        entries: what workers' journals told, in order, each once.
        unreadable: why the last reading failed; None: it did not.
        limits: of the breaker.
        readings: when the Swarm was read for each node.
    """

    def __init__(self, manager: FakeManager, clock: Clock) -> None:
        self.wants: dict[str, NodeAttachments] = {}
        self.networks: dict[str, SwarmNetwork] = {}
        self.rejections: list[tuple[str, Rejection]] = []
        self.entries: list[JournalEntry] = []
        self.unreadable: str | None = None
        self.limitations = BreakerLimits()
        self.readings = Readings(now=clock.monotonic)
        self._manager = manager
        self._clock = clock
        self._port = manager.port
        self._modes: dict[str, Mode] = {}
        self._told: set[str] = set()
        self._removals = 0
        self._shown: set[int] = set()
        self._journal: tuple[UUID, int] | None = None

    def read(self) -> None:
        """Read the Swarm whole; an answer that cannot be believed changes nothing."""
        mark = self.readings.begin()
        swarm = self._manager.swarm
        try:
            port = swarm.identity().data_path_port
            nodes, networks = swarm.nodes(), swarm.networks()
            tasks = swarm.tasks_of_nodes([each.id for each in nodes])
        except SwarmError as error:
            self.unreadable = str(error)
            return
        self.unreadable, self._port = None, port
        self.networks = {each.id: each for each in networks}
        self.wants = dict(desired_state([each.id for each in nodes], networks, tasks))
        self._modes = {each.id: _mode(each) for each in nodes}
        self._take_rejections(tasks)
        self.readings.end(mark, {each.id: each.state == READY for each in nodes})

    def _take_rejections(self, tasks: Sequence[SwarmTask]) -> None:
        rejected = {each.id: each for each in Rejections.among(tasks, self.networks)}
        listed = {each.id for each in tasks}
        self.rejections = [
            (node_id, each)
            for node_id, each in self.rejections
            if each.task_id in rejected or each.task_id not in listed
        ]
        for task in rejected.values():
            if task.id in self._told:
                continue
            self._told.add(task.id)
            found = cause_of(task, self.networks)
            told = Rejection(
                task_id=task.id,
                at=task.since or self._clock(),
                vni=found.vni,
                subnet=found.cidr,
                doubt=found.doubt,
            )
            self.rejections.insert(0, (task.node_id, told))

    def request(self, terms: Terms) -> ReconcileRequest:
        """A request for a run of a node, as the Swarm was read last."""
        wants = self.wants.get(terms.to, {})
        observed = [id_ for id_, each in self.networks.items() if _mode(each) is Mode.OBSERVE]
        shown = [
            id_ for id_, each in self.networks.items() if not self._shown.isdisjoint(each.vnis)
        ]
        issued_at = self._clock() + terms.issued_after
        own = self._modes.get(terms.to, Mode.ENFORCE)
        return ReconcileRequest(
            run_id=uuid4(),
            node_id=terms.to,
            generation=1,
            issued_at=issued_at,
            deadline=issued_at + terms.lifetime,
            mode=Mode.OBSERVE if Mode.OBSERVE in (own, terms.mode) else Mode.ENFORCE,
            data_path_port=self._port,
            desired=tuple(
                DesiredNetwork(**dict(_ref(self.networks[id_])), running=want.running)
                for id_, want in wants.items()
            ),
            known=tuple(
                _ref(self.networks[id_])
                for id_ in dict.fromkeys((*observed, *shown))
                if id_ not in wants
            ),
            acknowledged=self._acknowledgement(),
            fence=terms.fence,
            max_removals=self.limitations.left(self._removals),
            reading=self.readings.newest(terms.to),
            next_within=3600.0,
            rejections=tuple(each for node_id, each in self.rejections if node_id == terms.to),
        )

    def take_in(self, report: ReconcileReport) -> None:
        """Store a report."""
        self.readings.add_stamp(report.node_id, report.stamp)
        self._shown = {each.identity.vni for each in report.devices} or self._shown
        removed = [each.identity.vni for each in report.devices if each.removed]
        self._removals += len(removed)
        self.rejections = [
            (node_id, each)
            for node_id, each in self.rejections
            if node_id != report.node_id or each.vni not in removed
        ]
        there = {each.id for each in self.entries}
        self.entries += [each for each in report.entries if each.id not in there]
        if report.journal_id is not None and report.entries:
            self._journal = report.journal_id, report.entries[-1].sequence

    def _acknowledgement(self) -> Acknowledgement | None:
        if self._journal is None:
            return None
        journal_id, through = self._journal
        return Acknowledgement(journal_id=journal_id, through=through)


def _ref(network: SwarmNetwork) -> NetworkRef:
    return NetworkRef(
        id=network.id,
        name=network.name,
        vnis=network.vnis,
        ingress=network.ingress,
        mode=_mode(network),
    )


def _mode(owner: SwarmNode | SwarmNetwork) -> Mode:
    """What the labels of a node or network allow."""
    return Mode.OBSERVE if owner.label_ignore or owner.label_mode is Mode.OBSERVE else Mode.ENFORCE
