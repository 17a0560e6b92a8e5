"""Background steps: repeated, after errors too, until they are stopped."""

import sqlite3
import threading

import pytest
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from contract.runtime.throttle import Throttle
from controller.leadership.lease import LeaseLostError
from controller.process import loops
from controller.process.loops import Loops, every, log_failure
from tests.fake_clock import Clock


def test_a_step_is_done_again_after_its_pause() -> None:
    third = threading.Event()
    pauses = iter([0.0, 0.0, 3600.0])

    def step() -> float:
        pause = next(pauses)
        if pause:
            third.set()
        return pause

    running = Loops({"step": step})
    running.start()
    assert third.wait(60)
    running.stop(10)
    assert not [each for each in threading.enumerate() if each.name == "step"]


def test_an_error_ends_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "_RETRY_SECONDS", 0.0)
    third, count = threading.Event(), iter(range(100))

    def step() -> float:
        if next(count) < 3:
            raise ConnectionError
        third.set()
        return 3600.0

    running = Loops({"step": step})
    running.start()
    assert third.wait(60)
    running.stop(10)


def test_each_step_has_a_thread_of_its_own() -> None:
    """So that one that takes long holds up no other."""
    both = threading.Barrier(2)

    def step() -> float:
        both.wait(60)
        return 3600.0

    running = Loops({"one": step, "two": step})
    running.start()
    running.stop(10)
    assert not both.broken


def test_stopping_waits_for_no_step_for_ever() -> None:
    hung = threading.Event()

    def step() -> float:
        hung.wait(60)
        return 3600.0

    running = Loops({"hung": step})
    running.start()
    running.stop(0.01)
    hung.set()


def test_what_was_never_started_can_be_stopped() -> None:
    Loops({"step": lambda: 0.0}).stop(10)


def test_every_so_many_seconds() -> None:
    done: list[int] = []
    assert every(5.0, lambda: done.append(1))() == 5.0
    assert done == [1]


def test_errors_of_a_kind_are_logged_once_a_minute_and_those_of_the_database_without_a_traceback() -> (
    None
):
    clock = Clock()
    throttle = Throttle(loops.LOG_SECONDS, clock.monotonic)
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    away = OperationalError("INSERT secret", {}, full)
    with capture_logs() as logs:
        for _ in range(61):
            loops.log_failure("intake", away, throttle)
            loops.log_failure("sync", away, throttle)
            loops.log_failure("sync", ValueError("ours"), throttle)
            clock.advance(1)
    texts = [(line["step"], line.get("error"), "exc_info" in line) for line in logs]
    assert texts == 2 * [("intake", str(full), False), ("sync", None, True)]


def test_a_lease_that_could_not_be_renewed_is_one_line_and_no_fault_of_the_code() -> None:
    """As on a machine that is busy: the next step may find it renewed."""
    error = LeaseLostError("the lease could not be renewed in time, so another may lead")
    throttle = Throttle(60.0, Clock().monotonic)
    with capture_logs() as logs:
        log_failure("urgent", error, throttle)
        log_failure("bulk", error, throttle)
    assert logs == [
        {
            "event": "will try again", "log_level": "warning", "step": "urgent",
            "error": "the lease could not be renewed in time, so another may lead",
        }
    ]  # fmt: skip
