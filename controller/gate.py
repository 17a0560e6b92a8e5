"""Urgent work first, in this process: all else stands aside while a person waits.

Python runs one thread at a time, and each that wants to run waits until another lets go of the
interpreter. Sending and taking in thousands of runs keeps three threads busy, and something urgent would
wait for them after each of its questions to the database. So these threads stand aside between small pieces
of work: before each question to the database (`database` sees to that), and in their longer loops.

Whoever holds what urgent work may need (the one writer's lock of SQLite, the end of the audit trail) goes on.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_MAX_SECONDS: Final = 0.05
"""What is urgent takes some milliseconds; so long after it has begun all others go on in any case."""

LATELY_SECONDS: Final = 2.0
"""Who asks for something often asks for more."""

_lock = threading.Lock()
_clear = threading.Event()
_clear.set()
_at_work = 0
_until = -LATELY_SECONDS
_goes_on: ContextVar[bool] = ContextVar("goes_on", default=False)


@contextmanager
def urgent() -> Iterator[None]:
    """Around work that somebody waits for, in a thread or a coroutine and what these call."""
    global _at_work, _until
    with _lock:
        _at_work += 1
        _until = time.monotonic() + _MAX_SECONDS
        _clear.clear()
    try:
        with going_on():
            yield
    finally:
        with _lock:
            _at_work -= 1
            if not _at_work:
                _clear.set()


def pieces(many: int) -> int:
    """How many to take on together: so many, or fewer while somebody is at work who waits for each answer.

    Many together cost less; but what is begun is ended before anybody stands aside.
    """
    return many if time.monotonic() > _until + LATELY_SECONDS else max(1, many // 3)


@contextmanager
def going_on() -> Iterator[None]:
    """Around what others wait for: it does not stand aside."""
    token = _goes_on.set(True)
    try:
        yield
    finally:
        _goes_on.reset(token)


def stand_aside() -> None:
    """Between small pieces of work: let what is urgent go first."""
    if _clear.is_set() or _goes_on.get():
        return
    left = _until - time.monotonic()
    if left > 0:
        _clear.wait(left)
