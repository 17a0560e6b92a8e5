"""docs/explain.md has the catalogue as it is."""

from controller.cli.explain import MAX_BYTES
from controller.explain.reading import MAX_GROUPS
from controller.explain.text import MAX_TEXT
from tests.explain_page import MARK, PAGE, section


def test_the_page_is_that_of_the_catalogue() -> None:
    _, _, made = PAGE.read_text().partition(f"{MARK}\n\n")
    assert made == section(), "python -m tests.explain_page writes it anew"


def test_the_limits_are_those_of_the_code() -> None:
    assert (MAX_BYTES, MAX_TEXT, MAX_GROUPS) == (32 * 2**20, 2**20, 50)
    text = PAGE.read_text()
    assert "At most 32 MiB are read" in text
    assert "over 1 MiB" in text
    assert "at most fifty different findings" in " ".join(text.split())
