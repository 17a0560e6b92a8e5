"""Reports that wait together are taken together; those that cannot be stored are kept, for a while."""

import threading
import time
from collections.abc import Sequence

import pytest

from controller.runs import counters
from controller.runs import inbox as module
from controller.runs.inbox import KEPT_SECONDS, MAX_BATCH, MAX_WAITING, Inbox


def lost(reason: str) -> float:
    """Messages that this process has lost for a reason."""
    return float(counters.DROPPED.labels(reason)._value.get())


class AwayError(Exception):
    """What a database says that is away."""


class Store:
    """Takes reports, unless it is away; remembers the batches."""

    def __init__(self) -> None:
        self.away = False
        self.seconds = 0.0
        self.batches: list[list[str]] = []
        self.inbox = Inbox(self.take, clock=lambda: self.seconds)

    def take(self, payloads: Sequence[str]) -> None:
        if self.away:
            raise AwayError
        self.batches.append(list(payloads))


def test_what_waits_is_taken_together_in_its_order_and_bounded() -> None:
    store = Store()
    told = [str(number) for number in range(MAX_BATCH + 1)]
    for each in told:
        store.inbox.put(each)
    store.inbox.step()
    store.inbox.step()
    assert store.batches == [told[:MAX_BATCH], told[MAX_BATCH:]]


def test_after_several_reports_the_next_batch_waits_to_be_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_TOGETHER_SECONDS", 60.0)
    store = Store()
    store.inbox.put("alone")
    store.inbox.step()
    for each in ("of", "several"):
        store.inbox.put(each)
    store.inbox.step()
    assert store.batches == [["alone"], ["of", "several"]]
    storing = threading.Thread(target=store.inbox.step)
    storing.start()
    told = [str(number) for number in range(MAX_BATCH)]
    for each in told:
        store.inbox.put(each)
        time.sleep(0.001)
    storing.join(60)
    assert store.batches[2:] == [told]


def test_what_cannot_be_stored_is_kept_and_comes_before_what_came_later() -> None:
    store = Store()
    store.inbox.put("first")
    store.away = True
    with pytest.raises(AwayError):
        store.inbox.step()
    store.inbox.put("second")
    store.away = False
    store.inbox.step()
    store.inbox.step()
    assert store.batches == [["first"], ["second"]]


def test_what_cannot_be_stored_for_too_long_makes_room() -> None:
    store = Store()
    store.inbox.put("first")
    store.away = True
    with pytest.raises(AwayError):
        store.inbox.step()
    store.seconds += KEPT_SECONDS
    before = lost("not_stored")
    store.inbox.step()
    assert lost("not_stored") == before + 1
    store.inbox.put("second")
    store.away = False
    store.inbox.step()
    assert store.batches == [["second"]]


def test_what_finds_no_room_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_SECONDS", 0.01)
    store = Store()
    before = lost("no_room")
    for each in map(str, range(MAX_WAITING + 2)):
        store.inbox.put(each)
    assert lost("no_room") == before + 2
    store.inbox.empty()
    assert sum(map(len, store.batches)) == MAX_WAITING


def test_at_the_end_all_that_waits_is_taken_and_nothing_is_waited_for() -> None:
    store = Store()
    for each in map(str, range(MAX_WAITING)):
        store.inbox.put(each)
    store.away = True
    with pytest.raises(AwayError):
        store.inbox.step()
    store.away = False
    store.inbox.put("the last")
    store.inbox.empty()
    assert [len(batch) for batch in store.batches] == [MAX_BATCH, MAX_BATCH, 1]


def test_at_the_end_a_database_that_is_away_is_not_waited_for() -> None:
    store = Store()
    store.inbox.put("first")
    store.away = True
    before = lost("not_stored")
    store.inbox.empty()
    assert lost("not_stored") == before + 1
    assert store.batches == []
