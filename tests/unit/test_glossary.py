"""Words that the glossary excludes do not come back: in names, help, errors, docstrings and documents."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AREAS = ("contract", "controller", "worker", "migrations")
MODULES = sorted(path for area in AREAS for path in (ROOT / area).rglob("*.py"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

NAMES = re.compile(
    r"(^|_)(places?|rings?|rung|doorbells?|lanes?|outstay\w*|anew|told|stor(y|ies)|custodians?|moments?"
    r"|MOST|LEAST)(_|$)|^_?(each|its)(_|$)"
    r"|Place|Doorbell|Lane|Custodian|Story|Stories|Moment"
)
"""In identifiers; `each` and `its` at their beginning stand for a noun."""

PHRASES = re.compile(
    r"\b(doorbells?|lanes?|outstay\w*|anew|whoever|custodians?|so\s+often|carr(y|ies|ying)\s+nothing)\b",
    re.IGNORECASE,
)
"""In comments, strings (help, errors, docstrings) and documents."""


def names_of(text: str) -> Iterator[tuple[int, str]]:
    """Line numbers and identifiers of a module."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME:
            yield token.start[0], token.string


def phrases_of(text: str) -> Iterator[tuple[int, str]]:
    """Line numbers and excluded phrases of a text; a phrase may be broken across two lines."""
    joined = re.sub(r"\n[#\s]*", lambda gap: " " * len(gap[0]), text)
    for found in PHRASES.finditer(joined):
        yield text[: found.start()].count("\n") + 1, " ".join(found[0].split())


@pytest.mark.parametrize("area", AREAS)
def test_no_name_is_an_excluded_word(area: str) -> None:
    used = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in MODULES
        if path.is_relative_to(ROOT / area)
        for line, name in names_of(path.read_text())
        if NAMES.search(name)
    ]
    assert used == []


@pytest.mark.parametrize("area", AREAS)
def test_no_text_of_the_code_has_an_excluded_phrase(area: str) -> None:
    used = [
        f"{path.relative_to(ROOT)}:{line}: {phrase}"
        for path in MODULES
        if path.is_relative_to(ROOT / area)
        for line, phrase in phrases_of(path.read_text())
    ]
    assert used == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_document_has_an_excluded_phrase(document: Path) -> None:
    text = document.read_text()
    if document.name == "glossary.md":
        text = text.partition("\n## Not used\n")[0]
    assert [f"{line}: {phrase}" for line, phrase in phrases_of(text)] == []


@pytest.mark.parametrize(
    ("name", "excluded"),
    [
        ("_MOST_ROWS", True),
        ("each", True),
        ("its_kind", True),
        ("_is_on_its_port", False),
        ("DoorbellRing", True),
        ("string", False),
        ("history", False),
        ("replace", False),
        ("planes", False),
        ("reached", False),
    ],
)
def test_only_whole_words_of_a_name_count(name: str, excluded: bool) -> None:
    assert bool(NAMES.search(name)) is excluded


def test_a_phrase_is_found_across_a_line_break() -> None:
    text = "One line.\n    # A device that carries\n    # nothing here."
    assert [*phrases_of(text)] == [(2, "carries nothing")]


def test_every_word_of_the_glossary_has_one_row() -> None:
    used, not_used = (ROOT / "docs" / "glossary.md").read_text().split("\n## Not used\n")
    rows = [line.split("|")[1] for line in used.splitlines() if re.match(r"\| (?!word|---)", line)]
    words = [word.strip() for row in rows for word in row.split(",")]
    assert len(words) == len(set(words))
    assert "netns" in words
    excluded = re.findall(r"^\| ([^|]+) \|", not_used, re.MULTILINE)
    assert not set(words) & {word.strip() for row in excluded for word in row.split(",")}
