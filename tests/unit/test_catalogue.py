"""The catalogue of `vxctl explain`: each entry's examples are its tests, and it is written as it says."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.explain.catalogue import CatalogueError, Entry, Kind, catalogue, load
from controller.explain.reading import read

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
ENTRIES, KINDS = catalogue().entries, catalogue().kinds
ALL: list[Entry | Kind] = [*ENTRIES, *KINDS]


def named(entry: Entry | Kind) -> str:
    return entry.id


def cases(kind: str) -> list[object]:
    return [
        pytest.param(entry, text, id=f"{entry.id}-{number}")
        for entry in ALL
        for number, text in enumerate(getattr(entry, kind))
    ]


def found(text: str) -> list[str]:
    return [each.about.id for each in read(text, NOW).findings]


@pytest.mark.parametrize(("entry", "text"), cases("examples"))
def test_an_example_is_recognised_as_nothing_else(entry: Entry | Kind, text: str) -> None:
    if isinstance(entry, Kind):
        assert catalogue().kind_of(text) is entry
    else:
        assert set(found(text)) == {entry.id}


@pytest.mark.parametrize(("entry", "text"), cases("near"))
def test_a_near_miss_is_not_recognised_as_it(entry: Entry | Kind, text: str) -> None:
    if isinstance(entry, Kind):
        assert catalogue().kind_of(text) is not entry
    else:
        assert entry.id not in found(text)


@pytest.mark.parametrize("entry", ALL, ids=named)
def test_an_entry_has_all_that_a_reader_needs(entry: Entry | Kind) -> None:
    assert entry.title[0].islower()
    assert not entry.title.endswith(".")
    assert entry.cause.endswith(".")
    assert entry.cure
    assert all(each.endswith(".") for each in entry.cure)
    assert all(each.startswith("https://") for each in entry.links)
    assert entry.examples
    assert "\n" not in entry.cause


@pytest.mark.parametrize("entry", ENTRIES, ids=named)
def test_a_fault_has_a_near_miss(entry: Entry) -> None:
    assert entry.near


@pytest.mark.parametrize("entry", ENTRIES, ids=named)
def test_an_example_is_recognised_however_a_terminal_wraps_it(entry: Entry) -> None:
    text = entry.examples[0]
    for width in (20, 33, 47, 60):
        wrapped = "\n".join(text[start : start + width] for start in range(0, len(text), width))
        assert entry.id in found(wrapped), wrapped
    assert entry.id in found(text.upper())
    assert entry.id in found(text.replace(" ", "\u00a0"))


FAULT = """
[[fault]]
id = "x"
title = "t"
cause = "c."
cure = ["d."]
patterns = ["PATTERN"]
examples = ["e"]
[[device]]
id = "y"
title = "t"
name = "."
cause = "c."
cure = ["d."]
examples = ["e"]
"""


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("one ... thing ... or another", "more than one"),
        ("too", "too short"),
        ("... {name}", "too short"),
    ],
)
def test_a_pattern_that_would_be_slow_or_mean_nothing_is_refused(
    pattern: str, problem: str
) -> None:
    with pytest.raises(CatalogueError, match=problem):
        load(FAULT.replace("PATTERN", pattern))


def test_an_entry_that_is_not_complete_or_not_unique_is_refused() -> None:
    good = FAULT.replace("PATTERN", "a long enough pattern")
    assert load(good).entries[0].id == "x"
    with pytest.raises(CatalogueError, match="'x'"):
        load(good.replace('title = "t"', "", 1))
    with pytest.raises(CatalogueError, match="same id"):
        load(good.replace('id = "y"', 'id = "x"'))


def test_the_catalogue_is_data_beside_the_code() -> None:
    assert (Path(__file__).parents[2] / "controller" / "explain" / "catalogue.toml").is_file()
