"""Text for people: made printable, passwords taken out; a netns with its file; cells of CSV."""

import json
import re
from typing import Final

_PASSWORD: Final = re.compile(
    r"(?<=://)[^\s/]*(?=@)|(?<=password=)('[^']*'|[^\s&]+)", re.IGNORECASE
)

_FORMULA: Final = ("=", "+", "-", "@")


def printable(text: str) -> str:
    r"""Replace what is not printable by its code (`\x1b`, `\n`, `\u202e`).

    Names of nodes, networks and devices, and errors of tasks, come from elsewhere: they must not drive a
    terminal, begin a line, or turn the direction of the text beside them.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def redacted(text: str) -> str:
    """Replace user names and passwords in URLs, and values of `password=`, by `***`."""
    return _PASSWORD.sub("***", text)


def with_file(netns: object, file: object) -> str:
    """Return a network namespace, with the path of its file if that is known."""
    return str(netns) if file is None else f"{netns} ({file})"


def csv_cell(value: object) -> object:
    """Return a value that no spreadsheet takes for a formula; what has parts as JSON."""
    if isinstance(value, (list, dict)):
        return json.dumps(value)
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
