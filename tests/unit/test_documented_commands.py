"""Every command of ours that a document shows is one, with options that it has; docs/cli.md is the list."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
REFERENCE: Final = ROOT / "docs" / "cli.md"
DOCUMENTS: Final = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]


@cache
def _options() -> dict[str, set[str]]:
    """The options of each command, by the headings of docs/cli.md."""
    sections = re.split(r"^## ", REFERENCE.read_text(), flags=re.MULTILINE)[1:]
    every = sections[1]
    found = {}
    for section in sections[2:]:
        name, _, text = section.partition("\n")
        found[name] = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))
        for short in re.findall(r"^\* `(-\w), (--[a-z-]+)", every, re.MULTILINE):
            if found[name] & {*short}:
                found[name] |= {*short}
    return found


def _commands(text: str) -> Iterator[str]:
    """Commands in a Markdown text: in `code`, and in lines of a console after a prompt."""
    blocks = re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL)
    inline = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`((?:vxctl|vxlan-worker)\s[^`]*)`", inline)
    for block in blocks:
        yield from re.findall(
            r"^(?:\w*# |\$ )(?:sudo )?((?:vxctl|vxlan-worker) .*)", block, re.MULTILINE
        )


def _fault(command: str) -> str | None:
    """What is wrong with a command; None: nothing."""
    words = re.split(r"\s[|<>#;&]|\.\.\.|\)", " ".join(command.split()))[0].split()
    paths = [[words[0]]]
    for word in words[1:]:
        longer = [[*path, each] for path in paths for each in word.split("|")]
        known = [path for path in longer if " ".join(path) in _options()]
        if not known:
            break
        if len(known) < len(longer):
            return f"no such command: {word}"
        paths = known
    for path in paths:
        name = " ".join(path)
        verbs = [other for other in _options() if other.startswith(f"{name} ")]
        rest = words[len(path) :]
        if name in {"vxctl", "vxctl get"} and rest and not rest[0].startswith("-"):
            return f"no such command: {rest[0]}"
        # `vxctl get -o wide` stands for its verbs, too.
        allowed = set[str]().union(*(_options()[each] for each in (name, *verbs)))
        for word in rest:
            option = word.partition("=")[0]
            if re.match(r"--?[a-z]", option) and option not in allowed:
                return f"{name} has no option {option}"
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_in_a_document_exists(document: Path) -> None:
    faults = [(each, _fault(each)) for each in _commands(document.read_text())]
    assert [row for row in faults if row[1]] == []


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        ("vxctl status -o json", None),
        ("vxctl get nodes|devices -o wide", None),
        ("vxctl audit --node NODE --stage paused | wc -l", None),
        ("vxlan-worker scan --fix  # removes", None),
        ("vxctl state", "no such command: state"),
        ("vxctl get nodes|volumes", "no such command: nodes|volumes"),
        ("vxctl get volumes", "no such command: volumes"),
        ("vxctl pause NODE --till 2h", "vxctl pause has no option --till"),
        ("vxctl keys rotate --finnish", "vxctl keys rotate has no option --finnish"),
        ("vxlan-worker scan --fox", "vxlan-worker scan has no option --fox"),
    ],
)
def test_a_command_that_does_not_exist_is_found(command: str, fault: str | None) -> None:
    assert _fault(command) == fault
