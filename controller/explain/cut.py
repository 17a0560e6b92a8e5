"""Recognises messages that were cut off: `"network sandbox join failed: s..."`. Pure.

`docker service ps` prints 30 characters of an error, its progress the width of the terminal, `less -S` and
`systemctl status` as much. What is left counts if it is the beginning, end or middle of a whole message of
the catalogue, cut where a text is cut: at its begin or end, or beside an ellipsis.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final, NamedTuple

from controller.explain.catalogue import Entry, catalogue
from controller.explain.text import squeezed

_SUBNET: Final = "\x01"
"""Stands for a subnet with its quotes."""
_WHOLE_SUBNET: Final = re.compile(
    r"""["']{0,3}(?<![0-9a-f.:])((?:[0-9]{1,3}\.){3}[0-9]{1,3}/[0-9]{1,2}|[0-9a-f:]{2,45}::?/[0-9]{1,3})(?![0-9])["']{0,3}"""
)
_PART_OF_SUBNET: Final = re.compile(r"""["']{0,3}[0-9][0-9a-f.:/]{0,45}["']{0,3}|["']{1,3}""")
_ELLIPSIS: Final = re.compile(r"\.{2,}")
_END: Final = re.compile(r"""["'\s\\),;|}\]]{0,12}(?:\.{2,}|>|$)""")
"""What may follow where a text is cut."""

_MIN_LENGTH: Final = 16
"""Squeezed characters. `networksandboxjo` is nobody else's; the word must be distinctive as well."""
_MIN_AT_ELLIPSIS: Final = 12
_GRAM: Final = 10
_MAX_TEXT: Final = 4_000
"""Characters of a record, from its end: a cut message ends it, or nearly."""
_MAX_ANCHORS: Final = 200


class Cut(NamedTuple):
    """A message that was cut off."""

    entry: Entry
    subnet: str | None
    """What the message still has of it."""


def cut_message(entries: Sequence[Entry], line: str) -> Cut | None:
    """Return the message that a cleaned record has a part of; None: it has none."""
    subnet = None
    text = squeezed(line[-_MAX_TEXT:])
    if not any(word in text for word in (*_DISTINCTIVE, *_starts())):
        return None
    found = _WHOLE_SUBNET.search(text)
    if found is not None and re.search(r"""["':]""", text[found.end(1) : found.end(1) + 1]):
        # Not cut inside: 10.0.1.0/2 might be 10.0.1.0/24.
        subnet = found[1]
    text = _WHOLE_SUBNET.sub(_SUBNET, text)
    for entry in entries:
        for whole in entry.whole:
            message = squeezed(whole).replace("{subnet}", _SUBNET)
            if any(_is_cut(message, text, start, entry) for start in _anchors(message, text)):
                return Cut(entry, subnet)
    return None


@cache
def _starts() -> tuple[str, ...]:
    """Return how the messages begin of which a beginning is enough."""
    entries = catalogue().entries
    return tuple(
        squeezed(whole)[:_GRAM] for entry in entries if not entry.leak for whole in entry.whole
    )


def _anchors(message: str, text: str) -> Iterator[int]:
    """Yield where a part of a message may begin: at the text's begin, after `...`, or at a word of it."""
    yield 0
    for _, found in zip(range(_MAX_ANCHORS), _ELLIPSIS.finditer(text), strict=False):
        yield found.end()
    for begin in _beginnings(message):
        start = text.find(begin)
        for _ in range(_MAX_ANCHORS):
            if start < 0:
                break
            yield start
            start = text.find(begin, start + 1)


def _beginnings(message: str) -> set[str]:
    """Return how a message, or a sentence in it, begins."""
    starts = [0, *(found.end() for found in re.finditer(f":|for{_SUBNET}:?", message))]
    return {message[start : start + _GRAM] for start in starts if len(message) - start >= _GRAM}


def _is_cut(message: str, text: str, start: int, entry: Entry) -> bool:
    """Whether a part of the message begins there, and goes on to where the text is cut."""
    at_cut = start == 0 or text.endswith("..", 0, start)
    gram = text[start : start + _GRAM]
    if len(gram) < _GRAM:
        return False
    offset = message.find(gram)
    while offset >= 0:
        length = _common(message, offset, text, start)
        if _is_distinctive(message[offset : offset + length]) if entry.leak else offset == 0:
            rest = text[start + length :]
            if offset + length == len(message):
                return at_cut or offset == 0 or message[offset - 1] in f":{_SUBNET}"
            if message[offset + length] == _SUBNET:
                rest = _PART_OF_SUBNET.sub("", rest, count=1) if _part_is_first(rest) else rest
            enough = _MIN_AT_ELLIPSIS if rest.lstrip("\"'").startswith("..") else _MIN_LENGTH
            if length >= enough and _END.match(rest):
                return True
        offset = message.find(gram, offset + 1)
    return False


def _part_is_first(rest: str) -> bool:
    return _PART_OF_SUBNET.match(rest) is not None


def _common(message: str, offset: int, text: str, start: int) -> int:
    length = 0
    while (
        offset + length < len(message)
        and start + length < len(text)
        and message[offset + length] == text[start + length]
    ):
        length += 1
    return length


_DISTINCTIVE: Final = ("networksandboxj", "subnetsand", "failed:subne", "failed:sub", "creatingvx",
    "xlaninterface", "creatingingress", "sandboxjoinfailed")  # fmt: skip


def _is_distinctive(part: str) -> bool:
    """Whether a part has a word that other messages do not have."""
    return any(word in part for word in _DISTINCTIVE)
