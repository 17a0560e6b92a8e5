"""Removing: between the verdict and the deletion anything may have happened."""

import errno
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from contract.verdicts import Mode, Outcome, Stage, Urgency
from tests.builders import SANDBOX, VNI, addressed, identity, in_sandbox, leaked
from tests.fake_kernel import FakeKernel
from tests.worker_node import GRACE, WorkerNode
from worker.journal import Record
from worker.kernel.model import Device, VxlanFlag
from worker.remove import was_removed

IN_HOST = leaked()
IN_SANDBOX = in_sandbox(endpoints=0)


def where(device: Device) -> str:
    return str(device.identity.netns)


@pytest.mark.parametrize("orphan", [IN_HOST, IN_SANDBOX], ids=where)
def test_an_orphan_is_planned_removed_and_verified_in_this_order(
    tmp_path: Path, orphan: Device
) -> None:
    node = WorkerNode(tmp_path, [orphan])
    planned: list[list[Stage]] = []
    node.kernel.before("delete", lambda: planned.append(WorkerNode(tmp_path).stages()))
    report = node.outstay()
    assert planned == [[Stage.DETECTED, Stage.PLANNED]], "on disk before the kernel is asked"
    assert [hit.identity for hit in node.kernel.hits] == [orphan.identity]
    assert node.stages() == [Stage.DETECTED, Stage.PLANNED, Stage.APPLIED, Stage.VERIFIED]
    assert [device.removed for device in report.devices] == [True]
    assert report.outcome is Outcome.DONE


def changed(device: Device) -> Callable[[FakeKernel], None]:
    return lambda kernel: kernel.put(device)


@pytest.mark.parametrize(
    ("orphan", "happening", "reason"),
    [
        (IN_HOST, changed(IN_HOST._replace(up=True)), "it is UP"),
        (IN_HOST, changed(IN_HOST._replace(master=2)), "it is enslaved"),
        (IN_HOST, changed(addressed(IN_HOST)), "it has the IP address(es) 192.0.2.1/24"),
        (IN_HOST, changed(IN_HOST._replace(flags=VxlanFlag(0))), "no longer Docker's"),
        (IN_HOST, changed(IN_HOST._replace(born_elsewhere=True)), "no longer Docker's"),
        (IN_HOST, changed(leaked(identity(name="vx-mine"))), "the ifindex now belongs to"),
        (IN_HOST, changed(leaked(identity(vni=VNI + 1))), "the ifindex now belongs to"),
        (IN_HOST, changed(leaked(identity(port=8472))), "the ifindex now belongs to"),
        (IN_SANDBOX, changed(in_sandbox(endpoints=1)), "its sandbox has 1 endpoint(s): veth0"),
        (IN_SANDBOX, changed(in_sandbox(endpoints=0, name="vxlan1")), "the ifindex now belongs to"),
    ],
    ids=[
        "UP",
        "enslaved",
        "addressed",
        "flags",
        "birth",
        "another name",
        "another VNI",
        "another port",
        "an endpoint",
        "another name in the sandbox",
    ],
)
def test_what_changed_since_its_verdict_is_refused(
    tmp_path: Path, orphan: Device, happening: Callable[[FakeKernel], None], reason: str
) -> None:
    node = WorkerNode(tmp_path, [orphan])
    node.kernel.before("read", lambda: happening(node.kernel))
    report = node.outstay()
    assert node.kernel.hits == []
    assert "delete" not in node.kernel.asked
    refused = node.entries()[-1]
    assert refused.stage is Stage.REFUSED
    assert reason in refused.reason
    assert [device.removed for device in report.devices] == [False]
    assert report.outcome is Outcome.DONE


def something_else(kernel: FakeKernel) -> None:
    kernel.put_other(IN_HOST.identity.netns, IN_HOST.identity.ifindex)


@pytest.mark.parametrize(
    ("orphan", "happening"),
    [
        (IN_HOST, lambda kernel: kernel.vanish(*IN_HOST.identity[:2])),
        (IN_SANDBOX, lambda kernel: kernel.end_namespace(SANDBOX)),
        (IN_HOST, something_else),
    ],
    ids=["device gone", "namespace gone", "ifindex given to a bridge"],
)
def test_what_went_by_itself_before_the_last_look_is_not_asked_for(
    tmp_path: Path, orphan: Device, happening: Callable[[FakeKernel], None]
) -> None:
    node = WorkerNode(tmp_path, [orphan])
    node.kernel.before("read", lambda: happening(node.kernel))
    report = node.outstay()
    assert "delete" not in node.kernel.asked
    assert node.stages() == [Stage.DETECTED, Stage.PLANNED, Stage.VANISHED]
    assert report.outcome is Outcome.DONE
    assert report.devices == (), "it is not there, and no breaker counts it"


def test_what_goes_by_itself_during_its_removal_has_vanished(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, [IN_HOST])
    node.kernel.before("delete", lambda: node.kernel.vanish(*IN_HOST.identity[:2]))
    report = node.outstay()
    assert report.outcome is Outcome.DONE
    assert node.stages() == [Stage.DETECTED, Stage.PLANNED, Stage.VANISHED]
    assert report.devices == (), "it is not there, and no breaker counts it"


@pytest.mark.parametrize("operation", ["read", "delete"])
@pytest.mark.parametrize("code", [errno.EPERM, errno.EBUSY], ids=errno.errorcode.get)
def test_a_removal_that_the_kernel_refuses_fails_and_the_others_go_on(
    tmp_path: Path, operation: str, code: int
) -> None:
    other = leaked(identity(ifindex=8, vni=VNI + 1, name="vx-001003-n0fxr"))
    node = WorkerNode(tmp_path, [IN_HOST, other])
    node.kernel.refuse("read" if operation == "read" else "delete", code)
    report = node.outstay()
    assert report.outcome is Outcome.FAILED
    assert (report.error or "").startswith("1 removal(s) failed")
    assert node.stages(IN_HOST.identity) == [Stage.DETECTED, Stage.PLANNED, Stage.FAILED]
    assert node.stages(other.identity)[-2:] == [Stage.APPLIED, Stage.VERIFIED]
    node.seconds += 1
    assert node.run().outcome is Outcome.DONE, "the next run tries again"
    assert node.kernel.devices() == ()


@pytest.mark.parametrize("orphan", [IN_HOST, IN_SANDBOX], ids=where)
def test_a_deletion_that_the_kernel_does_not_answer_is_uncertain_until_a_second_look(
    tmp_path: Path, orphan: Device
) -> None:
    node = WorkerNode(tmp_path, [orphan])
    node.kernel.lose_answer("delete")
    report = node.outstay()
    assert node.kernel.asked.count("delete") == 1, "not asked for again in this run"
    assert node.stages() == [Stage.DETECTED, Stage.PLANNED, Stage.UNCERTAIN, Stage.VERIFIED]
    uncertain = node.entries()[2]
    assert "did not answer within 5 s; it may have been carried out" in uncertain.reason
    assert [device.removed for device in report.devices] == [True]
    assert report.outcome is Outcome.DONE
    assert node.journal.unconcluded() == []


def test_an_unanswered_deletion_that_was_not_carried_out_shows_in_the_second_look(
    tmp_path: Path,
) -> None:
    node = WorkerNode(tmp_path, [IN_HOST])
    node.kernel.lose_answer("delete")
    node.kernel.refuse("delete", errno.EBUSY)
    report = node.outstay()
    assert node.stages() == [Stage.DETECTED, Stage.PLANNED, Stage.UNCERTAIN, Stage.LINGERING]
    assert "still shows it: the deletion was not carried out" in node.entries()[-1].reason
    assert [device.removed for device in report.devices] == [False]
    node.seconds += 1
    node.run()
    assert node.kernel.devices() == (), "the next run tries again"
    assert node.stages()[-2:] == [Stage.APPLIED, Stage.VERIFIED]


def test_an_unanswered_deletion_without_a_second_look_is_verified_by_the_next_run(
    tmp_path: Path,
) -> None:
    node = WorkerNode(tmp_path, [IN_HOST])
    node.run(mode=Mode.OBSERVE)
    node.seconds += GRACE
    node.kernel.lose_answer("delete")
    node.kernel.before("look", lambda: node.kernel.refuse("look", errno.EINTR))
    assert node.run().outcome is Outcome.FAILED
    assert node.stages()[-1] is Stage.UNCERTAIN
    node.seconds += 1
    node.run()
    assert node.stages()[-1] is Stage.VERIFIED


def test_a_device_that_could_not_be_read_again_was_surely_not_deleted(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, [IN_HOST])
    node.kernel.lose_answer("read")
    report = node.outstay()
    assert "delete" not in node.kernel.asked
    assert node.stages()[-1] is Stage.FAILED
    assert [device.removed for device in report.devices] == [False]


@pytest.mark.parametrize(
    ("stage", "still_there", "expected"),
    [
        (Stage.APPLIED, False, True),
        (Stage.APPLIED, True, True),
        (Stage.VANISHED, False, False),
        (Stage.REFUSED, False, False),
        (Stage.FAILED, False, False),
        (Stage.UNCERTAIN, False, True),
        (Stage.UNCERTAIN, True, False),
    ],
)
def test_what_counts_as_removed(stage: Stage, still_there: bool, expected: bool) -> None:
    outcome = Record(uuid4(), stage, IN_HOST.identity, Urgency.UNKNOWN, None, "", "")
    assert was_removed(outcome, still_there) is expected


def test_a_device_that_outlives_its_confirmed_removal_lingers(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, [IN_HOST])
    node.kernel.takes_effect = False
    node.outstay()
    assert node.stages()[-2:] == [Stage.APPLIED, Stage.LINGERING]
