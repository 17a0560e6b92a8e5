"""What waits at its start, and how often it says so."""

import os

import pytest
import structlog

from contract.runtime import startup
from contract.runtime.startup import UnavailableError, until_available, waits_at_start


@pytest.mark.parametrize(
    ("variable", "terminal", "waits"),
    [
        (str(os.getpid()), False, True),
        (str(os.getpid()), True, False),
        (str(os.getpid() + 1), False, False),
        (None, False, False),
    ],
    ids=["unit of systemd", "on a terminal", "started by a unit's process", "by hand"],
)
def test_only_a_service_waits_by_itself(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, terminal: bool, waits: bool
) -> None:
    monkeypatch.delenv("SYSTEMD_EXEC_PID", raising=False)
    if variable is not None:
        monkeypatch.setenv("SYSTEMD_EXEC_PID", variable)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    assert waits_at_start("auto") is waits
    assert waits_at_start("true")
    assert not waits_at_start("false")


def test_the_first_process_of_a_container_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    assert waits_at_start("auto")


def test_it_says_so_once_a_minute_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(startup, "_end_by_signal", lambda: None)
    told: list[str] = []

    def attempt() -> str:
        if now[0] < 130:
            raise UnavailableError("no broker", "start Redis")
        return "broker"

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with structlog.testing.capture_logs() as logs:
        found = until_available(
            attempt,
            waits=True,
            tell=lambda error: told.append(error.problem),
            sleep=sleep,
            clock=lambda: now[0],
        )
    assert found == "broker"
    assert len(told) == 65
    assert [line["event"] for line in logs] == ["waiting to start"] * 3 + [
        "going on with the start"
    ]


def test_without_waiting_the_first_failure_is_an_error() -> None:
    def attempt() -> None:
        raise UnavailableError("no broker", "start Redis")

    with pytest.raises(UnavailableError):
        until_available(attempt, waits=False)
