"""How much of a node's messages is taken: as much as any honest one sends, whatever it costs, and no more."""

import pytest
from pydantic import BaseModel

from contract.messages import MAX_ENTRIES, Drift, ReconcileReport
from contract.queues import DRIFT_TASK, HELLO_TASK, REPORT_TASK
from contract.signing.envelope import CONTROLLERS, KnownKey, Opener, node_address
from contract.signing.refusals import Reason, RefusedError
from contract.signing.replays import Replays
from controller.conditions.node_facts import QUIET, Dropping
from controller.runs.pace import Pace
from controller.trust.quota import CAPACITY, Quota
from tests.fake_clock import START, Clock
from tests.fake_swarm import swarm_id
from tests.reports import device, drift, report
from tests.signed import key_of, message_text
from worker.journal import MAX_PENDING
from worker.outbox import CAPACITY as OUTBOX

ONE, TWO = swarm_id("one"), swarm_id("two")
HINT, ENTRY, LARGEST = 13_000, 1_200, 24_000_000
"""Bytes: of a hint of a hundred devices; of an entry of the journal with a long reason and evidence; of a
report of 20,000 devices, of networks with the longest of names."""


class Door:
    """Opens messages of nodes one and two, as the controllers do."""

    def __init__(self, clock: Clock) -> None:
        self.quota = Quota(clock.monotonic, clock)
        known = {
            key_of(node).public.id: KnownKey(key_of(node).public, node_address(node))
            for node in (ONE, TWO)
        }
        self._opener = Opener(me=CONTROLLERS, lookup=known.get, replays=Replays(), bound=self.quota)

    def take(self, text: str, task: str, model: type[BaseModel]) -> Reason | None:
        """Open a message; return why it is refused."""
        try:
            self._opener.open(text, task, model)
        except RefusedError as error:
            return error.reason
        return None

    def drift(self, node: str = "one") -> Reason | None:
        return self.take(message_text(DRIFT_TASK, drift(1, node=node)), DRIFT_TASK, Drift)

    def report(self, devices: int = 0) -> Reason | None:
        told = report(devices=[device(number + 1) for number in range(devices)])
        return self.take(message_text(REPORT_TASK, told), REPORT_TASK, ReconcileReport)

    def spends(self, task: str, size: int) -> bool:
        """Whether a message of node one of so many bytes is taken."""
        key = key_of(ONE).public.id
        try:
            self.quota.check(node_address(ONE), key)
            self.quota.spend(node_address(ONE), key, task, size)
        except RefusedError:
            return False
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def door(clock: Clock) -> Door:
    return Door(clock)


def test_what_a_node_sends_beyond_its_quota_is_dropped_unread_and_no_other_nodes(
    door: Door, clock: Clock
) -> None:
    assert [door.drift() for _ in range(int(CAPACITY))] == [None] * int(CAPACITY)
    assert [door.drift() for _ in range(9)] == [Reason.TOO_MANY] * 9
    forged = message_text(DRIFT_TASK, drift(1)) + " "
    assert door.take(forged, DRIFT_TASK, Drift) is Reason.TOO_MANY, "no signature is looked at"
    assert door.drift("two") is None
    assert door.quota.dropping(ONE) == Dropping(START, START)
    assert door.quota.dropping(TWO) is None
    later = clock.advance(10)
    taken = [door.drift() for _ in range(100)].count(None)
    assert 70 <= taken <= 80
    assert door.quota.dropping(ONE) == Dropping(START, later)
    again = clock.advance(QUIET.total_seconds() + 1)
    while door.drift() is None:
        pass
    assert door.quota.dropping(ONE) == Dropping(again, again)


def test_nobody_else_uses_up_a_nodes_quota(door: Door) -> None:
    forged = message_text(DRIFT_TASK, drift(1)) + " "
    for _ in range(2 * int(CAPACITY)):
        assert door.take(forged, DRIFT_TASK, Drift) is Reason.BAD_SIGNATURE
    assert door.drift() is None


def test_a_message_that_is_repeated_costs_what_it_did(door: Door) -> None:
    """Who could repeat it but its node can delete that node's messages as well."""
    told = message_text(DRIFT_TASK, drift(1))
    assert door.take(told, DRIFT_TASK, Drift) is None
    for _ in range(int(CAPACITY) - 1):
        assert door.take(told, DRIFT_TASK, Drift) is Reason.REPLAYED
    assert door.take(told, DRIFT_TASK, Drift) is Reason.TOO_MANY


def test_large_reports_that_nobody_asked_for_are_few(door: Door, clock: Clock) -> None:
    assert door.spends(REPORT_TASK, LARGEST), "a late one may be as large as any"
    assert not door.spends(REPORT_TASK, 1_000)
    clock.advance(60)
    assert door.spends(REPORT_TASK, 1_000)


def test_a_report_that_was_asked_for_is_taken_also_beyond_the_quota(door: Door) -> None:
    while door.drift() is None:
        pass
    for _ in range(9):
        assert door.report(devices=300) is Reason.TOO_MANY
        door.quota.asked([ONE, TWO])
        assert door.report(devices=300) is None


def test_reports_that_were_asked_for_and_never_came_are_no_credit(door: Door) -> None:
    for _ in range(99):
        door.quota.asked([ONE])
    assert [door.spends(REPORT_TASK, LARGEST) for _ in range(4)] == [True, True, True, False]


def test_nothing_of_a_worker_that_comes_back_after_a_day_is_lost(door: Door) -> None:
    """Its outbox is full, the controllers changed meanwhile and know of no request, and so is its journal."""
    for number in range(OUTBOX):
        assert door.spends((DRIFT_TASK, HELLO_TASK, REPORT_TASK)[number % 3], HINT)
    for _ in range(MAX_PENDING // MAX_ENTRIES):
        door.quota.asked([ONE])
        assert door.spends(REPORT_TASK, MAX_ENTRIES * ENTRY)


def test_nothing_of_the_busiest_worker_is_lost(door: Door, clock: Clock) -> None:
    """A run a second of 2,000 devices, a drift hint a second, and a Hello in two, for an hour."""
    for second in range(3_600):
        clock.advance(1)
        door.quota.asked([ONE])
        assert door.spends(DRIFT_TASK, HINT)
        assert door.spends(REPORT_TASK, 1_200_000)
        assert second % 2 or door.spends(HELLO_TASK, 2_000)


def test_a_node_with_many_devices_has_the_runs_that_it_asks_for_less_often(clock: Clock) -> None:
    """Their reports are always taken."""
    pace = Pace(clock.monotonic)
    waits = []
    for devices in (20_000, 20_000, 20_000, 400, 0):
        pace.ran(ONE, devices)
        waits.append(pace.wait(ONE).total_seconds())
    assert waits == [0, 40, 50, 50, 50]


def test_of_nodes_that_left_nothing_is_remembered(door: Door, clock: Clock) -> None:
    while door.drift() is None:
        pass
    clock.advance(3_600)
    door.quota.asked([TWO])
    assert len(door.quota) == 1
    assert door.quota.dropping(ONE) is None
