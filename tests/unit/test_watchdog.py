"""When a worker says Hello, and when it leaves that to the self-test."""

from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from tests.servers import await_true
from worker.watchdog import Watchdog

SILENCE = 60.0


class Worker:
    """A worker's ears and mouth, on a clock that goes on when told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.alive = True
        self.broker = True
        self.hellos: list[tuple[float, str]] = []
        self.restarts = 0
        self.watchdog = Watchdog(
            silence=SILENCE,
            ping=self._ping,
            hello=lambda reason: self.hellos.append((self.now, reason)),
            hung=self._hung,
            clock=lambda: self.now,
        )

    def _ping(self) -> None:
        if not self.broker:
            raise ConnectionError
        if self.alive:
            with self.watchdog.task():
                pass

    def _hung(self, _reason: str) -> None:
        self.restarts += 1

    def ask(self, next_within: float) -> None:
        """Get a request."""
        with self.watchdog.task():
            self.watchdog.asked(next_within)

    def live(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self.now < end:
            left = self.watchdog.step()
            assert left > 0, "it would be asked without a pause"
            self.now = min(self.now + left, end)


def test_while_requests_come_it_says_nothing() -> None:
    worker = Worker()
    for _ in range(100):
        worker.ask(next_within=130.0)
        worker.live(100)
    assert worker.hellos == []


@pytest.mark.parametrize(("promised", "silent"), [(130.0, 130.0), (10.0, 10.0)])
def test_a_request_that_is_overdue_leads_to_a_hello(promised: float, silent: float) -> None:
    worker = Worker()
    worker.ask(promised)
    worker.live(silent)
    assert worker.hellos == []
    worker.live(SILENCE / 4 + 1)
    ((at, reason),) = worker.hellos
    assert at == pytest.approx(silent, abs=SILENCE / 4 + 1)
    assert reason == f"no request has come for {at:.0f} s"


def test_a_controller_that_is_away_hears_ever_fewer_hellos() -> None:
    worker = Worker()
    worker.live(24 * 3600)
    times = [at for at, _ in worker.hellos]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses[:4] == pytest.approx([60, 120, 240, 480], abs=SILENCE)
    assert all(pause >= 600 for pause in pauses[5:])
    assert len(times) <= 24 * 6 + 5
    assert worker.restarts == 0, "its consumer lives"


def test_a_request_makes_it_patient_again() -> None:
    worker = Worker()
    worker.live(3600)
    worker.hellos.clear()
    asked_at = worker.now
    worker.ask(next_within=130.0)
    worker.live(130 + 2 * SILENCE)
    assert [at - asked_at for at, _ in worker.hellos] == pytest.approx([130, 190], abs=SILENCE / 4)


def test_a_consumer_that_hangs_is_no_reason_for_a_hello() -> None:
    worker = Worker()
    worker.alive = False
    worker.live(SILENCE * 1.5 + 1)
    assert worker.hellos == []
    assert worker.restarts == 1


def test_without_a_broker_it_does_nothing_and_then_says_one_hello() -> None:
    worker = Worker()
    worker.broker = False
    worker.live(3600)
    assert worker.hellos == []
    worker.broker = True
    worker.live(SILENCE / 2)
    assert len(worker.hellos) == 1
    assert worker.restarts == 0


def test_the_thread_says_hello_at_the_start_and_survives_its_own_faults() -> None:
    said: list[str] = []

    def hello(reason: str) -> None:
        said.append(reason)
        if len(said) > 1:
            raise RuntimeError("a fault")

    def answered() -> None:
        with watchdog.task():
            pass

    watchdog = Watchdog(silence=0.04, ping=answered, hello=hello, hung=lambda *_: None)
    with capture_logs() as logs:
        with watchdog.task():
            watchdog.asked(0.01)
        watchdog.start()
        await_true(lambda: logs, "it has failed")
        watchdog.stop()
    assert said[0] == "the worker has started"
    assert logs[0]["event"] == "the watchdog failed, going on"
    assert not watchdog._thread.is_alive()


def test_one_that_was_never_started_can_be_stopped() -> None:
    Worker().watchdog.stop()
