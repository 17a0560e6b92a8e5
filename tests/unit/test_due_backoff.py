"""How long a node rests after failures: doubling from a second, never longer than two minutes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.workqueue.queue import MAX_BACKOFF, backoff


@pytest.mark.parametrize(
    ("failures", "longest"),
    [(1, 1), (2, 2), (3, 4), (7, 64), (8, 120), (9, 120), (1_000_000, 120)],
)
def test_it_doubles_up_to_the_cap_with_jitter_downwards(failures: int, longest: int) -> None:
    seconds = [backoff(failures).total_seconds() for _ in range(300)]
    assert longest / 2 <= min(seconds) < longest * 0.6
    assert longest * 0.9 < max(seconds) <= longest


@given(st.integers(min_value=1, max_value=10**9))
def test_it_is_never_nothing_and_never_more_than_the_cap(failures: int) -> None:
    assert backoff(failures).total_seconds() >= 0.5
    assert backoff(failures) <= MAX_BACKOFF
