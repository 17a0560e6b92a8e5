"""Reads the plain part of YAML that this repository's own files use, and refuses all else.

No package that the tests have reads YAML. What this takes means the same to any YAML 1.2 parser: mappings,
lists, texts in one line, and `|` blocks, each level indented by two spaces. What could mean something else
there (quotes, anchors, tabs, `: ` or ` #` in a text, flow mappings) is an error here.
"""

import re
from typing import Final, TypeAlias

Value: TypeAlias = "str | bool | list[Value] | dict[str, Value]"

_KEY: Final = re.compile(r"([a-z][a-z_-]*):(?: (.+))?")
_NO_TEXT: Final = re.compile(
    r"""^[-?:,\[\]{}#&*!|>'"%@`\s]|:\ |\ \#|[:\s]$  # has a meaning in YAML
    |^(?:null|yes|no|on|off|y|n|~|true|false)$      # is a constant in some YAML, as is a number or date:
    |^[-+.]*(?:[0-9][-+.:_0-9a-fxotz\s]*|inf|nan)$""",
    re.VERBOSE | re.IGNORECASE,
)
_LIST: Final = re.compile(r"\[([\w-]+(?:, [\w-]+)*)\]")


class NotPlainError(Exception):
    """The file has something else than the plain part of YAML; says where."""


def read(text: str) -> Value:
    """Read one document.

    Raises:
        NotPlainError: it is no YAML, or not of the plain kind.
    """
    lines = [line for line in text.split("\n") if not line.startswith("#")]
    value, rest = _block(lines, 0)
    if any(line.strip() for line in rest):
        raise NotPlainError(f"wrong indentation: {next(line for line in rest if line.strip())!r}")
    return value


def _block(lines: list[str], indent: int) -> tuple[Value, list[str]]:
    """The mapping or list whose lines begin at a column, and the lines after it."""
    found: dict[str, Value] = {}
    items: list[Value] = []
    while (lines := _skip_blank(lines)) and _indent(lines[0]) == indent:
        line = lines[0][indent:]
        if line.startswith("- "):
            if _KEY.fullmatch(line[2:]):
                value, lines = _block([" " * (indent + 2) + line[2:], *lines[1:]], indent + 2)
            else:
                value, lines = _scalar(line[2:]), lines[1:]
            items.append(value)
        elif (match := _KEY.fullmatch(line)) and match[1] not in found:
            found[match[1]], lines = _of_key(match[2], lines[1:], indent)
        else:
            raise NotPlainError(f"neither a new key nor an item: {line!r}")
    if bool(found) == bool(items):
        raise NotPlainError(f"neither a mapping nor a list: {(lines or ['the end'])[0]!r}")
    return found or items, lines


def _of_key(text: str | None, lines: list[str], indent: int) -> tuple[Value, list[str]]:
    if text is None:
        return _block(lines, indent + 2)
    if text != "|":
        return _scalar(text), lines
    count = next(
        (n for n, line in enumerate(lines) if line.strip() and _indent(line) < indent + 2),
        len(lines),
    )
    return "\n".join(line[indent + 2 :] for line in lines[:count]).strip("\n") + "\n", lines[count:]


def _scalar(text: str) -> Value:
    if text in ("true", "false"):
        return text == "true"
    if match := _LIST.fullmatch(text):
        return [*match[1].split(", ")]
    if _NO_TEXT.search(text):
        raise NotPlainError(f"to be said otherwise: {text!r}")
    return text


def _skip_blank(lines: list[str]) -> list[str]:
    return lines[next((n for n, line in enumerate(lines) if line.strip()), len(lines)) :]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))
