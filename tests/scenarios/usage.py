"""A command's usage line, and reading the words of a scenario by it.

The usage line is the one source: the reader follows it, and README.md repeats it (a test compares them).

    swarm task NAME of=NETWORKS on=NODE STATE [ERROR] [desired=STATE] [attached]

Words in lower case before the first argument are the command's name. `NAME` is an argument, `of=NETWORKS` an
option that must be given; in brackets both may be left out. `[attached]` is a flag.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from tests.scenarios.errors import ScenarioError

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"([+-]?[0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a line gives to its command; asking for what the usage line does not have is a KeyError."""

    values: Mapping[str, str | None]
    rest: Sequence[str] = ()

    def __getitem__(self, name: str) -> str:
        """An argument or option that must have been given."""
        value = self.values[name]
        if value is None:
            raise ScenarioError(f"{name} is missing")
        return value

    def get(self, name: str) -> str | None:
        """An argument or option; None: it was not given."""
        return self.values[name]

    def flag(self, name: str) -> bool:
        """Whether a flag was given."""
        return self.values[name] is not None

    def number(self, name: str) -> int | None:
        """An option that is a whole number."""
        value = self.values[name]
        if value is not None and not re.fullmatch("[0-9]+", value):
            raise ScenarioError(f"{name}={value}: a whole number is expected")
        return None if value is None else int(value)

    def whole(self, name: str) -> int:
        """An argument or option that is a whole number and must have been given."""
        number = self.number(name)
        if number is None:
            raise ScenarioError(f"{name} is missing")
        return number

    def duration(self, name: str) -> timedelta | None:
        """An option that is a time, like `5s`, `200ms` or `-2m`."""
        value = self.values[name]
        return None if value is None else duration(value)

    def list(self, name: str) -> Sequence[str]:
        """The parts of a comma separated option; none if it was not given."""
        value = self.values[name]
        return value.split(",") if value else ()


@dataclass(frozen=True, slots=True)
class Usage:
    """A usage line, read.

    Attributes:
        text: the line.
        command: the words of the command's name.
        required, optional: arguments by position.
        options: names of options to whether they must be given.
        flags: names of flags.
        takes_rest: the last argument is a whole command (`COMMAND...`).
    """

    text: str
    command: tuple[str, ...]
    required: tuple[str, ...]
    optional: tuple[str, ...]
    options: Mapping[str, bool]
    flags: frozenset[str]
    takes_rest: bool

    @classmethod
    def of(cls, text: str) -> "Usage":
        """Read a usage line."""
        words = text.split()
        name = [word for word in words if re.fullmatch("[a-z][a-z-]*", word)]
        arguments = words[len(name) :]
        bare = [word for word in arguments if not word.startswith("[")]
        bracketed = [word.strip("[]") for word in arguments if word.startswith("[")]
        options = {word.partition("=")[0]: True for word in bare if "=" in word}
        options |= {word.partition("=")[0]: False for word in bracketed if "=" in word}
        return cls(
            text,
            tuple(name),
            tuple(word for word in bare if "=" not in word and word != "COMMAND..."),
            tuple(word for word in bracketed if word.isupper()),
            options,
            frozenset(word for word in bracketed if "=" not in word and not word.isupper()),
            "COMMAND..." in bare,
        )

    def read(self, words: Sequence[str]) -> Arguments:
        """Read the words that follow the command's name."""
        values: dict[str, str | None] = dict.fromkeys(
            (*self.required, *self.optional, *self.options, *self.flags)
        )
        required, optional = list(self.required), list(self.optional)
        for index, word in enumerate(words):
            name, equals, value = word.partition("=")
            if self.takes_rest and not required:
                return Arguments(values, words[index:])
            if equals and name in self.options:
                self._set(values, name, value)
            elif required:  # Before flags: a network may be named like one.
                values[required.pop(0)] = word
            elif word in self.flags:
                self._set(values, word, word)
            elif optional:
                values[optional.pop(0)] = word
            else:
                raise ScenarioError(f"{word!r} is not understood here; usage: {self.text}")
        needed = [*self.required, *(name for name, must in self.options.items() if must)]
        missing = [name for name in needed if values[name] is None]
        if missing or self.takes_rest:
            what = ", ".join(missing) or "the command"
            raise ScenarioError(f"{what} is missing; usage: {self.text}")
        return Arguments(values)

    def _set(self, values: dict[str, str | None], name: str, value: str) -> None:
        if values[name] is not None:
            raise ScenarioError(f"{name} is given twice; usage: {self.text}")
        values[name] = value


def duration(text: str) -> timedelta:
    """Read a time like `5s`, `200ms`, `-2m`."""
    read = _DURATION.fullmatch(text)
    if read is None:
        raise ScenarioError(f"{text!r} is no duration; write it like 5s, 200ms, 2m or 1h")
    return timedelta(seconds=float(read[1]) * _UNITS[read[2]])
