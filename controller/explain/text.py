"""Texts as Docker wrote them: without colours, typography and escapes, in records of wrapped lines. Pure.

Everything runs in time proportional to the text, whatever it is: regular expressions are bounded, and no
line is looked at twice.
"""

import html
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

MAX_TEXT: Final = 2**20
"""Characters of a text: some four thousand lines of a log."""
_MAX_LINE: Final = 100_000
"""Characters of a line; a longer one is read as if a terminal had wrapped it."""
_MAX_RECORD_LINES: Final = 20
"""Lines of a wrapped message."""

_CONTROL: Final = re.compile(
    # ECMA-48, 5.4; also as journalctl, rsyslog, cat -v, JSON and shells write the escape character.
    r"(?:\x1b|\x9b|\\u001[bB]|\\x1[bB]|\\033|\\e|#033|\^\[)"
    r"(?:\[[0-?]{0,30}[ -/]{0,4}[@-~]|\][^\x07\x1b\n]{0,300}(?:\x07|\x1b\\)|[()][0AB])"
    r"|\x9b[0-?]{0,30}[ -/]{0,4}[@-~]"
)
_REPLACED: Final = str.maketrans(
    {
        **dict.fromkeys("\u00a0\u1680\u202f\u205f\u3000\t\v\f", " "),
        **dict.fromkeys(map(chr, range(0x2000, 0x200B)), " "),  # typographic spaces
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad\x00\x07\x08\u200e\u200f", ""),
        **dict.fromkeys(map(chr, range(0x202A, 0x202F)), ""),  # direction of text
        **dict.fromkeys(map(chr, range(0x2066, 0x206A)), ""),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033\u2036\uff02\u300c\u300d", '"'),
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u2035\u2039\u203a`\u00b4\uff07", "'"),
        **dict.fromkeys(map(chr, range(0x2010, 0x2016)), "-"),
        **dict.fromkeys(map(chr, range(0xD800, 0xE000)), "?"),  # halves of characters
        "\u2212": "-",
        "\u2026": "...",
        "\uff1a": ":",
        "\u2028": "\n",
        "\u2029": "\n",
        "\x85": "\n",
    }
)
_ESCAPED_QUOTE: Final = re.compile(r"""\\{1,16}(?=["'])""")
_ESCAPED_SPACE: Final = re.compile(r"\\{1,8}[nrt](?![a-z])|#0(?:12|15|11)(?![0-9])")
_ENTITY: Final = re.compile(r"&(?:quot|apos|amp|lt|gt|nbsp|hellip|#[0-9]{1,5}|#x[0-9a-fA-F]{1,5});")

_QUOTED_LINE: Final = re.compile(r"^(?:[ \t]{0,9}[>|\u2502]){1,5}[ \t]")
"""The mark of a quoted mail, or the frame of a table."""
_NUMBER: Final = re.compile(
    r"^(?:[\w./-]{1,200}:)?[ ]{0,9}[0-9]{1,9}[:-]?[ ]{0,4}"
    r"(?=[A-Z][a-z]{2}[ ]{1,2}[0-9]{1,2}[ ][0-9]{2}:|[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:"
    r"|(?:time|level)=|\{\")"
)
"""What `grep -n` and `less -N` write before a line of a log."""
_NUMBERED: Final = re.compile(r"[ ]{0,9}([0-9]{1,7})(?:[:|-][ ]?|[ ]{1,4})(?![\w.@-]{1,40}:[ ]<)")
"""A line with its number; no line of `ip link`, which has one of its own."""
_SPACES: Final = re.compile(r" {2,}")

_START: Final = re.compile(
    r"""
    \s{0,20}(?:
      (?:<[0-9]{1,3}>)?(?:1\s)?\[?[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}[ T]  # a time, as ISO 8601 has it
    | (?:<[0-9]{1,3}>)?[^\W\d]{3,5}\.?\s{1,2}[0-9]{1,2}\s[0-9]{2}:[0-9]{2}  # as syslog has it
    | [IWEF][0-9]{4}\s[0-9]{2}:  # as klog has it
    | [0-9]{2}:[0-9]{2}:[0-9]{2}\b
    | (?:time|ts|level)=  # logfmt
    | \{  # JSON
    | (?:TRAC|DEBU|INFO|WARN|ERRO|FATA|PANI)\[  # logrus on a terminal
    | \\_\s  # a task's predecessor in `docker service ps`
    | [0-9a-z]{12}\s{2} | [0-9a-z]{25}\s{2}  # a task there
    | [$\#]\s  # a prompt
    | [0-9]{1,6}:\s[\w.@-]{1,40}:\s<  # `ip link`
    | [0-9]{1,6}/[0-9]{1,6}:\s | overall\sprogress | verify: | docker:\s
    | Error\sresponse\sfrom | ID\s{2}
    )
    """,
    re.VERBOSE,
)


class Record(NamedTuple):
    """A message with its wrapped lines; these are in `lines`, cleaned, and begin at line `first`."""

    first: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """All lines, separated by line ends."""
        return "\n".join(self.lines)


def clean(text: str) -> str:
    """Return a text without colours, typographic signs, escapes and invisible characters."""
    text = text[:MAX_TEXT].replace("\r\n", "\n").replace("\r", "\n")
    if "&" in text:
        text = _ENTITY.sub(lambda found: html.unescape(found[0]), text)
    text = _CONTROL.sub("", text).replace("\x1b", "").replace("\x9b", "")
    text = text.translate(_REPLACED)
    if "\\" in text or "#0" in text:
        text = _ESCAPED_SPACE.sub(" ", _ESCAPED_QUOTE.sub("", text))
    return text


def begins_record(line: str) -> bool:
    """Whether a cleaned line begins a message, and continues none."""
    return _START.match(line) is not None


def records(text: str) -> Iterator[Record]:
    """Split a cleaned text into messages: a line that begins none continues the one before."""
    lines: list[str] = []
    first = 0
    for number, raw in _unnumbered(text.split("\n")):
        line = _NUMBER.sub("", _QUOTED_LINE.sub("", raw)).rstrip()
        if lines and (not line or len(lines) >= _MAX_RECORD_LINES or _START.match(line)):
            yield Record(first, tuple(lines))
            lines = []
        if line:
            if not lines:
                first = number
            lines.append(_SPACES.sub(" ", line.strip()))
    if lines:
        yield Record(first, tuple(lines))


def _unnumbered(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Yield lines with their indexes, without the numbers before all of them; long ones in pieces."""
    found = [(line, _NUMBERED.match(line)) for line in lines if line.strip()]
    first = int(found[0][1][1]) if found and found[0][1] is not None else 0
    counts = len(found) > 1 and all(
        match is not None and int(match[1]) == first + index
        for index, (_, match) in enumerate(found)
    )
    for number, line in enumerate(lines):
        text = _NUMBERED.sub("", line, count=1) if counts else line
        for start in range(0, len(text) or 1, _MAX_LINE):
            yield number, text[start : start + _MAX_LINE]


def squeezed(text: str) -> str:
    """Return a text in lower case without any spaces and line ends: what a wrapped message still has."""
    return "".join(text.lower().split())
