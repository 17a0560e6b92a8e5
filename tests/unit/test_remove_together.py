"""Many orphans of one place go as a link group: checked one by one, deleted at once, or not at all."""

import errno
from pathlib import Path

import pytest

from contract.verdicts import Outcome, Stage
from tests.builders import SANDBOX, identity, in_sandbox, leaked
from tests.fake_kernel import FakeKernel
from tests.worker_node import WorkerNode
from worker.kernel.model import HOST, Device
from worker.remove import MIN_GROUP


def orphans(count: int) -> list[Device]:
    """Leaked devices of as many networks."""
    return [
        leaked(
            identity(ifindex=number, vni=0x1000 + number, name=f"vx-{0x1000 + number:06x}-n0fxr")
        )
        for number in range(1, count + 1)
    ]


def stages(node: WorkerNode, stage: Stage) -> int:
    """How many entries of a stage the journal holds."""
    return node.stages().count(stage)


def test_many_go_in_one_request_and_the_record_says_how(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, orphans(MIN_GROUP))
    report = node.outstay()
    assert node.kernel.asked.count("delete_group") == 1
    assert "delete" not in node.kernel.asked
    assert sum(device.removed for device in report.devices) == MIN_GROUP
    for stage in (Stage.DETECTED, Stage.PLANNED, Stage.APPLIED, Stage.VERIFIED):
        assert stages(node, stage) == MIN_GROUP
    applied = [entry for entry in node.entries() if entry.stage is Stage.APPLIED]
    assert all(f"together with {MIN_GROUP - 1} other(s)" in entry.reason for entry in applied)


def test_few_go_one_by_one(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, orphans(MIN_GROUP - 1))
    node.outstay()
    assert node.kernel.asked.count("delete") == MIN_GROUP - 1
    assert "set_group" not in node.kernel.asked


def test_orphans_of_different_places_do_not_add_up(tmp_path: Path) -> None:
    devices = [*orphans(MIN_GROUP - 1), in_sandbox(endpoints=0)]
    node = WorkerNode(tmp_path, devices)
    node.outstay()
    assert "set_group" not in node.kernel.asked
    assert not node.kernel.devices()
    assert {hit.netns for hit in node.kernel.hits} == {HOST, SANDBOX}


def test_one_that_came_alive_is_unmarked_and_spared(tmp_path: Path) -> None:
    devices = orphans(MIN_GROUP)
    node = WorkerNode(tmp_path, devices)
    alive = devices[3]._replace(up=True)

    def comes_alive() -> None:
        group = node.kernel.group_of(4)
        node.kernel.put(alive)
        node.kernel.set_group(4, group)

    node.kernel.before("look_at", comes_alive)
    node.outstay()
    assert node.kernel.devices() == (alive,)
    assert node.kernel.group_of(4) == 0
    assert stages(node, Stage.REFUSED) == 1
    assert stages(node, Stage.APPLIED) == MIN_GROUP - 1


def test_one_that_went_away_by_itself_is_on_record_so(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, orphans(MIN_GROUP))
    node.kernel.before("set_group", lambda: node.kernel.vanish(HOST, 1))
    node.outstay()
    assert stages(node, Stage.VANISHED) == 1
    assert stages(node, Stage.APPLIED) == MIN_GROUP - 1
    assert node.kernel.asked.count("delete_group") == 1, "the others go together all the same"


def join_the_group(kernel: FakeKernel) -> None:
    """Somebody else's bridge has the number that was drawn."""
    kernel.put_other(HOST, 99)
    kernel.set_group(99, kernel.group_of(1))


def test_a_group_with_a_stranger_in_it_is_not_deleted(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, orphans(MIN_GROUP))
    node.kernel.before("group_members", lambda: join_the_group(node.kernel))
    node.outstay()
    assert "delete_group" not in node.kernel.asked
    assert [hit.device is None for hit in node.kernel.hits] == [False] * MIN_GROUP
    assert stages(node, Stage.APPLIED) == MIN_GROUP


@pytest.mark.parametrize("operation", ["set_group", "look_at", "group_members", "delete_group"])
def test_where_groups_do_not_work_each_goes_by_itself(tmp_path: Path, operation: str) -> None:
    node = WorkerNode(tmp_path, orphans(MIN_GROUP))
    match operation:
        case "set_group" | "look_at" | "group_members" | "delete_group":
            node.kernel.refuse(operation, errno.EOPNOTSUPP)
    report = node.outstay()
    assert report.outcome is Outcome.DONE
    assert node.kernel.asked.count("delete") == MIN_GROUP
    assert stages(node, Stage.APPLIED) == MIN_GROUP


def test_a_group_whose_deletion_is_not_answered_is_uncertain_and_not_asked_for_again(
    tmp_path: Path,
) -> None:
    node = WorkerNode(tmp_path, orphans(MIN_GROUP))
    node.kernel.lose_answer("delete_group")
    report = node.outstay()
    assert "delete" not in node.kernel.asked
    for stage in (Stage.DETECTED, Stage.PLANNED, Stage.UNCERTAIN, Stage.VERIFIED):
        assert stages(node, stage) == MIN_GROUP
    assert len(node.entries()) == 4 * MIN_GROUP, "nothing else: none went by itself"
    assert sum(device.removed for device in report.devices) == MIN_GROUP


def test_a_group_that_an_unanswered_deletion_left_in_place_is_unmarked(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, orphans(MIN_GROUP))
    node.kernel.lose_answer("delete_group")
    node.kernel.refuse("delete_group", errno.EBUSY)
    report = node.outstay()
    assert "delete" not in node.kernel.asked
    assert stages(node, Stage.UNCERTAIN) == stages(node, Stage.LINGERING) == MIN_GROUP
    assert not any(device.removed for device in report.devices)
    assert {node.kernel.group_of(number) for number in range(1, MIN_GROUP + 1)} == {0}
    node.seconds += 1
    node.run()
    assert node.kernel.devices() == ()


@pytest.mark.parametrize("operation", ["set_group", "look_at", "group_members"])
def test_an_answer_lost_before_the_deletion_leaves_no_mark_and_each_goes_by_itself(
    tmp_path: Path, operation: str
) -> None:
    devices = orphans(MIN_GROUP)
    node = WorkerNode(tmp_path, devices)
    match operation:
        case "set_group" | "look_at" | "group_members":
            node.kernel.lose_answer(operation)
    marks: list[set[int]] = []
    node.kernel.before(
        "read",
        lambda: marks.append({node.kernel.group_of(each.identity.ifindex) for each in devices}),
    )
    node.outstay()
    assert marks == [{0}]
    assert "delete_group" not in node.kernel.asked
    assert stages(node, Stage.APPLIED) == stages(node, Stage.VERIFIED) == MIN_GROUP


def test_a_kernel_that_takes_no_mark_back_still_gets_nothing_deleted_unseen(tmp_path: Path) -> None:
    """Unmarking fails as well: the one that came alive keeps its number, and stays."""
    devices = orphans(MIN_GROUP)
    node = WorkerNode(tmp_path, devices)
    alive = devices[0]._replace(up=True)

    def comes_alive_and_stubborn() -> None:
        node.kernel.put(alive)
        node.kernel.refuse("set_group", errno.EBUSY)

    node.kernel.before("look_at", comes_alive_and_stubborn)
    node.outstay()
    assert node.kernel.devices() == (alive,)
