"""How many cells of a terminal a text takes; wrapping it, and cutting it so that it says so."""

import unicodedata

_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def cells(text: str) -> int:
    """Return the cells that a printable text takes: two for East Asian letters, none for combining marks."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def cut(text: str, size: int) -> str:
    """Return a text in at most `size` cells, with `…` at its end if that is not all of it."""
    if cells(text) <= size:
        return text
    return text[: _fitting(text, size - 1)].rstrip() + _ELLIPSIS


def wrap(text: str, size: int) -> list[str]:
    """Return a text in lines of at most `size` cells (two, if less), between words where that is possible."""
    size = max(size, 2)
    lines, line = [], ""
    for word in text.split():
        rest = word
        if line and cells(line) + 1 + cells(rest) > size:
            lines.append(line)
            line = ""
        elif line:
            rest = f"{line} {rest}"
        while cells(rest) > size:
            length = _fitting(rest, size)
            lines.append(rest[:length])
            rest = rest[length:]
        line = rest
    return [*lines, line]


def _fitting(text: str, size: int) -> int:
    """Return how many characters at the beginning of a text take at most `size` cells."""
    for length, character in enumerate(text):
        size -= _cells(character)
        if size < 0:
            return length
    return len(text)


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
