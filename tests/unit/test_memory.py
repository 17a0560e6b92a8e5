"""What a worker has heard survives its process: an old request is not run again."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from contract.runtime.errors import OperatorError
from contract.verdicts import Outcome
from tests.builders import EPOCH, request
from tests.worker_node import WorkerNode
from worker.memory import NONCES, Memory
from worker.reconcile import FENCE_HOLDS

KID = "0123456789abcdef"


def restarted(node: WorkerNode) -> WorkerNode:
    node.journal.close()
    node.restart()
    return node


def test_a_restart_does_not_let_an_older_request_in(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path)
    old = request(issued_at=node.now, fence=3)
    node.seconds += 1
    node.run(fence=3)
    for _ in range(2):
        assert restarted(node).reconciler.run(old).outcome is Outcome.REFUSED


def test_a_restart_does_not_let_an_earlier_leader_in(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path)
    node.run(fence=7)
    restarted(node)
    node.seconds += FENCE_HOLDS.total_seconds() - 1
    assert node.run(fence=6).outcome is Outcome.REFUSED
    node.seconds += 1
    assert node.run(fence=6).outcome is Outcome.DONE, "a controller restored from a backup"


@pytest.mark.parametrize("fence", [6, 7])
def test_a_request_that_is_good_for_an_hour_does_not_outlast_the_fence(
    tmp_path: Path, fence: int
) -> None:
    """Whoever owns the broker keeps it back until then."""
    node = WorkerNode(tmp_path)
    node.seconds = 1e6
    lifetime = timedelta(hours=1)
    old = request(issued_at=node.now, fence=fence, lifetime=lifetime)
    node.seconds += 1
    node.run(fence=7)
    restarted(node)
    node.seconds += FENCE_HOLDS.total_seconds()
    assert node.reconciler.run(old).outcome is Outcome.REFUSED
    node.seconds = 1e6 + lifetime.total_seconds()
    assert node.reconciler.run(old).outcome is Outcome.REFUSED


def test_a_clock_that_was_set_back_does_not_shut_the_controllers_out(tmp_path: Path) -> None:
    """Both the controller's and the node's: as after a wrong time at boot."""
    node = WorkerNode(tmp_path)
    node.seconds = 1e6
    node.run(fence=1)
    restarted(node)
    node.seconds = 1e6 - FENCE_HOLDS.total_seconds()
    assert node.run(fence=1).outcome is Outcome.DONE


def test_the_file_is_bounded_and_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "heard.json"
    memory = Memory.open(path)
    for number in range(NONCES * 2):
        memory.replays.add(KID, f"{number:022}", 10**15 + number)
    memory.ran(1, EPOCH, EPOCH)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size < 20_000
    again = Memory.open(path)
    assert (again.fence, again.issued_at, again.ran_at) == (1, EPOCH, EPOCH)
    assert again.replays.state() == memory.replays.state()
    again.keep(set())
    assert again.replays.state() == {}


def test_a_file_that_cannot_be_read_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "heard.json"
    for content in (b"", b"{", b"[]", b'{"fence": -1}', b"\xff" * 100):
        path.write_bytes(content)
        with capture_logs() as said:
            assert Memory.open(path).fence == 0
        assert len(said) == 1


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_what_is_no_file_is_told_with_what_to_do(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "heard.json"
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path)
    with pytest.raises(OperatorError, match=r"heard\.json") as caught:
        Memory.open(path)
    assert f"mv {path} {path}.bad" in caught.value.hint


def test_a_request_that_was_refused_is_remembered_too(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path)
    node.reconciler.memory.replays.add(KID, "n" * 22, 1)
    old = request(issued_at=node.now - timedelta(days=1))
    assert node.reconciler.run(old).outcome is Outcome.REFUSED
    assert "n" * 22 in Memory.open(tmp_path / "heard.json").replays.state()[KID].seen


def test_a_disk_that_takes_nothing_is_told_once(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    memory = Memory.open(folder / "heard.json")
    (folder / "heard.json.new").mkdir()
    with capture_logs() as said:
        for number in range(3):
            memory.ran(number, datetime.now(UTC), datetime.now(UTC) + timedelta(seconds=number))
    assert [each["log_level"] for each in said] == ["warning"]
