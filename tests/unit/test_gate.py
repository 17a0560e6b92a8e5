"""What is done in bulk stands aside while something urgent is at work, and not for ever."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from controller import gate
from controller.api.urgent import UrgentFirst


def stands_aside(seconds: float) -> bool:
    """Whether somebody who would go on is still waiting after so long."""
    passed = threading.Event()

    def bulk() -> None:
        gate.stand_aside()
        passed.set()

    threading.Thread(target=bulk, daemon=True).start()
    return not passed.wait(seconds)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stands aside does so for long, but no longer than the test."""
    monkeypatch.setattr(gate, "_until", 0.0)
    monkeypatch.setattr(gate, "_MAX_SECONDS", 10.0)


def test_nobody_waits_for_nothing() -> None:
    begin = time.monotonic()
    for _ in range(1000):
        gate.stand_aside()
    assert time.monotonic() - begin < 5


def test_bulk_waits_until_all_that_is_urgent_is_done() -> None:
    with gate.urgent():
        with gate.urgent():
            assert stands_aside(0.05)
        assert stands_aside(0.05)
    assert not stands_aside(5)


def test_an_error_in_urgent_work_opens_the_gate() -> None:
    with pytest.raises(ZeroDivisionError), gate.urgent():
        raise ZeroDivisionError
    assert not stands_aside(5)


def test_nobody_stands_aside_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "_MAX_SECONDS", 0.02)
    with gate.urgent():
        assert not stands_aside(5)


def test_who_asks_a_thousand_times_waits_no_longer_than_who_asks_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate, "_MAX_SECONDS", 0.05)
    passed = threading.Event()

    def bulk() -> None:
        for _ in range(1_000):
            gate.stand_aside()
        passed.set()

    with gate.urgent():
        threading.Thread(target=bulk, daemon=True).start()
        assert passed.wait(25), "a thousand waits would last 50 s"


def test_pieces_are_smaller_for_a_while_after_something_urgent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1_000.0
    monkeypatch.setattr(gate, "_until", 0.0)
    monkeypatch.setattr("controller.gate.time.monotonic", lambda: now)
    assert gate.pieces(100) == 100
    with gate.urgent():
        assert (gate.pieces(100), gate.pieces(1)) == (33, 1)
    assert gate.pieces(100) == 33
    now += 10.0 + gate.LATELY_SECONDS + 1  # `patient` says 10 s.
    assert gate.pieces(100) == 100


@pytest.mark.parametrize("how", [gate.urgent, gate.going_on])
def test_what_is_urgent_or_waited_for_goes_on(
    how: Callable[[], AbstractContextManager[None]],
) -> None:
    passed = threading.Event()

    def work() -> None:
        with how():
            gate.stand_aside()
        passed.set()

    with gate.urgent():
        threading.Thread(target=work, daemon=True).start()
        assert passed.wait(5)
        assert stands_aside(0.05), "that ended, and this goes on"


def test_the_api_closes_the_gate_for_what_a_person_asks_to_be_done() -> None:
    seen = []

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(stands_aside(0.05))

    async def nothing(*_: Any) -> Any:
        """Neither receive nor send is used."""

    for method in ("POST", "GET"):
        scope = {"type": "http", "method": method}
        asyncio.run(UrgentFirst(app)(scope, nothing, nothing))
    assert seen == [True, False]
    assert not stands_aside(5)
