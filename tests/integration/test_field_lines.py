"""Whom the lines of tests/field_lines.toml, which people pasted in public, are about."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from contract.verdicts import Mode
from controller.api.answers.explain import ExplanationAnswer
from controller.db.engine import Database
from controller.views.explain import explain
from controller.views.outlook import Situation
from tests.fake_clock import START
from tests.fake_swarm import INGRESS, MAIL, SHOP, node, snapshot, task
from tests.field_lines import LINES, Line
from tests.stored import put, wipe

SWARM = snapshot(
    *map(node, ("one", "two", "server", "ALPHA-Box1", "ip-10-4.eu.example")),
    networks=[INGRESS, SHOP, MAIL],
    tasks=[task("t1", "two", "shop")],
)
SITUATION = Situation(START + timedelta(seconds=30), Mode.ENFORCE, timedelta(minutes=3))


@pytest.fixture(scope="module")
def session(shared_sqlite: Database) -> Iterator[Session]:
    """A database with the nodes and networks that the lines name."""
    wipe(shared_sqlite)
    put(shared_sqlite, SWARM)
    with shared_sqlite.read() as session:
        yield session


@pytest.mark.parametrize("line", LINES, ids=str)
def test_whom_a_line_is_about(session: Session, line: Line) -> None:
    answer = ExplanationAnswer.of(explain(session, line.text, SITUATION))
    assert [each.name for each in answer.nodes] == ([line.node] if line.node else [])
    assert [each.name for each in answer.networks] == ([line.network] if line.network else [])
    if line.fault:
        assert answer.recognised
