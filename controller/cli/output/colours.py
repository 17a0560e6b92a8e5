"""Colours of verdicts, statuses and states on a terminal; the word stands beside each, always."""

import re
from typing import Final

from controller.cli.output import style

_RESET: Final = "\x1b[0m"
_BOLD: Final = "\x1b[1m"
_GREEN, _YELLOW, _RED, _DIM = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[2m"

ABNORMAL: Final = " !"
"""The sign of a status that is not as it should be (`True` is bad for `Degraded`)."""
_COLOURED: Final = frozenset({"READY", "STATUS", "VERDICT", "STATE", "STAGE", "BREAKER"})
"""Headings of the columns that have colours."""
_WORDS: Final = {
    "True": _GREEN,
    "succeeded": _GREEN,
    "verified": _GREEN,
    "applied": _GREEN,
    "Unknown": _YELLOW,
    "settling": _YELLOW,
    "observe": _YELLOW,
    "paused": _YELLOW,
    "lost": _YELLOW,
    "refused": _YELLOW,
    "uncertain": _YELLOW,
    "down": _RED,
    "False": _RED,
    "orphan": _RED,
    "conflict": _RED,
    "failed": _RED,
    "lingering": _RED,
    "tripped": _RED,
    "foreign": _DIM,
}


def heading(text: str) -> str:
    """Return a heading as the terminal shows it."""
    return f"{_BOLD}{text}{_RESET}" if style.has_colours() else text


def cell(under: str, text: str) -> str:
    """Return a printable cell in the colour of its first word, if its heading has colours."""
    if under not in _COLOURED or not style.has_colours():
        return text
    if text.endswith(ABNORMAL):
        return f"{_RED}{text}{_RESET}"
    if under == "STATUS":  # Of a condition: whether True or False is good depends on its type.
        return f"{_GREEN}{text}{_RESET}"
    colour = _WORDS.get(re.split("[/, \N{HORIZONTAL ELLIPSIS}]", text, maxsplit=1)[0])
    return text if colour is None else f"{colour}{text}{_RESET}"


def good(text: str) -> str:
    """Return a text as good news."""
    return f"{_GREEN}{text}{_RESET}" if style.has_colours() else text


def bad(text: str) -> str:
    """Return a text as bad news."""
    return f"{_RED}{text}{_RESET}" if style.has_colours() else text
