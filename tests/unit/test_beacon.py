"""The worker's signs of life: how often, the last one, and a node whose id changed."""

from contract.messages import SignOfLife
from tests.builders import NODE, OTHER_NODE
from tests.fake_clock import Clock
from tests.servers import await_true
from worker.beacon import ASK_SECONDS, DEFAULT_EVERY_SECONDS, Beacon


class Node:
    """A worker's beacon, a broker that may be away, and a dockerd."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.signs: list[tuple[str, SignOfLife]] = []
        self.away = False
        self.id: str | None = NODE
        self.asked = 0
        self.moved: list[str] = []
        self.beacon = Beacon(
            node_id=NODE,
            write=self._write,
            local_id=self._local_id,
            moved=self.moved.append,
            clock=self.clock.monotonic,
        )

    def _write(self, key: str, sign: SignOfLife) -> None:
        if self.away:
            raise ConnectionError("refused")
        self.signs.append((key, sign))

    def _local_id(self) -> str | None:
        self.asked += 1
        return self.id


def test_each_sign_differs_and_says_when_the_next_comes() -> None:
    node = Node()
    assert node.beacon.step() == DEFAULT_EVERY_SECONDS
    node.beacon.asked(18.0)
    assert node.beacon.step() == 18.0
    (_, first), (key, second) = node.signs
    assert key == second.node_id == NODE
    assert (first.every, second.every) == (DEFAULT_EVERY_SECONDS, 18.0)
    assert first.count < second.count
    assert first.session == second.session
    node.beacon.asked(None)
    assert node.beacon.step() == ASK_SECONDS


def test_the_last_sign_says_that_the_worker_ends() -> None:
    node = Node()
    node.beacon.start()
    node.beacon.stop()
    assert node.signs[-1][1].ended
    assert not any(sign.ended for _, sign in node.signs[:-1])


def test_a_sign_that_is_hurried_is_not_waited_for() -> None:
    node = Node()
    node.beacon.asked(3600.0)
    node.beacon.start()
    await_true(lambda: len(node.signs) == 1, "the first sign")
    node.beacon.hurry()
    await_true(lambda: len(node.signs) == 2, "the next, an hour early")
    node.beacon.stop()
    assert [sign.ended for _, sign in node.signs] == [False, False, True]


def test_a_broker_that_is_away_ends_nothing_and_dockerd_is_asked_when_it_is_back() -> None:
    node = Node()
    node.beacon.step()
    node.away = True
    for _ in range(3):
        assert node.beacon.step() == DEFAULT_EVERY_SECONDS
    assert node.asked == 1
    node.away = False
    node.beacon.step()
    node.beacon.step()
    assert node.asked == 2


def test_dockerd_is_asked_from_time_to_time_and_its_silence_means_nothing() -> None:
    node = Node()
    node.id = None
    for _ in range(int(ASK_SECONDS)):
        node.beacon.step()
        node.clock.advance(1)
    assert node.asked == 1
    node.beacon.step()
    assert (node.asked, node.moved, node.beacon.other_id) == (2, [], None)


def test_a_node_with_a_new_id_is_noticed_once_and_found_under_that_id() -> None:
    node = Node()
    node.beacon.step()
    node.id = OTHER_NODE
    for _ in range(3):
        node.clock.advance(ASK_SECONDS)
        node.beacon.step()
    assert node.moved == [OTHER_NODE]
    assert node.beacon.other_id == OTHER_NODE
    key, sign = node.signs[-1]
    assert (key, sign.node_id) == (OTHER_NODE, NODE), "it says which id it serves"
