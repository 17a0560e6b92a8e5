"""One run, from request to report: what it refuses, what it limits itself to, what it never hides."""

import errno
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from contract.messages import (
    Acknowledgement,
    ReconcileReport,
    ReconcileRequest,
    SwarmReading,
)
from contract.verdicts import Mode, Outcome, Proof, Stage, Urgency, Verdict
from tests.builders import (
    OTHER_NODE,
    SANDBOX,
    VNI,
    identity,
    in_sandbox,
    leaked,
    network,
    rejection,
    request,
)
from tests.worker_node import GRACE, UNCLAIMED, WorkerNode
from worker import journal as journal_module
from worker import reconcile as reconcile_module
from worker.idle import ATTEMPT_SECONDS
from worker.kernel.model import Device, Identity, VethPair
from worker.proof import JOIN_PAUSE_SECONDS, LEFT_OVER_SECONDS
from worker.reconcile import FENCE_HOLDS, MISSING_FOR
from worker.remove import MIN_GROUP

PAIR = VethPair("veth1234567", "veth89abcde", (11, 12))


def orphans(count: int) -> list[Device]:
    return [
        leaked(identity(ifindex=10 + n, vni=VNI + n, name=f"vx-{VNI + n:06x}-n0fxr"))
        for n in range(count)
    ]


def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)


class Crash(BaseException):
    """The worker dies."""


def die_before_recording(node: WorkerNode, *, after_removal: bool) -> None:
    """Let the worker die between the plan of a removal and the record of its outcome."""
    before: list[bytes] = []

    def die() -> None:
        before.append(node.path.read_bytes())
        if after_removal:
            node.kernel.vanish(*leaked().identity[:2])
        raise Crash

    node.kernel.before("delete", die)
    with pytest.raises(Crash):
        node.outstay()
    node.path.write_bytes(before[0])  # What it wrote while it unwound, a real crash would not.
    node.restart()
    node.seconds += 1


# What is refused.


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (lambda node: request(node_id=OTHER_NODE, issued_at=node.now), "is for node"),
        (
            lambda node: request(issued_at=node.now - timedelta(minutes=2)),
            "60.0 s after its deadline",
        ),
        (
            lambda node: request(issued_at=node.now - timedelta(seconds=1)),
            "older than one that was already run",
        ),
        (
            lambda node: request(issued_at=node.now + timedelta(minutes=6)),
            "ahead of this node's clock",
        ),
    ],
    ids=["of another node", "late", "older than the newest", "from the future"],
)
def test_a_request_that_is_not_for_here_and_now_is_refused_without_a_look(
    tmp_path: Path, asked: Callable[[WorkerNode], ReconcileRequest], reason: str
) -> None:
    node = WorkerNode(tmp_path, [leaked()])
    node.outstay()
    node.kernel.put(leaked())
    node.kernel.asked.clear()
    sent = asked(node)
    report = node.reconciler.run(sent)
    assert report.outcome is Outcome.REFUSED
    assert reason in (report.error or "")
    assert node.kernel.asked == []
    assert report.devices == ()
    assert report.run_id == sent.run_id
    assert report.entries, "what is to be told is told all the same"


def test_on_a_node_that_joined_another_swarm_nothing_is_done_for_the_former_one(
    tmp_path: Path,
) -> None:
    node = WorkerNode(tmp_path, [leaked()])
    node.run(mode=Mode.OBSERVE)
    node.seconds += GRACE
    node.reconciler.other_id = lambda: OTHER_NODE
    report = node.run()
    assert report.outcome is Outcome.REFUSED
    assert f"has the id {OTHER_NODE} in the one it joined" in (report.error or "")
    assert node.kernel.hits == []
    node.reconciler.other_id = lambda: None
    node.run()
    assert len(node.kernel.hits) == 1, "else it would have been removed"


def test_a_refused_request_does_not_make_good_ones_look_old(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path)
    stray = request(node_id=OTHER_NODE, issued_at=node.now + timedelta(hours=1))
    assert node.reconciler.run(stray).outcome is Outcome.REFUSED
    assert node.run().outcome is Outcome.DONE


def test_a_controller_that_no_longer_leads_is_refused(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, [leaked()])
    node.run(fence=7, mode=Mode.OBSERVE)
    node.seconds += GRACE
    report = node.run(fence=6)
    assert report.outcome is Outcome.REFUSED
    assert "from a controller that no longer leads (fence 6, after 7)" in (report.error or "")
    assert node.kernel.hits == []
    assert node.run(fence=7).outcome is Outcome.DONE
    assert len(node.kernel.hits) == 1


def test_a_new_leader_whose_clock_is_behind_is_obeyed_and_only_its_own_requests_age(
    tmp_path: Path,
) -> None:
    node = WorkerNode(tmp_path)
    node.run(fence=1)
    behind = node.now - timedelta(seconds=20)
    assert node.reconciler.run(request(issued_at=behind, fence=2)).outcome is Outcome.DONE
    older = behind - timedelta(seconds=1)
    assert "older" in (node.reconciler.run(request(issued_at=older, fence=2)).error or "")


def test_a_leader_that_has_been_silent_keeps_no_other_out(tmp_path: Path) -> None:
    """A controller with a new database counts its leaders from the beginning."""
    node = WorkerNode(tmp_path)
    node.run(fence=7)
    node.seconds += FENCE_HOLDS.total_seconds() - 1
    assert node.run(fence=1).outcome is Outcome.REFUSED
    node.seconds += 1
    assert node.run(fence=1).outcome is Outcome.DONE
    assert node.run(fence=1).outcome is Outcome.DONE


def test_the_same_request_twice_does_nothing_new(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, [leaked()])
    node.outstay()
    twice = request(issued_at=node.now)
    first, second = node.reconciler.run(twice), node.reconciler.run(twice)
    assert first.entries == second.entries
    assert len(node.kernel.hits) == 1


# What is judged and told.


def test_the_report_tells_every_device_with_its_verdict_and_when_to_look_again(
    tmp_path: Path,
) -> None:
    live = in_sandbox(endpoints=1)
    foreign = leaked(identity(ifindex=20, name="vx-submariner", vni=77))
    node = WorkerNode(tmp_path, [leaked(), live, foreign])
    node.kernel.limitations = ("something cannot be seen",)
    report = node.run(desired=[network(foreign.identity.vni)], known=[network()])
    told = {Identity.of(device.identity): device for device in report.devices}
    assert {of: device.verdict for of, device in told.items()} == {
        leaked().identity: Verdict.SETTLING,
        live.identity: Verdict.IN_USE,
        foreign.identity: Verdict.CONFLICT,
    }
    assert told[live.identity].network_id == network().id
    assert report.recheck_after == GRACE
    assert report.limitations == ("something cannot be seen",)
    assert report.outcome is Outcome.DONE
    assert node.kernel.hits == []


@pytest.mark.parametrize("endpoints", [1, 3])
def test_what_lives_is_never_removed_however_often_it_is_looked_at(
    tmp_path: Path, endpoints: int
) -> None:
    node = WorkerNode(tmp_path, [in_sandbox(endpoints=endpoints)])
    for _ in range(5):
        node.seconds += GRACE
        report = node.run()
    assert node.kernel.hits == []
    assert node.entries() == []
    assert report.recheck_after is None


def test_a_device_that_is_recreated_under_its_name_has_a_grace_period_of_its_own(
    tmp_path: Path,
) -> None:
    node = WorkerNode(tmp_path, [leaked()])
    node.run()
    node.kernel.vanish(*leaked().identity[:2])
    node.kernel.put(leaked(identity(ifindex=8)))
    node.seconds += GRACE
    assert [each.verdict for each in node.run().devices] == [Verdict.SETTLING]
    node.seconds += GRACE
    assert [each.verdict for each in node.run().devices] == [Verdict.ORPHAN]
    assert [hit.ifindex for hit in node.kernel.hits] == [8]


# What proves a device dead.


def test_a_rejected_task_is_proof_at_once_and_is_told_with_its_facts(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, [leaked()])
    node.run(desired=[network()])
    node.seconds += ATTEMPT_SECONDS + 0.1
    told = [rejection(node.now)]
    node.seconds += 0.4
    report = node.run(desired=[network()], rejections=told, reading=SwarmReading())
    (device,) = report.devices
    assert (device.proof, device.removed, device.urgency) == (
        Proof.REJECTED,
        True,
        Urgency.BLOCKING,
    )
    assert f"task {told[0].task_id} was rejected because of it" in device.reason
    assert "network shop is wanted on this node" in device.reason
    assert all(told[0].task_id in entry.reason for entry in node.entries()[:3])


def test_an_ingress_network_keeps_its_device_for_minutes(tmp_path: Path) -> None:
    """An ingress network, whose tasks nobody can reject, is healed in the end."""
    node = WorkerNode(tmp_path, [in_sandbox(endpoints=0)])
    while node.seconds < UNCLAIMED:
        report = node.run(desired=[network(ingress=True)])
        assert [each.verdict for each in report.devices] == [Verdict.SETTLING]
        assert report.recheck_after == UNCLAIMED - node.seconds
        node.seconds += GRACE
    node.seconds += 1
    report = node.run(desired=[network(ingress=True)])
    assert [each.proof for each in report.devices] == [Proof.UNCLAIMED]
    assert len(node.kernel.hits) == 1


def test_while_a_join_is_under_way_what_is_unwanted_stays(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, [leaked(), in_sandbox(endpoints=0, ifindex=8)])
    node.run()
    node.seconds += GRACE
    node.kernel.joins = [PAIR]
    report = node.run()
    assert {each.verdict for each in report.devices} == {Verdict.SETTLING}
    assert node.kernel.hits == []
    assert report.recheck_after == JOIN_PAUSE_SECONDS
    node.kernel.joins = []
    node.seconds += 1
    node.run()
    assert len(node.kernel.hits) == 2


def test_a_join_that_begins_before_the_deletion_stops_it(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, [leaked()])
    node.run()
    node.seconds += GRACE

    def join() -> None:
        node.kernel.joins = [PAIR]

    node.kernel.before("joins_under_way", lambda: None)
    node.kernel.before("joins_under_way", join)
    report = node.run()
    assert node.kernel.hits == []
    assert node.stages() == [Stage.DETECTED, Stage.PLANNED, Stage.REFUSED]
    assert report.recheck_after == JOIN_PAUSE_SECONDS


def test_a_veth_pair_that_a_dead_dockerd_left_is_no_join_in_the_end(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, [leaked()])
    node.kernel.joins = [PAIR]
    node.run()
    runs = 0
    while not node.kernel.hits:
        runs += 1
        assert node.seconds <= 2 * LEFT_OVER_SECONDS
        report = node.run()
        node.seconds += min(report.recheck_after or 0.0, GRACE)
    assert node.seconds >= LEFT_OVER_SECONDS


def test_a_join_that_ends_before_the_last_look_is_seen_in_the_sandbox(tmp_path: Path) -> None:
    """A pair that was moved after the pairs were listed is an endpoint by the time the device is read."""
    node = WorkerNode(tmp_path, [in_sandbox(endpoints=0)])
    node.run()
    node.seconds += GRACE
    node.kernel.before("joins_under_way", lambda: None)
    node.kernel.before("joins_under_way", lambda: node.kernel.put(in_sandbox(endpoints=1)))
    node.run()
    assert node.kernel.hits == []


def test_many_are_not_deleted_together_while_a_join_begins(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, orphans(MIN_GROUP))
    node.run()
    node.seconds += GRACE

    def join() -> None:
        node.kernel.joins = [PAIR]

    node.kernel.before("set_group", join)
    node.run()
    assert node.kernel.hits == []
    assert not any(node.kernel.group_of(each.identity.ifindex) for each in node.kernel.devices())


def test_a_request_without_a_reading_proves_nothing_and_the_report_says_so(
    tmp_path: Path,
) -> None:
    node = WorkerNode(tmp_path, [leaked(), in_sandbox(endpoints=0, ifindex=8)])
    for _ in range(100):
        node.seconds += GRACE
        report = node.run(reading=SwarmReading())
    assert node.kernel.hits == []
    assert all(
        "the Swarm has not been read for this node since then" in each.reason
        for each in report.devices
    )


def test_what_is_waited_for_is_asked_of_the_controller(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, [leaked()])
    first = node.run(reading=SwarmReading())
    assert (first.wants_reading, first.recheck_after) == (True, GRACE)
    assert first.stamp is not None
    node.seconds += GRACE
    late = node.run(reading=SwarmReading())
    assert (late.wants_reading, late.recheck_after) == (True, None), "when it was read, at once"
    node.seconds += 1
    node.run(reading=SwarmReading(after=late.stamp, ready_seconds=0.0))
    assert len(node.kernel.hits) == 1


def test_a_reading_from_before_it_went_idle_does_not_take_it(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, [in_sandbox(endpoints=1)])
    stamp = node.run().stamp
    node.seconds += 1
    node.kernel.put(in_sandbox(endpoints=0))
    for _ in range(20):
        node.run(reading=SwarmReading(after=stamp, ready_seconds=1e6))
        node.seconds += GRACE
    assert node.kernel.hits == []


def test_what_holds_a_vni_that_dockerd_found_taken_is_named_and_stays(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, [in_sandbox(endpoints=1)])
    node.kernel.files = {4: "/run/docker/netns/1-n0fxr00000"}
    node.run(desired=[network()])
    node.seconds += 10
    report = node.run(desired=[network()], rejections=[rejection(node.now)])
    (device,) = report.devices
    assert (device.verdict, device.removed) == (Verdict.IN_USE, False)
    assert device.reason.startswith(f"holds VNI {VNI}: task ")
    assert device.netns_file == "/run/docker/netns/1-n0fxr00000"
    assert node.kernel.hits == []


def test_a_device_that_was_made_after_a_rejection_does_not_hold_its_vni(tmp_path: Path) -> None:
    """What was rejected was healed, and the next attempt made it."""
    node = WorkerNode(tmp_path)
    node.run()
    before = rejection(node.now)
    node.seconds += 2
    node.kernel.put(in_sandbox(endpoints=1))
    (device,) = node.run(desired=[network()], rejections=[before]).devices
    assert device.reason == in_sandbox(endpoints=1).activity


def test_a_rejection_of_the_future_names_no_device(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, [in_sandbox(endpoints=1)])
    node.run(desired=[network()])
    node.seconds += 10
    future = rejection(node.now + timedelta(seconds=1))
    (device,) = node.run(desired=[network()], rejections=[future]).devices
    assert device.reason == in_sandbox(endpoints=1).activity


def test_a_device_that_replaced_a_dead_one_is_not_taken_for_a_rejection_written_late(
    tmp_path: Path,
) -> None:
    """A dockerd held up between a failed attempt and its task's time, and in a join after that."""
    node = WorkerNode(tmp_path, [leaked()])
    node.run(desired=[network()])
    node.seconds += 2
    node.run(desired=[network()], rejections=[rejection(node.now)])
    assert len(node.kernel.hits) == 1
    node.kernel.put(in_sandbox(endpoints=0, ifindex=9))
    node.run(desired=[network()])
    node.seconds += 8
    report = node.run(desired=[network()], rejections=[rejection(node.now, task="late")])
    assert len(node.kernel.hits) == 1
    assert "may be about another device" in report.devices[0].reason


@pytest.mark.parametrize("ahead", [0.9, 12.0])
def test_a_rejection_by_a_clock_that_was_set_back_takes_no_device_that_is_being_made(
    tmp_path: Path, ahead: float
) -> None:
    node = WorkerNode(tmp_path)
    node.ahead = ahead
    node.clock.saw([])
    node.seconds += 2
    before = [rejection(node.now)]
    node.ahead = 0
    node.kernel.put(leaked())
    node.run(desired=[network()], rejections=before)
    node.seconds += ahead + 1
    report = node.run(desired=[network()], rejections=before)
    assert node.kernel.hits == []
    assert "this node's clock was set back" in report.devices[0].reason
    node.run(desired=[network()], rejections=[*before, rejection(node.now, task="new")])
    assert len(node.kernel.hits) == 1, "the next rejection tells"


def test_a_worker_that_is_started_after_the_clock_was_set_back_knows_it_of_its_last_run(
    tmp_path: Path,
) -> None:
    node = WorkerNode(tmp_path)
    node.ahead = 12
    before = [rejection(node.now)]
    node.run(desired=[network()])
    node.ahead = 0
    node.restart()
    node.kernel.put(leaked())
    # Of another leader: by the clock of this one they are not in order.
    node.run(desired=[network()], rejections=before, fence=1)
    node.seconds += 13
    report = node.run(desired=[network()], rejections=before, fence=1)
    assert node.kernel.hits == []
    assert "this node's clock was set back" in report.devices[0].reason


def test_a_device_that_replaced_one_that_a_person_removed_is_not_taken_either(
    tmp_path: Path,
) -> None:
    """What held the VNI had an endpoint, and was named as that."""
    held = in_sandbox(endpoints=1)
    node = WorkerNode(tmp_path, [held])
    node.run(desired=[network()])
    node.seconds += 10
    report = node.run(desired=[network()], rejections=[rejection(node.now)])
    assert report.devices[0].reason.startswith("holds VNI")
    node.kernel.vanish(*held.identity[:2])
    node.run(desired=[network()])
    node.kernel.put(in_sandbox(endpoints=0, ifindex=9))
    node.run(desired=[network()])
    node.seconds += 8
    late = [rejection(node.now, task="late")]
    report = node.run(desired=[network()], rejections=late)
    assert node.kernel.hits == []
    node.kernel.put(in_sandbox(endpoints=1, ifindex=9))
    report = node.run(desired=[network()], rejections=late)
    assert not report.devices[0].reason.startswith("holds VNI"), "nobody is told to remove it"


def test_a_device_that_is_only_moved_home_is_the_one_that_was_there(tmp_path: Path) -> None:
    """So a leak on the last leave: in the sandbox, then in the host namespace with the same number."""
    node = WorkerNode(tmp_path, [in_sandbox(endpoints=0)])
    node.run()
    node.seconds += 2
    node.run()
    node.kernel.vanish(*in_sandbox(endpoints=0).identity[:2])
    node.kernel.put(leaked())
    node.run()
    node.seconds += 2
    report = node.run(desired=[network()], rejections=[rejection(node.now)])
    assert [each.proof for each in report.devices] == [Proof.REJECTED]


def test_the_device_of_a_second_subnet_lives_as_long_as_its_sandbox(tmp_path: Path) -> None:
    """It has no endpoint of its own where only other nodes have containers in that subnet."""
    two = network(VNI, VNI + 1, running=True)
    second = in_sandbox(endpoints=3, name="vxlan1", ifindex=8, vni=VNI + 1)._replace(master=3)
    node = WorkerNode(tmp_path, [in_sandbox(endpoints=3), second])
    for _ in range(80):
        node.seconds += GRACE
        node.run(desired=[two])
    assert node.kernel.hits == []


# What limits it.


@pytest.mark.parametrize(
    ("own", "asked", "whose"),
    [
        (Mode.OBSERVE, Mode.ENFORCE, "this node's own mode"),
        (Mode.ENFORCE, Mode.OBSERVE, "the request's mode"),
        (Mode.OBSERVE, Mode.OBSERVE, "this node's own mode"),
    ],
)
def test_observe_is_kept_whoever_says_it(
    tmp_path: Path, own: Mode, asked: Mode, whose: str
) -> None:
    node = WorkerNode(tmp_path, [leaked()], mode=own)
    node.run()
    node.seconds += GRACE
    report = node.run(mode=asked)
    assert [each.verdict for each in report.devices] == [Verdict.ORPHAN]
    assert node.kernel.hits == []
    assert node.stages() == [Stage.DETECTED]
    assert report.limitations == (f"1 orphan(s) left alone: {whose} is observe",)


def test_at_most_so_many_are_removed_a_run_the_blocking_first(tmp_path: Path) -> None:
    unknown, stale, blocking, more = orphans(4)
    node = WorkerNode(tmp_path, [unknown, stale, blocking, more], max_removals=2)
    desired, known = [network(blocking.identity.vni)], [network(stale.identity.vni)]
    node.run()
    node.seconds += GRACE
    rejections = [rejection(node.now, vni=blocking.identity.vni)]
    report = node.run(desired=desired, known=known, rejections=rejections)
    assert [hit.device for hit in node.kernel.hits] == [blocking, stale]
    assert report.limitations == ("2 orphan(s) left for the next run: at most 2 removals a run",)
    assert report.recheck_after == 0.0, "at once"
    assert {each.urgency for each in report.devices if not each.removed} == {Urgency.UNKNOWN}
    node.run(desired=desired, known=known)
    assert node.kernel.devices() == ()


def test_what_is_left_for_the_next_run_does_not_wait_for_a_device_that_settles(
    tmp_path: Path,
) -> None:
    node = WorkerNode(tmp_path, orphans(3), max_removals=2)
    node.run(mode=Mode.OBSERVE)
    node.seconds += GRACE
    newcomer = leaked(identity(ifindex=50, vni=0x2000, name="vx-002000-n0fxr"))
    node.kernel.put(newcomer)
    report = node.run()
    assert len(node.kernel.hits) == 2
    assert report.recheck_after == 0.0, "at once"
    assert node.run().recheck_after == GRACE, "then for the device that settles"


def test_a_batch_of_which_nothing_could_be_removed_is_not_repeated_at_once(
    tmp_path: Path,
) -> None:
    node = WorkerNode(tmp_path, orphans(3), max_removals=2)
    node.run(mode=Mode.OBSERVE)
    node.seconds += GRACE
    node.kernel.refuse("delete", errno.EBUSY)
    node.kernel.refuse("delete", errno.EBUSY)
    report = node.run()
    assert report.limitations == ("1 orphan(s) left for the next run: at most 2 removals a run",)
    assert report.recheck_after is None


def test_an_orphan_of_an_observed_network_stays_while_another_goes(tmp_path: Path) -> None:
    kept, gone = orphans(2)
    node = WorkerNode(tmp_path, [kept, gone])
    networks = [
        network(kept.identity.vni, name="kept", mode=Mode.OBSERVE),
        network(gone.identity.vni),
    ]
    node.run(known=networks)
    node.seconds += GRACE
    report = node.run(known=networks)
    assert [hit.device for hit in node.kernel.hits] == [gone]
    assert {each.verdict for each in report.devices} == {Verdict.ORPHAN}
    assert report.limitations == (
        "1 orphan(s) left alone: the mode of their network is observe (kept)",
    )
    assert report.recheck_after is None, "asking again would change nothing"
    assert node.stages(kept.identity) == [Stage.DETECTED]
    node.run(known=[each.model_copy(update={"mode": Mode.ENFORCE}) for each in networks])
    assert node.kernel.devices() == ()


def test_the_controllers_budget_of_removals_is_kept(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, orphans(4), max_removals=3)
    node.run()
    node.seconds += GRACE
    report = node.run(max_removals=2)
    assert report.max_removals == 3, "its own limit, not that of the request"
    assert len(node.kernel.hits) == 2
    (limit,) = report.limitations
    assert "2 orphan(s) left alone: the breaker allows this node 2 more removal(s)" in limit
    assert report.recheck_after is None, "asking again would find the budget used up"
    assert node.run(max_removals=0).outcome is Outcome.DONE
    assert len(node.kernel.hits) == 2


def test_nothing_is_removed_while_the_audit_trail_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "MAX_PENDING", 1)
    node = WorkerNode(tmp_path, [leaked()])
    report = node.outstay()
    assert node.kernel.hits == []
    assert "journal is full" in report.limitations[0]
    monkeypatch.undo()
    node.run()
    assert len(node.kernel.hits) == 1


# What it records.


def test_an_orphan_is_detected_once_however_often_it_is_seen(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, [leaked()])
    node.run()
    for _ in range(3):
        node.seconds += GRACE
        node.run(mode=Mode.OBSERVE)
    assert node.stages() == [Stage.DETECTED]


def test_a_restarted_worker_detects_an_orphan_again_under_the_same_entry_id(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, [leaked()])
    for _ in range(2):
        node.restart()
        for _ in range(2):
            node.run(mode=Mode.OBSERVE)
            node.seconds += GRACE
    assert node.stages() == [Stage.DETECTED] * 2
    assert len({entry.id for entry in node.entries()}) == 1


def test_a_detection_that_could_not_be_written_is_written_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = WorkerNode(tmp_path, [leaked()])
    node.run()
    node.seconds += GRACE
    with monkeypatch.context() as patch:
        full_disk(patch)
        node.run(mode=Mode.OBSERVE)
    node.seconds += 1
    node.run(mode=Mode.OBSERVE)
    assert node.stages() == [Stage.DETECTED]


@pytest.mark.parametrize("after_removal", [False, True], ids=["before deleting", "after deleting"])
def test_a_plan_whose_worker_died_is_concluded_by_the_next_look(
    tmp_path: Path, after_removal: bool
) -> None:
    node = WorkerNode(tmp_path, [leaked()])
    die_before_recording(node, after_removal=after_removal)
    plan = node.entries()[-1]
    assert plan.stage is Stage.PLANNED
    node.run()
    (uncertain,) = [each for each in node.entries() if each.stage is Stage.UNCERTAIN]
    assert (uncertain.run_id, uncertain.identity) == (plan.run_id, plan.identity)
    looked = Stage.VERIFIED if after_removal else Stage.LINGERING
    stages = [each.stage for each in node.entries() if each.run_id == plan.run_id]
    assert stages[-3:] == [Stage.PLANNED, Stage.UNCERTAIN, looked]
    node.run()
    assert node.stages().count(Stage.UNCERTAIN) == node.stages().count(looked) == 1


@pytest.mark.parametrize("gone", [True, False])
def test_a_removal_whose_worker_died_before_the_second_look_is_verified_by_the_next(
    tmp_path: Path, gone: bool
) -> None:
    node = WorkerNode(tmp_path, [leaked()])
    node.kernel.takes_effect = gone
    node.run(mode=Mode.OBSERVE)
    node.seconds += GRACE

    class Killed(BaseException):
        pass

    def kill() -> None:
        raise Killed

    node.kernel.before("look", lambda: node.kernel.before("look", kill))
    with pytest.raises(Killed):
        node.run()
    assert node.stages()[-1] is Stage.APPLIED
    node.journal.close()
    node.restart()
    for _ in range(2):
        node.run(mode=Mode.OBSERVE)
        looked = Stage.VERIFIED if gone else Stage.LINGERING
        assert node.stages()[-2:] == [Stage.APPLIED, looked], "once"


def test_an_acknowledged_plan_is_still_concluded(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, [leaked()])
    die_before_recording(node, after_removal=True)
    # A refused request carries the plan to the controller before any look concluded it.
    told = node.reconciler.run(request(node_id=OTHER_NODE, issued_at=node.now)).entries
    assert told[-1].stage is Stage.PLANNED
    report = node.run(acknowledged=acknowledge(node, told[-1].sequence))
    assert [entry.stage for entry in report.entries] == [Stage.UNCERTAIN, Stage.VERIFIED]


def acknowledge(node: WorkerNode, through: int) -> Acknowledgement:
    return Acknowledgement(journal_id=node.journal.id, through=through)


def test_entries_are_told_until_acknowledged_and_never_too_many_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile_module, "ENTRIES_PER_REPORT", 3)
    node = WorkerNode(tmp_path, [leaked()])
    report = node.outstay()
    assert [entry.sequence for entry in report.entries] == [1, 2, 3]
    assert report.journal_id == node.journal.id
    assert node.run().entries == report.entries
    report = node.run(acknowledged=acknowledge(node, 3))
    assert [entry.stage for entry in report.entries] == [Stage.VERIFIED]


# What goes wrong.


def test_without_a_journal_nothing_is_removed_and_the_report_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = WorkerNode(tmp_path, [leaked()])
    node.run()
    node.seconds += GRACE
    with monkeypatch.context() as patch:
        full_disk(patch)
        report = node.run()
    assert "delete" not in node.kernel.asked
    assert report.outcome is Outcome.FAILED
    assert "No space left" in (report.error or "")
    assert "nothing is removed without a record" in (report.error or "")
    assert [each.verdict for each in report.devices] == [Verdict.ORPHAN], "told, not removed"
    assert not report.devices[0].removed
    node.run()
    assert len(node.kernel.hits) == 1, "once it can be written again"


def test_an_outcome_that_could_not_be_written_is_concluded_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = WorkerNode(tmp_path, [leaked()])
    node.run(mode=Mode.OBSERVE)
    node.seconds += GRACE
    with monkeypatch.context() as patch:
        node.kernel.before("delete", lambda: full_disk(patch))
        report = node.run()
    assert report.outcome is Outcome.FAILED
    assert not report.devices[0].removed, "what is not on record is not claimed"
    node.run()
    assert node.stages() == [Stage.DETECTED, Stage.PLANNED, Stage.UNCERTAIN, Stage.VERIFIED]


def nothing_is_told_as_if_it_were_seen(report: ReconcileReport) -> None:
    assert report.outcome is Outcome.FAILED
    assert report.error
    assert report.devices == ()


@pytest.mark.parametrize("code", [errno.EINTR, errno.EPERM, errno.ETIMEDOUT], ids=str)
def test_a_look_that_fails_makes_a_failed_report_and_never_an_empty_node(
    tmp_path: Path, code: int
) -> None:
    node = WorkerNode(tmp_path, [leaked()])
    node.kernel.refuse("look", code)
    nothing_is_told_as_if_it_were_seen(node.run())
    assert "delete" not in node.kernel.asked


def test_without_the_capability_an_empty_look_is_never_told_as_done(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, [in_sandbox(endpoints=0)])
    node.kernel.permitted = False
    assert node.kernel.look().devices == (), "it looks empty"
    nothing_is_told_as_if_it_were_seen(node.run())


def test_a_second_look_that_fails_makes_a_failed_report_with_the_outcome_on_record(
    tmp_path: Path,
) -> None:
    node = WorkerNode(tmp_path, [leaked()])
    node.run()
    node.seconds += GRACE
    node.kernel.before("delete", lambda: node.kernel.refuse("look", errno.EINTR))
    report = node.run()
    assert report.outcome is Outcome.FAILED
    assert "the second look after the removals failed" in (report.error or "")
    assert [each.removed for each in report.devices] == [True], "the breakers count it"
    assert [entry.stage for entry in report.entries][-2:] == [Stage.PLANNED, Stage.APPLIED]
    again = node.run()
    assert [entry.stage for entry in again.entries][-1] == Stage.VERIFIED, "by the next look"
    assert again.entries[-1].run_id == report.run_id, "of the run that removed it"
    assert node.run().entries == again.entries, "and once"


def test_a_clock_that_jumps_does_not_hasten_a_removal(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, [leaked()])
    node.run()
    node.seconds += 10_000
    assert [each.verdict for each in node.run().devices] == [Verdict.SETTLING]
    assert node.kernel.hits == []


def test_a_network_without_its_device_is_reported_once_that_has_lasted(tmp_path: Path) -> None:
    """A task of `shop` runs here, says the Swarm; of `old` none does."""
    node = WorkerNode(tmp_path)
    shop, old = network(running=True), network(5, name="old", prefix="old")

    def missing() -> tuple[str, ...]:
        return node.run(desired=[shop, old]).missing

    assert missing() == ()
    node.seconds += MISSING_FOR.total_seconds() - 1
    assert missing() == (), "what the Swarm told may be old"
    node.seconds += 1
    assert missing() == (shop.id,)
    node.kernel.put(leaked(identity(name="vxlan.mine", port=8472))._replace(up=True))
    assert missing() == (shop.id,), "another software's device with that VNI is none of Docker's"
    node.kernel.put(in_sandbox(endpoints=1))
    assert missing() == ()
    node.kernel.end_namespace(SANDBOX)
    assert missing() == (), "it begins anew"


def test_one_device_of_several_vnis_is_enough(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, [in_sandbox(endpoints=1)])
    shop = network(VNI + 1, VNI, running=True)
    node.run(desired=[shop])
    node.seconds += 3600
    assert node.run(desired=[shop]).missing == ()
