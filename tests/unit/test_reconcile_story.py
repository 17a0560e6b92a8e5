"""Any story of a node: devices come, live, die and go, the worker looks, fails and is restarted.

And dockerd is held up in the middle of a join, for longer than any grace period, while messages are late:
what it then goes on to use must still be there.
"""

import errno
import tempfile
from collections import Counter
from collections.abc import Callable, Set
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, get_args

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import worker.remove
from contract.messages import ReconcileReport, Rejection, SwarmReading
from contract.verdicts import Mode, Outcome, Stage
from tests.builders import PORT, SANDBOX, addressed, identity, leaked, network, rejection
from tests.fake_kernel import Operation
from tests.worker_node import GRACE, WorkerNode
from worker.kernel.model import (
    HOST,
    Device,
    Identity,
    Netns,
    VethPair,
    VxlanFlag,
)
from worker.ownership import why_foreign
from worker.ports import live_ports

OUTCOMES = {Stage.APPLIED, Stage.VANISHED, Stage.REFUSED, Stage.FAILED, Stage.UNCERTAIN}

ALIVE: dict[str, Callable[[Device], Device]] = {
    "up": lambda device: device._replace(up=True, master=None),
    "enslaved": lambda device: device._replace(up=True, master=2, endpoints=1, ports=("veth0",)),
    "addressed": addressed,
}
FOREIGN: dict[str, Callable[[Device], Device]] = {
    "name": lambda device: device._replace(identity=device.identity._replace(name="vx-mine")),
    "port": lambda device: device._replace(identity=device.identity._replace(port=8472)),
    "vni": lambda device: device._replace(
        identity=device.identity._replace(name="vx-ffffff-n0fxr")
    ),
    "flags": lambda device: device._replace(flags=VxlanFlag.LEARNING),
    "birth": lambda device: device._replace(born_elsewhere=True),
}


def other_of_dockers(device: Device) -> Identity:
    """Another of Docker's devices, with the same ifindex in the same place."""
    vni = device.identity.vni + 0x100
    name = f"vx-{vni:06x}-other" if device.identity.netns.is_host else device.identity.name
    return device.identity._replace(name=name, vni=vni)


OPERATIONS: list[Operation] = list(get_args(Operation))


VNIS = range(0x1000, 0x1004)
PAIR = VethPair("veth1234567", "veth89abcde", (11, 12))
LONGEST_STARVED = 120.0
"""Seconds. A join that takes minutes on a node that is ready, and shows no veth pair, cannot be told from a
leak that nobody trips over."""


class SwarmWord(NamedTuple):
    """What the Swarm said once."""

    wanted: frozenset[int]
    reading: SwarmReading


class Crash(BaseException):
    """The worker dies."""


class NodeStory(RuleBasedStateMachine):
    """The claims, after every step: only the dead are deleted, and every delete is on record."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.node = WorkerNode(Path(self.folder.name), max_removals=3)
        self.born: dict[Identity, float] = {}
        self.held: Identity | None = None
        """The device of a living dockerd that is held up in the middle of a join."""
        self.how = ""
        self.held_since = 0.0
        self.ready_since: float | None = 0.0
        self.wanted: frozenset[int] = frozenset()
        """VNIs of networks that the Swarm wants here, besides that of the held-up join."""
        self.said: list[SwarmWord] = []
        self.rejections: list[Rejection] = []
        self.next = 1
        self.checked = 0
        self.crashes = 0

    # What happens on the machine.

    def _new(self, netns: Netns) -> Device:
        vni = VNIS[self.next % len(VNIS)]
        name = f"vx-{vni:06x}-n0fxr" if netns.is_host else "vxlan0"
        device = leaked(identity(netns=netns, ifindex=self.next, name=name, vni=vni))
        self.next += 1
        return device

    def _put(self, device: Device) -> None:
        self.node.kernel.put(device)
        self.born.setdefault(device.identity, self.node.seconds)

    def _any(self, data: st.DataObject) -> Device | None:
        devices = [each for each in self.node.kernel.devices() if each.identity != self.held]
        return data.draw(st.sampled_from(devices)) if devices else None

    @rule(netns=st.sampled_from([HOST, SANDBOX]))
    def leak(self, netns: Netns) -> None:
        self._put(self._new(netns))

    @rule(netns=st.sampled_from([HOST, SANDBOX]), mark=st.sampled_from(sorted(FOREIGN)))
    def somebody_else_makes_one(self, netns: Netns, mark: str) -> None:
        self._put(FOREIGN[mark](self._new(netns)))

    @rule(data=st.data(), how=st.sampled_from(sorted(ALIVE)))
    def one_comes_alive(self, data: st.DataObject, how: str) -> None:
        if device := self._any(data):
            self._put(ALIVE[how](device))

    @rule(data=st.data())
    def one_dies(self, data: st.DataObject) -> None:
        if device := self._any(data):
            self._put(
                leaked(device.identity)._replace(
                    flags=device.flags, born_elsewhere=device.born_elsewhere
                )
            )

    @rule(data=st.data())
    def one_goes(self, data: st.DataObject) -> None:
        if device := self._any(data):
            self.node.kernel.vanish(*device.identity[:2])
            self.born.pop(device.identity, None)

    @precondition(lambda self: self.held is None)
    @rule()
    def the_sandbox_ends(self) -> None:
        self.node.kernel.end_namespace(SANDBOX)

    @rule(seconds=st.sampled_from([0.5, 2.0, GRACE, GRACE, 14.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.node.seconds += seconds
        if self.how == "starved" and self.node.seconds - self.held_since > LONGEST_STARVED:
            self.dockerd_goes_on()

    @precondition(lambda self: self.held is None)
    @rule(
        how=st.sampled_from(["stopped", "starved", "waits for its disk"]),
        netns=st.sampled_from([HOST, SANDBOX]),
    )
    def dockerd_is_held_up_in_a_join(self, how: str, netns: Netns) -> None:
        device = self._new(netns)
        if any(each.identity.vni == device.identity.vni for each in self.node.kernel.devices()):
            return  # It could not make one.
        if netns == SANDBOX:
            device = device._replace(up=True, master=2)
        self._put(device)
        self.held, self.how, self.held_since = device.identity, how, self.node.seconds
        if how == "stopped":
            self.ready_since = None
        if how == "waits for its disk":
            self.node.kernel.joins = [PAIR]

    @precondition(lambda self: self.held is not None)
    @rule()
    def dockerd_goes_on(self) -> None:
        """The task is running, and Swarm knows."""
        held = self._let_go()
        self.wanted |= {held.identity.vni}
        self._put(ALIVE["enslaved"](held))

    @precondition(lambda self: self.held is not None)
    @rule()
    def dockerd_dies(self) -> None:
        self._let_go()

    def _let_go(self) -> Device:
        (held,) = (each for each in self.node.kernel.devices() if each.identity == self.held)
        self.held, self.how = None, ""
        self.ready_since = self.node.seconds if self.ready_since is None else self.ready_since
        self.node.kernel.joins = []
        return held

    # What the Swarm says, and how late that comes.

    @rule(wanted=st.sets(st.sampled_from(VNIS)))
    def the_swarm_wants(self, wanted: Set[int]) -> None:
        self.wanted = frozenset(wanted)

    @rule()
    def the_swarm_is_read(self) -> None:
        # A task that its node has not said to have ended counts.
        holding = frozenset() if self.held is None else frozenset({self.held.vni})
        ready = None if self.ready_since is None else self.node.seconds - self.ready_since
        reading = SwarmReading(after=self.node.clock.stamp(), ready_seconds=ready)
        self.said.append(SwarmWord(self.wanted | holding, reading))

    @rule(vni=st.sampled_from(VNIS))
    def a_task_is_rejected(self, vni: int) -> None:
        """Dockerd tries to make a device where one is that it does not own."""
        there = [each for each in self.node.kernel.devices() if each.identity.vni == vni]
        if there and all(each.identity != self.held for each in there):
            self.rejections.append(rejection(self.node.now, vni=vni))

    @rule(seconds=st.floats(-1e4, 1e4), vni=st.one_of(st.none(), st.sampled_from(VNIS)))
    def a_task_is_rejected_in_doubt(self, seconds: float, vni: int | None) -> None:
        at = self.node.now + timedelta(seconds=seconds)
        self.rejections.append(rejection(at, vni=vni, doubt="x"))

    @precondition(lambda self: self.held is None)
    @rule(
        ahead=st.sampled_from([0.9, 5.0, 3600.0]),
        after=st.sampled_from([0.0, 20.0]),
    )
    def a_task_is_rejected_before_the_clock_is_set_back(self, ahead: float, after: float) -> None:
        """By a clock that is ahead at a look of the worker; one without a look is a known limit."""
        self.node.ahead = ahead
        self.the_watch_looks()
        self.node.seconds += after
        # The next device to be made could be taken for the one that was in the way.
        self.rejections.append(rejection(self.node.now, vni=VNIS[self.next % len(VNIS)]))
        self.node.ahead = 0.0

    # What the worker does, and what goes wrong meanwhile.

    @rule()
    def the_watch_looks(self) -> None:
        self.node.clock.saw(self.node.kernel.look().devices)

    @rule(mode=st.sampled_from(Mode), late=st.integers(0, 3))
    def a_run(self, mode: Mode, late: int = 0) -> None:
        if not late:
            self.the_swarm_is_read()
        report = self._run(mode=mode, late=late)
        assert report.outcome is Outcome.DONE
        assert sum(device.removed for device in report.devices) <= 3

    @rule(
        observed=st.sets(st.integers(0x1000, 0x1003), max_size=3),
        budget=st.sampled_from([0, 1, 5, 100]),
    )
    def a_run_that_may_not_remove_everything(self, observed: Set[int], budget: int) -> None:
        self._let_the_dead_outstay()
        self.the_swarm_is_read()
        before = len(self.node.kernel.hits)
        known = [network(*observed, mode=Mode.OBSERVE)] if observed else []
        self._run(known=known, max_removals=budget)
        hits = self.node.kernel.hits[before:]
        assert len(hits) <= min(3, budget)
        assert all(hit.identity and hit.identity.vni not in observed for hit in hits)

    @rule(times=st.integers(2, 6))
    def runs_in_quick_succession(self, times: int) -> None:
        for _ in range(times):
            self.a_run(Mode.ENFORCE)
            self.node.seconds += 1

    @rule(data=st.data(), what=st.sampled_from(["alive", "vanish", "reused", "bridge"]))
    def a_run_while_a_device_changes(self, data: st.DataObject, what: str) -> None:
        self._let_the_dead_outstay()
        device = self._any(data)
        if device is None:
            return
        changed = {
            "alive": lambda: self._put(ALIVE["enslaved"](device)),
            "vanish": lambda: self.node.kernel.vanish(*device.identity[:2]),
            "reused": lambda: self._put(device._replace(identity=other_of_dockers(device))),
            "bridge": lambda: self.node.kernel.put_other(*device.identity[:2]),
        }[what]
        self.node.kernel.before(
            data.draw(st.sampled_from(["read", "set_group", "look_at"])), changed
        )
        self._run_with_happenings()

    @rule(
        operation=st.sampled_from(OPERATIONS),
        code=st.sampled_from([errno.EPERM, errno.EBUSY, errno.EINTR]),
    )
    def a_run_while_the_kernel_refuses(self, operation: Operation, code: int) -> None:
        self._let_the_dead_outstay()
        self.node.kernel.refuse(operation, code)
        self._run_with_happenings()

    @rule(operation=st.sampled_from(OPERATIONS), netns=st.sampled_from([HOST, SANDBOX]))
    def a_run_while_an_answer_of_the_kernel_is_lost(
        self, operation: Operation, netns: Netns
    ) -> None:
        self.leak(netns)
        self._let_the_dead_outstay()
        self.node.kernel.lose_answer(operation)
        self._run_with_happenings()

    @rule(operation=st.sampled_from(["delete", "delete_group"]))
    def a_crash_in_a_removal(self, operation: Operation) -> None:
        saved: list[bytes] = []

        def crash() -> None:
            saved.append(self.node.path.read_bytes())
            raise Crash

        self._let_the_dead_outstay()
        self.node.kernel.before(operation, crash)
        try:
            self._run_with_happenings()
        except Crash:
            self.crashes += 1
            self.node.path.write_bytes(saved[0])
            self.restart()

    @rule()
    def restart(self) -> None:
        self.node.restart()
        # It has not seen the clock ahead: a known limit.
        self.rejections = [each for each in self.rejections if each.at <= self.node.now]

    def _let_the_dead_outstay(self) -> None:
        self.the_watch_looks()
        self.node.seconds += GRACE

    def _run(self, late: int = 0, **options: Any) -> ReconcileReport:
        """Run a request that was made with one of the last readings, or with none."""
        said = (
            self.said[-1 - late]
            if late < len(self.said)
            else SwarmWord(frozenset(), SwarmReading())
        )
        return self.node.run(
            desired=[network(*said.wanted)] if said.wanted else [],
            reading=said.reading,
            rejections=self.rejections[-20:],
            **options,
        )

    def _run_with_happenings(self) -> None:
        self.the_swarm_is_read()
        try:
            report = self._run()
        finally:
            self.node.kernel.forget_happenings()
        if report.outcome is Outcome.FAILED:
            assert report.error

    # What is claimed.

    @invariant()
    def only_what_was_dead_and_dockers_was_deleted(self) -> None:
        hits, self.checked = self.node.kernel.hits[self.checked :], len(self.node.kernel.hits)
        for hit in hits:
            assert hit.device is not None, "something that is not VXLAN was deleted"
            assert hit.device.looks_dead
            assert why_foreign(hit.device, PORT) is None
            assert hit.identity != self.held, "a living dockerd goes on to use it"
            if hit.device.identity.vni not in {each.vni for each in self.rejections}:
                assert self.node.seconds - self.born[hit.device.identity] >= GRACE

    @invariant()
    def every_plan_has_at_most_one_outcome_and_every_outcome_a_plan(self) -> None:
        open_plans: set[tuple[object, object]] = set()
        for entry in self.node.entries():
            key = entry.run_id, entry.identity
            if entry.stage is Stage.PLANNED:
                assert key not in open_plans
                open_plans.add(key)
            elif entry.stage in OUTCOMES:
                assert key in open_plans
                open_plans.remove(key)

    @invariant()
    def every_delete_is_on_record_with_the_identity_it_hit(self) -> None:
        hits = Counter(hit.identity for hit in self.node.kernel.hits)
        applied, uncertain = self._on_record(Stage.APPLIED), self._on_record(Stage.UNCERTAIN)
        assert applied <= hits, "what was told to be done was done"
        assert hits - applied <= uncertain, "what was done is told to be done, or to be uncertain"

    def _on_record(self, stage: Stage) -> Counter[Identity | None]:
        return Counter(
            Identity.of(entry.identity) for entry in self.node.entries() if entry.stage is stage
        )

    def teardown(self) -> None:
        try:
            self._all_that_can_be_healed_is_healed()
        finally:
            self.folder.cleanup()

    def _all_that_can_be_healed_is_healed(self) -> None:
        if self.held is not None:
            self.dockerd_goes_on()
        self.wanted, self.rejections = frozenset(), []
        live = live_ports(self.node.kernel.devices())
        # A node that shows another port alone says that the request's is not the Swarm's.
        denied = bool(live) and PORT not in live
        spared = {
            device.identity
            for device in self.node.kernel.devices()
            if denied or device.activity is not None or why_foreign(device, PORT) is not None
        }
        dead = len(self.node.kernel.devices()) - len(spared)
        self.node.outstay()
        for _ in range(dead // 3):
            self.node.run()
        self.only_what_was_dead_and_dockers_was_deleted()
        self.every_plan_has_at_most_one_outcome_and_every_outcome_a_plan()
        assert {device.identity for device in self.node.kernel.devices()} == spared
        assert self.node.journal.unconcluded() == []
        before = list(self.node.entries()), list(self.node.kernel.hits)
        self.node.run()
        assert (list(self.node.entries()), self.node.kernel.hits) == before, (
            "a run more changes nothing"
        )


class StoryOfGroups(NodeStory):
    """The same story, with every removal by way of a link group."""

    def __init__(self) -> None:
        super().__init__()
        self._together = worker.remove.MIN_GROUP
        worker.remove.MIN_GROUP = 1

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            worker.remove.MIN_GROUP = self._together

    @invariant()
    def what_stays_is_in_no_group_of_ours(self) -> None:
        # A worker that died left its marks; they mean nothing to the next one, or to anybody.
        kernel = self.node.kernel
        assert self.crashes or not any(
            kernel.group_of(device.identity.ifindex)
            for device in kernel.devices()
            if device.identity.netns.is_host
        )


SETTINGS = settings(max_examples=60, stateful_step_count=30, deadline=None)
NodeStory.TestCase.settings = StoryOfGroups.TestCase.settings = SETTINGS
test_any_story_of_a_node = NodeStory.TestCase
test_any_story_of_a_node_with_link_groups = StoryOfGroups.TestCase
