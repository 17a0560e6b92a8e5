"""A believable cluster in a database: what is well, each thing that is not, history, and hostile names."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid5

from sqlalchemy import update

from contract.messages import DeviceIdentity, DeviceReport, JournalEntry, ReconcileReport, Stamp
from contract.verdicts import HeldBack, Mode, Outcome, Proof, Stage, Urgency, Verdict
from controller.access.store import By
from controller.access.tokens import Secret
from controller.audit.append import append
from controller.conditions.store import ConditionStore
from controller.db import lookup
from controller.db.engine import Database
from controller.db.models import Cluster, Device, Lease, Node
from controller.db.notification_models import Delivery, Notice
from controller.db.states import DeliveryState, Role, TargetKind
from controller.notifications import targets
from controller.notifications.targets import New
from controller.runs.reports import ReportIntake
from controller.safety import decisions
from controller.safety.decisions import Decision
from controller.swarm.model import SwarmNetwork, SwarmNode, SwarmTask
from controller.swarm.rejections import Rejections
from controller.swarm.store import store_cluster
from controller.workqueue import queue, requeue
from controller.workqueue.priorities import Priority
from controller.workqueue.requeue import RequeueRequest
from tests import stored
from tests.fake_swarm import INGRESS, Snapshot, network, snapshot, swarm_id, task
from tests.reports import believed
from tests.signed import pin
from tests.tokens import ADMIN, give_token

READER: Final = Secret("4ead0000", f"vxo_4ead0000_{'R' * 43}")
OPERATOR: Final = Secret("09e4a704", f"vxo_09e4a704_{'O' * 43}")
SHORT: Final = Secret("54047000", f"vxo_54047000_{'S' * 43}")
"""A token of its own for tests that end sessions."""

MARKUP: Final = '<img src=x onerror="alert(1)">'
RTL: Final = "web\u202egnp.exe"
ESCAPES: Final = "\x1b[31mred\x07\nnext"
LONG: Final = "n" * 255
HOSTILE: Final = {"markup": MARKUP, "rtl": RTL, "escapes": ESCAPES, "long": LONG}
"""Hostnames, by the beginnings of their nodes' ids."""
HOSTILE_NETWORK: Final = "</title><script>alert(2)</script>"

SHOP: Final = network("shop", 4097)
MAIL: Final = network("mail", 4098)
PAY: Final = network("payments", 4099, 4100)
LEAK: Final = (
    'subnet sandbox join failed for "10.0.1.0/24": error creating vxlan interface: file exists'
)
HEALTHY: Final = tuple(f"blue-{number}" for number in range(1, 9))
WORKERS: Final = (
    *HEALTHY, "green-1", "green-2", "green-3", "green-4", "green-5", "green-6"
)  # fmt: skip
CONFLICT, HELD, PAUSED, SILENT, REJECTING, SETTLING = WORKERS[8:]
"""Nodes: with a conflict, an orphan held back, a pause, no word of the worker, rejected tasks, no proof."""
RESYNC: Final = timedelta(seconds=60)
_LONG: Final = timedelta(days=30)


def swarm(now: datetime, *, calm: bool = False) -> Snapshot:
    """The Swarm as its managers say it; `calm`: without hostile names."""
    hostile = SwarmNetwork(
        swarm_id("evil"), HOSTILE_NETWORK, ingress=False, subnets=network("x", 4101).subnets
    )
    nodes = [
        SwarmNode(
            id=swarm_id(name.replace("-", "")),
            hostname=name,
            role="manager" if name in HEALTHY[:3] else "worker",
            availability="active",
            state="ready",
            address=f"192.0.2.{number}",
            label_mode=None,
            label_ignore=False,
        )
        for number, name in enumerate([*WORKERS, *HOSTILE.values()], start=10)
    ]
    of_hostile = dict(zip(HOSTILE.values(), HOSTILE, strict=True))
    nodes = [
        each if each.hostname not in of_hostile else _renamed(each, of_hostile[each.hostname])
        for each in nodes
    ]
    tasks = [
        task(f"t{net.name[:2]}{number}", each.id.rstrip("z"), net.name, since=now - _LONG)
        for number, each in enumerate(nodes)
        for net in (SHOP, MAIL, PAY)
        if number % 3 or net is SHOP
    ]
    if calm:
        well = [each for each in nodes if each.hostname in WORKERS]
        at = {each.id for each in well}
        kept = [each for each in tasks if each.node_id in at]
        return snapshot(*well, networks=[INGRESS, SHOP, MAIL, PAY], tasks=kept)
    tasks.append(task("tevil", "blue1", "evil", since=now - _LONG))
    return snapshot(*nodes, networks=[INGRESS, SHOP, MAIL, PAY, hostile], tasks=tasks)


def _renamed(node: SwarmNode, name: str) -> SwarmNode:
    return SwarmNode(
        **{each: getattr(node, each) for each in node.__slots__} | {"id": swarm_id(name)}
    )


def node_id(name: str) -> str:
    """The id of a node, by its name or that of its hostility."""
    return swarm_id(name.replace("-", ""))


class World:
    """The cluster, and what happens to it.

    Attributes:
        healing: the run that healed a rejected task.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = datetime.now(UTC)
        self.healing = UUID(int=0)
        self._at = self.now
        self._sequence = 0
        self._claimed: dict[str, UUID] = {}
        self._intake = ReportIntake(
            database, resync=_LONG, notify=lambda *_: None, utcnow=lambda: self._at
        )
        self._rejections = Rejections(database, lambda *_: None, lambda: self._at)

    def fill(self, *, calm: bool = False) -> None:
        """Store everything, as it came to be within the last days.

        Args:
            calm: without hostile names, and of what is wrong only the orphan that is held back and the pause.
        """
        hostile = () if calm else tuple(HOSTILE)
        seen = {HELD: _SEEN[HELD][:1]} if calm else _SEEN
        stored.put(self.database, swarm(self.now, calm=calm), self.now - timedelta(days=3))
        for secret, name, role in (
            (ADMIN, "admin", Role.ADMIN), (READER, "rita", Role.READ), (OPERATOR, "otto", Role.OPERATE),
            (SHORT, "sven", Role.OPERATE),
        ):  # fmt: skip
            give_token(self.database, secret, name, role)
        pin(self.database, *(node_id(name) for name in [*WORKERS, *hostile]))
        with self.database.write() as session:
            session.add(
                Lease(
                    name="controller",
                    holder="manager-1:4711:0a1b2c3d",
                    fence=3,
                    expires_at=self.now + _LONG,
                )
            )
        self._at = self.now - timedelta(days=3)
        for name in [*WORKERS, *hostile]:
            self.look(name)
        for hours in range(60, 0, -5):
            self._at = self.now - timedelta(hours=hours)
            self.remove(HEALTHY[hours % 8], at=self._at, seconds=1 + hours % 7)
        self.conclude()
        self.look(PAUSED, at=self.now - timedelta(minutes=61))
        self._decide()
        self._at = self.now - timedelta(minutes=30)
        for name in [*WORKERS, *hostile]:
            if name != PAUSED:
                self.look(name)
        self._heal()
        self._at = self.now - timedelta(seconds=20)
        for name in [*WORKERS, *hostile]:
            if name != PAUSED and (calm or name != SILENT):
                self.look(name, *seen.get(name, ()))
        if not calm:
            self._reject(REJECTING)
        if not calm:
            self.tell()
        self._at = self.now
        with self.database.write() as session:
            store_cluster(session, swarm(self.now).identity, self.now, seconds=0.041, share=0.004)
            # What looks dead for longer than a look takes to prove it.
            session.execute(
                update(Device)
                .where(Device.verdict != Verdict.IN_USE)
                .values(verdict_at=self.now - timedelta(minutes=12))
            )
        self.conclude()

    def tell(self) -> None:
        """Add notification targets: one that takes, one that fails and has an outbox, one that is muted."""
        by = By("admin", None, self.now)
        with self.database.write() as session:
            for name, kind, address in (
                ("ops", TargetKind.WEBHOOK, "https://hooks.example.com/services/SECRET"),
                ("chat", TargetKind.SLACK, "https://chat.example.com/hooks/SECRET"),
                ("mail", TargetKind.EMAIL, "ops@example.com,night@example.com"),
                ("pulse", TargetKind.HEARTBEAT, "https://pulse.example.com/SECRET"),
            ):
                targets.add(session, New(name, kind, address), by)
            chat, mail, ops, _ = targets.listed(session)
            ops.delivered_at = self.now - timedelta(minutes=3)
            chat.failing_since = self.now - timedelta(minutes=4)
            chat.error = f"answered 500: {MARKUP} {RTL} {ESCAPES}"
            chat.retry_at = self.now + timedelta(minutes=2)
            chat.given_up, chat.given_up_at = 3, self.now - timedelta(days=4)
            mail.muted_until = self.now + timedelta(hours=2)
            mail.muted_by, mail.muted_reason = "otto", f"exercise {MARKUP} {LONG}"
            for minutes in (4, 2):
                at = self.now - timedelta(minutes=minutes)
                notice = Notice(
                    id=uuid5(UUID(int=2), str(minutes)), created_at=at, event="node_silent"
                )
                notice.values, notice.resolved = {}, False
                session.add(notice)
                session.flush()
                delivery = Delivery(
                    id=notice.id, notice_id=notice.id, target_id=chat.id, next_at=at
                )
                delivery.state, delivery.give_up_at = DeliveryState.PENDING, at + timedelta(days=1)
                session.add(delivery)

    def conclude(self) -> None:
        """Derive the conditions, which then hold for as long as tests take."""
        at = datetime.now(UTC)
        store = ConditionStore(self.database, mode=Mode.ENFORCE, resync=RESYNC, utcnow=lambda: at)
        store._listening_since = at - timedelta(days=1)
        store.step()
        with self.database.write() as session:
            session.execute(update(Cluster).values(conditions_until=at + _LONG))

    def look(self, name: str, *devices: DeviceReport, at: datetime | None = None) -> UUID:
        """Run a node: its worker reports the devices that are in use, and these."""
        self._at = at or self._at
        run = self._claim(name)
        self._report(name, run, devices)
        return run

    def remove(self, name: str, *, at: datetime | None = None, seconds: float = 1.0) -> UUID:
        """Run a node, whose worker removes an orphan."""
        self._at = at or datetime.now(UTC)
        run = self._claim(name)
        self._removal(name, run, seconds)
        return run

    def _claim(self, name: str) -> UUID:
        """Open a run of a node; others that are due are claimed with it, and report at their turn."""
        wanted = node_id(name)
        if wanted not in self._claimed:
            why = "drift hint: a device has been idle for 5 s"
            with self.database.write() as session:
                queue.request(session, [wanted], at=self._at, priority=Priority.DRIFT, reason=why)
            claims = stored.claim(self.database, now=self._at)
            self._claimed |= {id_: claim.run_id for id_, claim in claims.items()}
        return self._claimed.pop(wanted)

    def _removal(self, name: str, run: UUID, seconds: float) -> None:
        orphan = _device(
            40, Verdict.ORPHAN, vni=4097, net="shop", proof=Proof.REJECTED, removed=True
        )
        times = {Stage.DETECTED: 0.1, Stage.PLANNED: 0.2, Stage.APPLIED: 0.9, Stage.VERIFIED: 1.0}
        entries = [
            self._entry(run, stage, orphan, self._at + timedelta(seconds=seconds * share))
            for stage, share in times.items()
        ]
        self._report(name, run, [orphan], entries, seconds)

    def _entry(self, run: UUID, stage: Stage, device: DeviceReport, at: datetime) -> JournalEntry:
        self._sequence += 1
        return JournalEntry(
            id=uuid5(run, f"{stage} {device.identity}"),
            sequence=self._sequence,
            at=at,
            run_id=run,
            stage=stage,
            identity=device.identity,
            urgency=Urgency.BLOCKING,
            network_id=device.network_id,
            reason=_WHY,
            evidence=device.evidence,
        )

    def _report(
        self,
        name: str,
        run: UUID,
        devices: Sequence[DeviceReport],
        entries: Sequence[JournalEntry] = (),
        seconds: float = 0.4,
        **others: Any,
    ) -> None:
        begun, self._at = self._at, self._at + timedelta(seconds=seconds)
        used = [_device(10, Verdict.IN_USE, vni=4096, net="ingress"), *_used(name)]
        opened = believed(
            ReconcileReport(
                run_id=run,
                node_id=node_id(name),
                worker_version="0.2.0",
                max_removals=50,
                started_at=begun + timedelta(seconds=0.05),
                finished_at=self._at,
                outcome=Outcome.DONE,
                generation=2,
                devices=(*used, *devices),
                entries=tuple(entries),
                journal_id=uuid5(UUID(int=0), name),
                stamp=Stamp(session=UUID(int=1), seconds=0),
                **others,
            )
        )
        self._intake.reports([opened._replace(issued=self._at)])

    def _decide(self) -> None:
        """What people decided: a pause with an end, a mode, a requeue."""
        hour = timedelta(hours=1)
        for find, who, why, act in (
            (lookup.find_node, "otto", "new network card, ticket 4711", "pause"),
            (lookup.find_network, "rita", "looking at how it leaks", "mode"),
        ):
            with self.database.write() as session:
                decision = Decision(who, why, self.now - hour)
                if act == "pause":
                    until = self.now + 3 * hour
                    decisions.pause(session, find(session, PAUSED), decision, until=until)
                else:
                    mail = find(session, "mail")
                    decisions.set_mode(session, mail, decision, mode=Mode.OBSERVE)

    def _heal(self) -> None:
        """A task is rejected, a run removes the device, and the task runs again."""
        self._at = self.now - timedelta(minutes=20)
        rejected = self._refused("heal", HEALTHY[4], self._at)
        self._at += timedelta(seconds=0.3)
        self._rejections.record([rejected], {SHOP.id: SHOP})
        with self.database.write() as session:
            asked = RequeueRequest(HEALTHY[4], "heal", "otto", f"does it heal? {MARKUP}", "anna")
            append(session, requeue.store(session, asked, self._at), self._at)
        self.healing = self._claim(HEALTHY[4])
        self._removal(HEALTHY[4], self.healing, 0.8)
        begun = self._at + timedelta(seconds=2)
        self._at = begun + timedelta(seconds=1)
        again = task(
            "again", HEALTHY[4].replace("-", ""), "shop", service="web", since=begun, slot=1
        )
        self._rejections.record([again], {SHOP.id: SHOP})
        self._rejections.settle([node_id(HEALTHY[4])], [again])

    def _reject(self, name: str) -> None:
        for number in range(3):
            at = self._at + timedelta(seconds=number)
            rejected = self._refused(f"no{number}", name, at)
            self._rejections.record([rejected], {SHOP.id: SHOP})

    @staticmethod
    def _refused(name: str, on: str, at: datetime) -> SwarmTask:
        return task(
            name,
            on.replace("-", ""),
            "shop",
            live=False,
            wanted=True,
            error=LEAK,
            service="web",
            since=at,
            slot=1,
        )

    def trip(self) -> None:
        """Trip the breaker of the cluster and of a node."""
        with self.database.write() as session:
            tripped = {"breaker_tripped_at": self.now, "breaker_reason": "7 nodes removed devices"}
            session.execute(update(Cluster).values(tripped))
            session.execute(update(Node).where(Node.id == node_id(HEALTHY[6])).values(tripped))
        self.conclude()


_WHY: Final = "idle, no endpoint, and a task was rejected because of it"


def _device(
    ifindex: int,
    verdict: Verdict,
    *,
    vni: int,
    net: str,
    reason: str = "an endpoint is on its bridge",
    proof: Proof | None = None,
    name: str = "",
    **others: Any,
) -> DeviceReport:
    return DeviceReport(
        identity=DeviceIdentity(
            netns="host" if verdict is not Verdict.IN_USE else f"nsid:{ifindex}",
            ifindex=ifindex,
            name=name or f"vx-{vni:06x}-{swarm_id(net)[:5]}",
            vni=vni,
            port=4789,
        ),
        verdict=verdict,
        urgency=Urgency.BLOCKING if verdict is Verdict.ORPHAN else None,
        network_id=swarm_id(net),
        reason=reason,
        evidence="down, no master, no address, no endpoint, flags learning proxy l2miss l3miss",
        proof=proof,
        **others,
    )


def _used(name: str) -> list[DeviceReport]:
    """The devices that Docker uses on a node: those of its tasks."""
    on = {each.id: number for number, each in enumerate(swarm(datetime.now(UTC)).nodes)}
    number = on[node_id(name)]
    return [
        _device(11 + index, Verdict.IN_USE, vni=net.subnets[0].vni, net=net.name)
        for index, net in enumerate((SHOP, MAIL, PAY))
        if (number % 3 or net is SHOP) and not (name == CONFLICT and net is PAY)
    ]


_SEEN: Final = {
    CONFLICT: [
        _device(
            21,
            Verdict.CONFLICT,
            vni=4099,
            net="payments",
            name="flannel.1",
            reason="not Docker's (no name of Docker's), and has a VNI that this node needs",
        )
    ],
    HELD: [
        _device(
            22,
            Verdict.ORPHAN,
            vni=4098,
            net="mail",
            proof=Proof.UNWANTED,
            reason="idle for 700 s, and the Swarm wants no task of mail here",
        ),
        _device(
            23,
            Verdict.ORPHAN,
            vni=4097,
            net="shop",
            proof=Proof.REJECTED,
            reason="idle, and a task was rejected because of it",
            held_back=HeldBack.LIMIT,
        ),
    ],
    REJECTING: [
        _device(
            24,
            Verdict.SETTLING,
            vni=4097,
            net="shop",
            reason="idle for 4 s; wanted here, and no rejection is newer than that",
        )
    ],
    SETTLING: [
        _device(
            25,
            Verdict.SETTLING,
            vni=4100,
            net="payments",
            name=MARKUP[:15],
            reason="looks dead; wanted here, and nothing proves it: a join may be under way",
        )
    ],
}
