"""docs/guarantees.md: every promise names a test, and every test that it names exists."""

import re
from pathlib import Path

import pytest

from tests.named_tests import names_in

PAGE = (Path(__file__).parents[2] / "docs" / "guarantees.md").read_text()
NAMED = re.findall(r"`(\w+)/(test_\w+)::(test_\w+)`", PAGE)
PROMISES = [line for line in PAGE.splitlines() if re.match(r"\| (?!promise |---)", line)]


@pytest.mark.parametrize(("folder", "module", "name"), NAMED)
def test_a_test_that_proves_a_promise_exists(folder: str, module: str, name: str) -> None:
    assert name in names_in(folder, module)


def test_every_promise_has_a_test_and_is_made_once() -> None:
    assert len(PROMISES) >= 30
    assert [row for row in PROMISES if "::test_" not in row] == []
    assert len(PROMISES) == len({row.split("|")[1] for row in PROMISES})
