"""Writers of one SQLite database in one process: each gets its turn."""

import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from controller.db import engine
from controller.db.engine import Database

WRITES = 10


def test_a_writer_does_not_starve_beside_one_that_writes_all_the_time(sqlite: Database) -> None:
    """SQLite's own polling finds a gap of 0.2 ms in 50 once in hundreds of the other's writes."""
    stopping, begun = threading.Event(), threading.Event()
    batches = 0

    def write_all_the_time() -> None:
        nonlocal batches
        while not stopping.wait(0.0002):
            with sqlite.write() as session:
                session.execute(text("SELECT 1"))
                begun.set()
                time.sleep(0.05)
            batches += 1

    thread = threading.Thread(target=write_all_the_time)
    thread.start()
    try:
        for _ in range(WRITES):
            begun.clear()
            assert begun.wait(10)
            with sqlite.write() as session:
                session.execute(text("SELECT 1"))
    finally:
        stopping.set()
        thread.join(10)
    assert batches <= 5 * WRITES


def test_a_transaction_within_another_of_the_same_thread_is_an_error_and_no_deadlock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LOCK_SECONDS", 0.1)
    with closing(engine.open_database(f"sqlite:///{tmp_path}/controller.db")) as database:
        with database.write() as outer:
            outer.execute(text("SELECT 1"))
            with pytest.raises(OperationalError, match="locked"), database.write() as inner:
                inner.execute(text("SELECT 1"))
        with database.write() as session:
            session.execute(text("SELECT 1"))
