"""The table of attacks in docs/security.md: every test that it names exists."""

import re
from pathlib import Path

import pytest

from tests.named_tests import names_in

TESTS = Path(__file__).parents[1]
TABLE = (
    (TESTS.parent / "docs" / "security.md")
    .read_text()
    .partition("\n## Attacks, and what comes of each\n")[2]
)
NAMED = re.findall(r"`(unit/)?(test_\w+)::(test_\w+)`", TABLE)


@pytest.mark.parametrize(("unit", "module", "name"), NAMED)
def test_a_test_of_the_table_exists(unit: str, module: str, name: str) -> None:
    assert name in names_in("unit" if unit else "integration", module)


def test_every_attack_of_the_table_has_a_test() -> None:
    rows = [line for line in TABLE.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 25
    assert [row for row in rows if "::test_" not in row] == []
