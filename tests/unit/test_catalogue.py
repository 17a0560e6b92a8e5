"""The catalogue of `vxctl explain`: each entry's examples are its tests, and it is written as it says."""

import re
import shlex
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
        assert catalogue().kind_of(text, up=entry.up) is entry
    else:
        assert set(found(text)) == {entry.id}


@pytest.mark.parametrize(("entry", "text"), cases("near"))
def test_a_near_miss_is_not_recognised_as_it(entry: Entry | Kind, text: str) -> None:
    if isinstance(entry, Kind):
        assert catalogue().kind_of(text, up=entry.up) is not entry
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


PLACEHOLDERS = {
    "NODE",
    "SERVICE",
    "NETWORK",
    "DEVICE",
    "SANDBOX",
    "KERNEL",
    "LEADER",
    "ID",
    "ENDPOINT",
}


@pytest.mark.parametrize("entry", ALL, ids=named)
def test_a_command_of_a_cure_can_be_typed_as_it_stands(entry: Entry | Kind) -> None:
    for command in re.findall(r"`([^`]+)`", " ".join(entry.cure)):
        assert "..." not in command or command.startswith("vx-"), command
        words = shlex.split(command)
        assert words
        unknown = (
            set(re.findall(r"\b[A-Z]{2,}\b", re.sub(r"\{\{.*?\}\}", "", command))) - PLACEHOLDERS
        )
        assert not unknown - {"UP", "DOWN"}, command
        # An option that wants a value has one: `docker swarm init --data-path-port` is refused.
        if len(words) > 2 and words[-1].startswith("--"):
            assert words[-1] in ("--fix", "--force", "--attachable", "--ingress"), command


def test_a_link_is_there_for_each_fault_and_leads_to_a_page_that_exists_by_its_form() -> None:
    for entry in ENTRIES:
        assert entry.links or entry.id == "probe", entry.id
        for link in entry.links:
            assert re.fullmatch(
                r"https://(?:github\.com/[\w.-]+/[\w.-]+/(?:issues|pull)/[0-9]+|docs\.docker\.com/[\w/#-]+)",
                link,
            ), link
