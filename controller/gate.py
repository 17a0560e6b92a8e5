"""Urgent work first, in this process: what is done in bulk stands aside while a person waits.

Python runs one thread at a time, and each that wants to run waits until another lets go of the
interpreter. Sending and taking in thousands of runs keeps three threads busy, and something urgent, which
asks the database some thirty questions, would wait for them after each.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_LONGEST_SECONDS: Final = 0.05
"""What is urgent takes some milliseconds; whoever stands aside goes on after this in any case."""

_lock = threading.Lock()
_clear = threading.Event()
_clear.set()
_at_work = 0


@contextmanager
def urgent() -> Iterator[None]:
    """Around work that somebody waits for."""
    global _at_work
    with _lock:
        _at_work += 1
        _clear.clear()
    try:
        yield
    finally:
        with _lock:
            _at_work -= 1
            if not _at_work:
                _clear.set()


def stand_aside() -> None:
    """Between small pieces of work that nobody waits for: let what is urgent go first."""
    if not _clear.is_set():
        _clear.wait(_LONGEST_SECONDS)
