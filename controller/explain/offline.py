"""The explanation of a text without a controller, in the form of the API's answer; and long texts made short.

The catalogue says what a text means and what to do; names are as the text has them. Pure.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from controller.explain.clues import ORDINARY
from controller.explain.reading import Group, grouped, read, same
from controller.explain.sentences import LOOK_AT_LOG, NO_FAULT, filled, missing
from controller.explain.text import MAX_TEXT, begins_record, clean

_LINES_KEPT: Final = 3
"""Of a fault: its first and those that a terminal may have wrapped it into."""
_PIECE: Final = 4_000
"""Characters of a long line that are kept around a fault."""
_OVERLAP: Final = 500
_NOT_NAMES: Final = frozenset({"sandbox", "interface"})


def explain_offline(text: str, now: datetime) -> dict[str, Any]:
    """Explain a text by the catalogue alone, in the form of the API's answer; ids are null.

    Raises:
        TooLongError: it is longer than `MAX_TEXT`.
    """
    reading = read(text, now)
    groups, more = grouped(reading.findings, same)
    findings = [_finding(group) for group in groups]
    missing_ = [sentence for found in findings for sentence in found["missing"]]
    return {
        "recognised": bool(findings),
        "meaning": findings[0]["cause"] if findings else NO_FAULT,
        "lines": reading.lines,
        "findings": findings,
        "more_findings": more,
        "nodes": _unique(node for found in findings for node in found["nodes"]),
        "networks": _unique(network for found in findings for network in found["networks"]),
        "lately": [],
        "now": [],
        "advice": list(dict.fromkeys(missing_)) if findings else [LOOK_AT_LOG],
    }


def _finding(group: Group) -> dict[str, Any]:
    found = group.finding
    # Nobody is there who knows the names: a word of a sentence may be one or not.
    words = [name for name in found.clues.nodes if _is_name(name) and not name.isalpha()]
    nodes = [*(name for name in found.clues.hosts if not name.isdigit()), *words][:1]
    networks = [name for name in found.clues.networks if _is_name(name)][:1]
    device = None if found.device is None else found.device.name
    names = {
        "NODE": next(iter(nodes), None),
        "NETWORK": next(iter(networks), None),
        "SERVICE": found.clues.service,
        "DEVICE": device,
    }
    known = bool(networks or found.subnet or found.clues.vnis)
    return {
        "id": found.about.id,
        "kind": "fault" if device is None else "device",
        "title": found.about.title,
        "certain": found.certain,
        "cause": found.about.cause,
        "cure": filled(found.about.cure, names),
        "links": list(found.about.links),
        "count": group.count,
        "first_at": _time(group.first),
        "last_at": _time(group.last),
        "exact": group.exact,
        "line": found.line,
        "quote": found.quote,
        "subnet": found.subnet,
        "device": device,
        "vnis": list(found.clues.vnis),
        "nodes": [{"id": None, "name": name} for name in nodes],
        "networks": [{"id": None, "name": name} for name in networks],
        "on_nodes": [],
        "look_for": [],
        "missing": [*missing(found, node=bool(nodes) or device is not None, network=known)],
    }


def _is_name(word: str) -> bool:
    """Whether a word looks like a name: nobody is there who knows the names."""
    return not word.isdigit() and word not in ORDINARY | _NOT_NAMES


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")


def _unique(subjects: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({subject["name"]: subject for subject in subjects}.values())


def shortened(text: str, now: datetime) -> str:
    """Return a text that is not too long: of a long one the lines with faults, the newest at most."""
    if len(text) <= MAX_TEXT:
        return text
    kept: list[str] = []
    for part in _parts(text):
        cleaned = clean(part)
        lines = cleaned.split("\n")
        done = 0
        for found in read(cleaned[:MAX_TEXT], now).findings:
            first = max(found.line - 1, done)
            for number in range(first, min(found.line - 1 + _LINES_KEPT, len(lines))):
                if number >= found.line and begins_record(lines[number]):
                    break
                kept += _pieces(lines[number], now)
                done = number + 1
    short = "\n".join(kept)
    return short if len(short) <= MAX_TEXT else short[-MAX_TEXT:].partition("\n")[2]


def _pieces(line: str, now: datetime) -> Iterable[str]:
    """Yield a line; of a very long one only the pieces with a fault."""
    if len(line) <= 2 * _PIECE:
        yield line
        return
    for start in range(0, len(line), _PIECE - _OVERLAP):
        piece = line[start : start + _PIECE]
        if read(piece, now).findings:
            yield piece


def _parts(text: str) -> Iterable[str]:
    """Yield a text in parts of whole lines that are not too long."""
    start = 0
    while start < len(text):
        end = start + MAX_TEXT
        if end < len(text):
            end = text.rfind("\n", start, end) + 1 or end
        yield text[start:end]
        start = end
