"""Which UDP port is believed to be the Swarm's: what the node shows, and its own setting, not a request."""

from pathlib import Path

import pytest

from contract.verdicts import HeldBack, Verdict
from tests.builders import ALL_FLAGS, PORT, in_sandbox, leaked
from tests.worker_node import WorkerNode
from worker.kernel.model import Device, VxlanFlag
from worker.ports import confirmed, live_ports

OTHER = 8472


def on(port: int, device: Device) -> Device:
    return device._replace(identity=device.identity._replace(port=port))


LIVE = in_sandbox(endpoints=1, ifindex=9, vni=5)


@pytest.mark.parametrize(
    ("setting", "live", "remembered", "expected"),
    [
        (0, set(), None, PORT),
        (0, set(), OTHER, OTHER),
        (0, {PORT}, OTHER, PORT),
        (0, {OTHER}, None, OTHER),
        (OTHER, {PORT}, PORT, OTHER),
    ],
)
def test_the_setting_goes_before_what_lives_before_what_lived(
    setting: int, live: set[int], remembered: int | None, expected: int
) -> None:
    believed = {
        port
        for port in (PORT, OTHER, 1)
        if confirmed(port, setting=setting, live=frozenset(live), remembered=remembered)
    }
    assert believed == {expected}


def test_only_what_has_dockers_marks_and_a_container_shows_a_port() -> None:
    marked = on(OTHER, LIVE)
    assert live_ports([marked]) == {OTHER}
    for device in (
        marked._replace(endpoints=0),
        marked._replace(flags=ALL_FLAGS & ~VxlanFlag.PROXY),
        marked._replace(identity=marked.identity._replace(name="flannel.1")),
        on(OTHER, leaked()),
    ):
        assert live_ports([device]) == frozenset()


def test_a_request_alone_makes_no_device_dockers(tmp_path: Path) -> None:
    """What the operator itself had just called foreign was removed for a request with its port."""
    node = WorkerNode(tmp_path, [on(OTHER, leaked()), LIVE])
    node.outstay()
    node.port = OTHER
    report = node.outstay()
    orphan = report.devices[0]
    assert (orphan.verdict, orphan.removed) == (Verdict.ORPHAN, False)
    assert orphan.held_back is HeldBack.PORT
    assert "8472" in report.limitations[0]


def test_what_the_node_showed_is_remembered(tmp_path: Path) -> None:
    node = WorkerNode(tmp_path, [on(OTHER, leaked()), on(OTHER, LIVE)])
    node.port = OTHER
    node.run()
    node.kernel.vanish(LIVE.identity.netns, LIVE.identity.ifindex)
    node.journal.close()
    node.restart()
    assert node.outstay().devices[0].removed
