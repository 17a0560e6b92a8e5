"""What is done in bulk stands aside while something urgent is at work, and not for ever."""

import threading
import time

import pytest

from controller import gate


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
    """Whoever stands aside does so for long."""
    monkeypatch.setattr(gate, "_LONGEST_SECONDS", 10.0)


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
    monkeypatch.setattr(gate, "_LONGEST_SECONDS", 0.02)
    with gate.urgent():
        assert not stands_aside(5)
