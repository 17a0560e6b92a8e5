"""How much of the time the manager is asked."""

import pytest

from controller.swarm.budget import Budget
from tests.fake_clock import Clock


def spend(budget: Budget, clock: Clock, seconds: float) -> None:
    """Ask one question that takes so long."""
    budget.ask(lambda: clock.advance(seconds))
    assert budget.end_series() == pytest.approx(seconds)


@pytest.mark.parametrize(("share", "rest"), [(0.1, 18.0), (0.5, 2.0), (1.0, 0.0)])
def test_rest_makes_what_was_spent_the_share(share: float, rest: float) -> None:
    clock = Clock()
    budget = Budget(share, clock.monotonic)
    assert budget.wait_seconds() == 0
    spend(budget, clock, 2.0)
    assert budget.wait_seconds() == pytest.approx(rest)
    clock.advance(rest)
    assert budget.wait_seconds() == pytest.approx(0)


def test_what_is_between_two_questions_is_rest(clock: Clock) -> None:
    budget = Budget(0.5, clock.monotonic)
    budget.ask(lambda: clock.advance(1.0))
    clock.advance(1.0)
    budget.ask(lambda: clock.advance(1.0))
    assert budget.end_series() == 2.0
    assert budget.wait_seconds() == pytest.approx(2.0)


def test_what_was_saved_may_be_spent_without_rest(clock: Clock) -> None:
    budget = Budget(0.1, clock.monotonic, burst=1.0)
    for _ in range(5):
        assert budget.wait_seconds() == 0
        spend(budget, clock, 0.2)
    spend(budget, clock, 0.2)
    assert budget.wait_seconds() > 0
    clock.advance(3600)
    assert budget.wait_seconds() == 0


def test_the_bound_holds_in_the_long_run(clock: Clock) -> None:
    budget = Budget(0.1, clock.monotonic, burst=1.0)
    spent = 0.0
    for _ in range(500):
        clock.advance(budget.wait_seconds() + 0.01)
        spend(budget, clock, 0.5)
        spent += 0.5
    assert 0.08 < spent / clock.monotonic() <= 0.11
    assert budget.average_share() == pytest.approx(0.1, abs=0.02)


def test_a_question_that_fails_costs_nothing(clock: Clock) -> None:
    budget = Budget(0.1, clock.monotonic)

    def hang() -> None:
        clock.advance(15.0)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        budget.ask(hang)
    assert (budget.end_series(), budget.wait_seconds()) == (0, 0)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()
