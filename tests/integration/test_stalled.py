"""A process that stalls within a transaction, until PostgreSQL ends it: a clear answer, and it goes on."""

from collections.abc import Callable

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import InternalError
from sqlalchemy.orm import Session

from contract.verdicts import Mode
from controller.audit.queries import pages
from controller.db.engine import Database, is_away
from controller.db.models import Node
from tests.api_client import TestClient, assert_problem, shared_app
from tests.servers import await_true
from tests.stored import put


def stall(session: Session) -> None:
    """Do nothing until the server has ended this session, which it does after 50 ms."""
    own = session.scalar(text("SELECT pg_backend_pid()"))
    session.execute(text("SET idle_in_transaction_session_timeout = '50ms'"))
    alive = text("SELECT 1 FROM pg_stat_activity WHERE pid = :pid")

    def ended() -> bool:
        with session.get_bind().connect() as other:  # type: ignore[union-attr]
            return other.scalar(alive, {"pid": own}) is None

    await_true(ended, "the server has ended the session")


def ask(session: Session) -> None:
    session.scalars(select(Node)).all()


@pytest.mark.parametrize("then", [ask, lambda _: None], ids=["a statement", "its end"])
@pytest.mark.parametrize("kind", [Database.write, Database.read], ids=["writing", "reading"])
def test_a_transaction_that_stalled_may_be_tried_again(
    postgresql: Database, kind: Callable[[Database], object], then: Callable[[Session], None]
) -> None:
    def stalled() -> None:
        with kind(postgresql) as session:  # type: ignore[attr-defined]
            stall(session)
            then(session)

    with pytest.raises(InternalError, match="idle-in-transaction") as caught:
        stalled()
    assert is_away(caught.value)
    with postgresql.write() as session:
        ask(session)


def test_a_request_that_stalled_is_answered_with_503_and_the_next_one_is_served(
    postgresql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(postgresql)
    client = TestClient(shared_app(postgresql, Mode.OBSERVE), raise_server_exceptions=False)
    with monkeypatch.context() as patched:
        patched.setattr(pages, "newest", stall)
        assert_problem(client.get("/api/v1/audit"), 503, "idle-in-transaction timeout")
    assert client.get("/api/v1/audit").json()["items"] == []
