"""What Celery logs while the broker is away: once a minute, with a traceback only for errors of the code."""

import logging

import redis

from contract.runtime.outages import OutageFilter
from tests.fake_clock import Clock


def record(
    name: str, error: Exception, text: object = "Unrecoverable error: %r"
) -> logging.LogRecord:
    arguments = (error,) if isinstance(text, str) else None
    raised = (type(error), error, None)
    return logging.LogRecord(name, logging.CRITICAL, "", 0, text, arguments, raised)


def test_an_outage_has_a_line_a_minute_and_no_traceback() -> None:
    clock = Clock()
    outages = OutageFilter(clock.monotonic)
    passed = []
    for _ in range(120):
        given = record("celery.worker", redis.ReadOnlyError("read only replica"))
        if outages.filter(given):
            passed.append(given)
        clock.advance(1)
    assert len(passed) == 2
    assert "read only replica" in passed[0].getMessage()
    assert passed[0].exc_info is None


def test_our_own_lines_about_the_consumer_are_bounded_too() -> None:
    outages = OutageFilter(Clock().monotonic)
    lines = [
        record("contract.runtime.consumer", OSError("x"), {"event": "the consumer failed"})
        for _ in range(3)
    ]
    assert [outages.filter(line) for line in lines] == [True, False, False]


def test_an_error_of_the_code_keeps_its_traceback_and_other_loggers_are_left_alone() -> None:
    outages = OutageFilter(Clock().monotonic)
    ours = record("celery.worker", KeyError("ours"))
    assert outages.filter(ours)
    assert ours.exc_info is not None
    others = [record("controller.runs", redis.ConnectionError("x")) for _ in range(3)]
    assert all(outages.filter(other) and other.exc_info for other in others)
