"""The catalogue of faults and devices: `catalogue.toml`, checked and compiled. Pure.

A pattern is a text, compared without regard to case, spaces and line wraps, with these placeholders:
`{subnet}` (10.0.2.0/24), `{name}` (up to 128 characters without a space), `{number}`, `{id}` (a network's or
task's), and at most one `...` (up to 200 characters of one line). So no pattern can be slow.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Final, NamedTuple, TypeVar

from controller.explain.text import squeezed

_PLACEHOLDERS: Final[Mapping[str, str]] = {
    "...": r"[^\n]{0,200}?",
    "{subnet}": r"""["']{0,3}(?P<subnet>[0-9a-f.:\n]{2,50}/\n?[0-9]\n?[0-9]{0,2})["']{0,3}""",
    "{name}": r"""["']{0,3}[^ \t"']{1,128}["']{0,3}""",
    "{number}": r"[0-9]{1,12}",
    "{id}": r"(?:[0-9a-z]\n?){25}",
}
_SPLIT: Final = re.compile(r"(\.\.\.|\{subnet\}|\{name\}|\{number\}|\{id\})")
_MAX_MATCHES: Final = 50
"""Of a pattern in a record."""


Made = TypeVar("Made", "Entry", "Kind")


class CatalogueError(Exception):
    """An entry of the catalogue is wrong."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern, as a regular expression and as the texts that it cannot do without."""

    text: str
    needed: tuple[str, ...]
    """Without spaces, in lower case."""
    regex: re.Pattern[str]

    @classmethod
    def of(cls, text: str) -> "Pattern":
        if text.count("...") > 1:
            raise CatalogueError(f"pattern {text!r} has more than one `...`")
        parts = _SPLIT.split(" ".join(text.split()))
        needed = tuple(squeezed(part) for part in parts[::2] if part.strip())
        if sum(map(len, needed)) < 8:
            raise CatalogueError(f"pattern {text!r} is too short to mean anything")
        regex = "".join(
            _PLACEHOLDERS[part] if index % 2 else _tolerant(part)
            for index, part in enumerate(parts)
        )
        return cls(text, needed, re.compile(regex, re.IGNORECASE))

    def is_possible(self, squeezed_text: str) -> bool:
        """Whether a text has what the pattern cannot do without."""
        return all(part in squeezed_text for part in self.needed)


def _tolerant(literal: str) -> str:
    """Return a regular expression for a text that a terminal may have wrapped anywhere."""
    return "".join(
        r"[ \n]{0,3}" if character == " " else re.escape(character) + r"\n?"
        for character in literal
    )


@dataclass(frozen=True, slots=True)
class Entry:
    """A fault, as the catalogue describes it.

    Attributes:
        id: what programs compare, and the anchor in docs/explain.md.
        title: what happened, in a few words.
        cause: why.
        cure: what to do, each a sentence, the first things first; `NODE`, `SERVICE`, `NETWORK`, `DEVICE`
            and `SANDBOX` (the file of a network's netns) stand for names.
        links: pages about it.
        patterns: texts by which it is recognised.
        whole: complete messages, by which one that was cut off is recognised; the less usual ones only
            by their beginning.
        leak: whether a device with the VNI of a network is in the way, or may be: the nodes' devices
            are looked at.
        normal: whether it happens on a healthy node, too: it is told only if the text has no fault.
        examples, near: texts that are and are not this fault; the tests try each.
    """

    id: str
    title: str
    cause: str
    cure: Sequence[str]
    patterns: Sequence[Pattern]
    examples: Sequence[str]
    near: Sequence[str] = ()
    links: Sequence[str] = ()
    whole: Sequence[str] = ()
    leak: bool = False
    normal: bool = False

    @property
    def words(self) -> frozenset[str]:
        """The words of its messages, which name no node and no network."""
        return _words_of(tuple(pattern.text for pattern in self.patterns))


@cache
def _words_of(texts: Sequence[str]) -> frozenset[str]:
    return frozenset(re.findall(r"[0-9a-z_.-]+", " ".join(texts).lower()))


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of device, by its name; the attributes are those of `Entry`.

    Attributes:
        up: True: only a device that a line of `ip link` shows UP.
    """

    id: str
    title: str
    cause: str
    cure: Sequence[str]
    name: re.Pattern[str]
    examples: Sequence[str]
    near: Sequence[str] = ()
    links: Sequence[str] = ()
    leak: bool = False
    up: bool = False


class Match(NamedTuple):
    """Where a record has a fault: from `start` to `end`; `subnet` as the message has it."""

    entry: Entry
    start: int
    end: int
    subnet: str | None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All faults and kinds of devices, in the order of the file."""

    entries: Sequence[Entry]
    kinds: Sequence[Kind]
    by_id: Mapping[str, Entry | Kind] = field(repr=False)

    def possible(self, squeezed_text: str) -> list[tuple[Entry, Pattern]]:
        """Return the patterns that a text may have."""
        return [
            (entry, pattern)
            for entry in self.entries
            for pattern in entry.patterns
            if pattern.is_possible(squeezed_text)
        ]

    @staticmethod
    def matches(
        possible: Iterable[tuple[Entry, Pattern]], text: str, squeezed_text: str
    ) -> list[Match]:
        """Return the faults in a record, by position; of two at one place the longer counts."""
        found = [
            Match(entry, *item.span(), item.groupdict().get("subnet"))
            for entry, pattern in possible
            if pattern.is_possible(squeezed_text)
            for item in _some(pattern.regex, text)
        ]
        found.sort(key=lambda match: match.start - match.end)
        kept: list[Match] = []
        for match in found[: 4 * _MAX_MATCHES]:
            if all(match.end <= other.start or match.start >= other.end for other in kept):
                kept.append(match)
        return sorted(kept, key=lambda match: match.start)

    def kind_of(self, device: str, *, up: bool = False) -> Kind:
        """Return the kind of a device with this name; the last kind of the file has any name."""
        return next(
            kind for kind in self.kinds if kind.name.fullmatch(device) and (up or not kind.up)
        )


def _some(regex: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    for _, match in zip(range(_MAX_MATCHES), regex.finditer(text), strict=False):
        yield match


def load(text: str) -> Catalogue:
    """Read a catalogue.

    Raises:
        CatalogueError: an entry is not complete, or not unique.
    """
    raw = tomllib.loads(text)
    entries = [
        _checked(Entry, {**item, "patterns": [Pattern.of(text) for text in item["patterns"]]})
        for item in raw["fault"]
    ]
    kinds = [_checked(Kind, {**item, "name": re.compile(item["name"])}) for item in raw["device"]]
    everything: list[Entry | Kind] = [*entries, *kinds]
    by_id = {item.id: item for item in everything}
    if len(by_id) < len(entries) + len(kinds):
        raise CatalogueError("two entries have the same id")
    return Catalogue(entries, kinds, by_id)


def _checked(made: type[Made], values: Mapping[str, Any]) -> Made:
    try:
        return made(**values)
    except TypeError as error:
        raise CatalogueError(f"entry {values.get('id')!r}: {error}") from error


@cache
def catalogue() -> Catalogue:
    """Return the catalogue of this version."""
    return load(files("controller.explain").joinpath("catalogue.toml").read_text("utf-8"))
