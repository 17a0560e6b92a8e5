"""What asks the database stands aside for urgent work, and never with what that may need."""

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import text

from controller import gate
from controller.database import AT_ONCE, Database


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stands aside does so for long, but no longer than the test."""
    monkeypatch.setattr(gate, "_until", 0.0)
    monkeypatch.setattr(gate, "_LONGEST_SECONDS", 60.0)


def bulk(work: Callable[[], object]) -> threading.Thread:
    """Somebody who does this now, in bulk."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def ends(thread: threading.Thread, seconds: float = 5.0) -> bool:
    """Whether somebody has ended after so long."""
    thread.join(seconds)
    return not thread.is_alive()


def test_a_transaction_waits_before_it_begins(database: Database) -> None:
    def write() -> None:
        with database.write() as session:
            session.execute(text("SELECT 1"))

    with gate.urgent():
        thread = bulk(write)
        assert not ends(thread, 0.1)
        write()  # This thread is the urgent one.
    assert ends(thread)


def test_each_question_to_postgresql_waits(postgresql: Database) -> None:
    begun, urgent = threading.Event(), threading.Event()

    def write() -> None:
        with postgresql.write() as session:
            session.execute(text("SELECT 1"))
            begun.set()
            urgent.wait(5)
            session.execute(text("SELECT 1"))

    thread = bulk(write)
    assert begun.wait(5)
    with gate.urgent():
        urgent.set()
        assert not ends(thread, 0.1)
    assert ends(thread)


def test_a_statement_for_which_others_wait_goes_on(postgresql: Database) -> None:
    with postgresql.engine.connect() as connection:
        at_once = text("SELECT 1").execution_options(**{AT_ONCE: True})
        with gate.urgent():
            assert ends(bulk(lambda: connection.execute(at_once)))
            thread = bulk(lambda: connection.execute(text("SELECT 1")))
            assert not ends(thread, 0.1)
        assert ends(thread)


def test_the_one_writer_of_sqlite_goes_on(sqlite: Database) -> None:
    """Urgent work has to write too: it would wait for one that waits for it."""
    begun, urgent = threading.Event(), threading.Event()

    def write() -> None:
        with sqlite.write() as session:
            session.execute(text("SELECT 1"))
            begun.set()
            urgent.wait(5)
            gate.stand_aside()
            session.execute(text("SELECT 1"))

    thread = bulk(write)
    assert begun.wait(5)
    with gate.urgent():
        urgent.set()
        with sqlite.write() as session:
            session.execute(text("SELECT 1"))
        assert ends(thread)
