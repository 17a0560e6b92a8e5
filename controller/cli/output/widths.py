"""How many cells of a terminal a text takes, and cutting it so that it says that it was cut."""

import unicodedata

_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def cells(text: str) -> int:
    """Return the cells that a printable text takes: two for East Asian letters, none for combining marks."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def cut(text: str, size: int) -> str:
    """Return a text in at most `size` cells, with `…` at its end if that is not all of it."""
    if cells(text) <= size:
        return text
    room, kept = size - 1, []
    for character in text:
        room -= _cells(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept).rstrip() + _ELLIPSIS


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
