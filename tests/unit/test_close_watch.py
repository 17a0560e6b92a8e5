"""Where a rejected task is expected, tasks are read ten times a second, and nowhere else."""

from collections.abc import Mapping, Sequence
from typing import cast

import pytest

from controller.swarm import close_watch as module
from controller.swarm.close_watch import CloseWatch
from controller.swarm.model import SwarmError, SwarmNetwork, SwarmTask
from controller.swarm.rejections import Rejections
from tests.fake_swarm import SHOP, FakeSwarm, snapshot, swarm_id, task

ONE, TWO = swarm_id("one"), swarm_id("two")


class Recorded:
    """Stands for `Rejections`."""

    def __init__(self) -> None:
        self.tasks: list[str] = []

    def record(self, tasks: Sequence[SwarmTask], networks: Mapping[str, SwarmNetwork]) -> None:
        self.tasks += [each.id for each in tasks]


class Watched:
    """A watch over a Swarm of two nodes, with a clock that goes on when recorded to."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.swarm = FakeSwarm(snapshot(tasks=[task("t1", "one", "shop"), task("t2", "two")]))
        self.recorded = Recorded()
        self.networks: dict[str, SwarmNetwork] = {SHOP.id: SHOP}
        self.watch = CloseWatch(
            self.swarm,
            cast("Rejections", self.recorded),
            lambda: self.networks,
            share=0.1,
            monotonic=lambda: self.now,
        )

    def asked(self) -> list[tuple[str, ...]]:
        """For the tasks of which nodes it asked, since the last time."""
        found = [ids for what, ids in self.swarm.asked if what == "tasks_of_nodes"]
        self.swarm.asked.clear()
        return found


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setattr(module, "_IDLE_SECONDS", 0.0)
    return Watched()


def test_only_nodes_where_a_rejection_is_expected_are_asked_about(watched: Watched) -> None:
    watched.watch.step()
    assert watched.asked() == []
    watched.watch.expect(ONE, True)
    assert watched.watch.step() == 0.1
    assert watched.asked() == [(ONE,)]
    assert watched.recorded.tasks == [swarm_id("t1")]
    watched.watch.expect(ONE, False)
    watched.watch.expect(TWO, True)
    watched.watch.step()
    assert watched.asked() == [(TWO,)]


def test_before_the_networks_are_known_nothing_is_told(watched: Watched) -> None:
    """A rejection whose network is not found would be in doubt for good."""
    watched.networks = {}
    watched.watch.expect(ONE, True)
    watched.watch.step()
    assert watched.asked() == []


def test_what_does_not_come_is_not_waited_for_for_ever(watched: Watched) -> None:
    watched.watch.expect(ONE, True)
    watched.now += 121
    watched.watch.expect(ONE, True)
    watched.watch.step()
    assert watched.asked() == []
    watched.watch.expect(ONE, False)
    watched.watch.expect(ONE, True)
    watched.watch.step()
    assert watched.asked() == [(ONE,)]


def test_of_nodes_that_left_the_oldest_are_forgotten(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_EXPECTED", 2)
    for node_id in (swarm_id("left"), ONE, TWO):
        watched.watch.expect(node_id, True)
    watched.watch.step()
    assert watched.asked() == [tuple(sorted((ONE, TWO)))]


def test_a_manager_that_is_slow_is_spared(watched: Watched) -> None:
    def pass_time(question: str) -> None:
        watched.now += 1.0

    watched.swarm.before = pass_time
    watched.watch.expect(ONE, True)
    watched.watch.step()
    assert watched.asked() == [(ONE,)]
    assert watched.watch.step() > 0.1
    assert watched.asked() == []
    watched.now += 10
    watched.watch.step()
    assert watched.asked() == [(ONE,)]


def test_a_manager_that_does_not_answer_is_asked_again_later(watched: Watched) -> None:
    watched.swarm.answer = SwarmError("no leader")
    watched.watch.expect(ONE, True)
    assert watched.watch.step() == 1.0
    assert watched.recorded.tasks == []
