"""Lines that people pasted in public are taken for what they are: see tests/field_lines.toml."""

from datetime import UTC, datetime

import pytest

from controller.explain.reading import read
from tests.field_lines import LINES, Line

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.mark.parametrize("line", LINES, ids=str)
def test_the_fault_of_a_line(line: Line) -> None:
    found = read(line.text, NOW).findings
    assert list(dict.fromkeys(each.about.id for each in found)) == list(line.fault)
    assert all(each.certain is line.certain for each in found)
