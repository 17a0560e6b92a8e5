"""Reads a text: all its faults and devices, each with what its lines name. Pure.

A fault that repeats over a thousand lines is one group with a count, the first and last time, and a line.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from controller.explain.catalogue import Entry, Kind, Match, catalogue
from controller.explain.clues import Clues, Device, clues, tasks_of, time_of
from controller.explain.cut import cut_message
from controller.explain.text import MAX_TEXT, Record, clean, records, squeezed

_MAX_FINDINGS: Final = 20_000
_MAX_KNOWN: Final = 5_000
_VARIABLE: Final = re.compile(
    r"[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}[T ][0-9:.,]{5,18}(?:Z|[+-][0-9]{2}:?[0-9]{2})?"
    r"|^[A-Z][a-z]{2}\s{1,2}[0-9]{1,2}\s[0-9:.]{8,15}"
    r"|(?<=task.id=)[0-9a-z]{25}|(?<=\[)[0-9]{1,8}(?=\]:)"
)
"""What differs between lines that say the same: times, tasks, process ids."""
MAX_GROUPS: Final = 50
_MAX_QUOTED: Final = 400
_FEW_LINES: Final = 20
"""A text of so few lines is about one thing: a line's neighbours may say its node."""
_MAX_DEVICE_WORDS: Final = 12
"""A line of more words is not a question what a device is."""


class TooLongError(ValueError):
    """The text has more characters than are read."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault or device in a text.

    Attributes:
        about: the entry of the catalogue.
        certain: False: the message is cut off, and only its beginning is this fault's.
        line: number of its first line, from 1.
        quote: the line, as far as it is short.
        subnet: that of the message; None: it names none, or it is cut off.
        device: None: it is a fault.
    """

    about: Entry | Kind
    certain: bool
    line: int
    quote: str
    clues: Clues
    subnet: str | None = None
    device: Device | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text has: `findings` in its order, the number of its lines, and the clues of all of it."""

    findings: Sequence[Finding]
    lines: int
    clues: Clues
    more: bool = False
    """Whether it has more findings than were read."""


@dataclass(slots=True)
class Group:
    """Findings that are the same but for their time: `first` and `last` are times that the lines give."""

    finding: Finding
    count: int = 0
    first: datetime | None = None
    last: datetime | None = None
    exact: bool = True
    """Whether all times say their zone; if not, `first` and `last` are the latest that they can mean."""
    tasks: tuple[str, ...] = ()

    def add(self, finding: Finding) -> None:
        self.count += 1
        self.tasks = tuple(dict.fromkeys((*self.tasks, *finding.clues.tasks)))[:20]
        time = finding.clues.time
        if time is not None:
            self.exact = self.exact and time.exact
            self.first = time.at if self.first is None else min(self.first, time.at)
            if self.last is None or time.at >= self.last:
                self.last = time.at
                self.finding = finding


def read(text: str, now: datetime) -> Reading:
    """Find the faults and devices in a text of any kind.

    Raises:
        TooLongError: it has more than `MAX_TEXT` characters.
    """
    if len(text) > MAX_TEXT:
        raise TooLongError(f"the text has {len(text):,} characters; at most {MAX_TEXT:,} are read")
    text = clean(text)
    all_records = [*records(text)]
    findings: list[Finding] = []
    more = False
    reader = _Reader(squeezed("\n".join(record.text for record in all_records)), now)
    for record in all_records:
        findings += reader.of_record(record)
        if len(findings) > _MAX_FINDINGS:
            findings, more = findings[:_MAX_FINDINGS], True
            break
    lines = sum(len(record.lines) for record in all_records)
    whole = "\n".join(record.text for record in all_records[:_FEW_LINES])
    around = clues(whole, now)
    if any(not _is_normal(item) for item in findings):
        findings = [item for item in findings if not _is_normal(item)]
    if lines <= _FEW_LINES:
        findings = [replace(item, clues=_with_neighbours(item.clues, around)) for item in findings]
    return Reading(findings, lines, around, more)


def _is_normal(finding: Finding) -> bool:
    return isinstance(finding.about, Entry) and finding.about.normal


def grouped(
    findings: Iterable[Finding], key: Callable[[Finding], Hashable]
) -> tuple[list[Group], int]:
    """Group findings by a key; return the first `MAX_GROUPS` groups, and the number of the others."""
    groups: dict[Hashable, Group] = {}
    for finding in findings:
        groups.setdefault(key(finding), Group(finding)).add(finding)
    ordered = sorted(groups.values(), key=lambda group: not group.finding.certain)
    return ordered[:MAX_GROUPS], len(ordered[MAX_GROUPS:])


def same(finding: Finding) -> Hashable:
    """Return the key of findings that a text alone cannot tell apart."""
    named = finding.clues
    return (
        finding.about.id, finding.certain, finding.subnet, finding.device and finding.device.name,
        named.nodes, named.networks, named.vnis,
    )  # fmt: skip


class _Reader:
    """Reads records. A log repeats its lines but for times and tasks: what they say is kept."""

    def __init__(self, squeezed_text: str, now: datetime) -> None:
        self._possible = catalogue().possible(squeezed_text)
        self._now = now
        self._known: dict[str, list[Finding]] = {}

    def of_record(self, record: Record) -> list[Finding]:
        """Return the findings of a record."""
        text = record.text
        if len(record.lines) > 1:
            return self._find(record, text)
        template = _VARIABLE.sub("\x02", text)
        known = self._known.get(template)
        if known is None:
            known = self._find(record, text)
            if len(self._known) < _MAX_KNOWN:
                self._known[template] = known
            return known
        if not known:
            return known
        time, tasks = time_of(text, self._now), tasks_of(text)
        line, quote = record.first + 1, _quote(text)
        return [
            replace(item, line=line, quote=quote, clues=replace(item.clues, time=time, tasks=tasks))
            for item in known
        ]

    def _find(self, record: Record, text: str) -> list[Finding]:
        matches = catalogue().matches(self._possible, text, squeezed(text))
        if matches:
            return [
                _finding(
                    match, part, record.first + skipped, self._now, text[match.start : match.end]
                )
                for match, part, skipped in _parts(text, matches)
            ]
        cut = cut_message(catalogue().entries, text)
        if cut is not None:
            named = clues(text, self._now)
            return [Finding(cut.entry, False, record.first + 1, _quote(text), named, cut.subnet)]
        return self._devices(record, text) if _may_name_device(text) else []

    def _devices(self, record: Record, text: str) -> list[Finding]:
        """Return the devices of a line of `ip link`, or of a line that is nearly nothing else."""
        named = clues(text, self._now)
        is_question = len(text.split()) <= _MAX_DEVICE_WORDS
        return [
            Finding(
                catalogue().kind_of(device.name, up="UP" in (device.flags or ())),
                True,
                record.first + 1,
                _quote(text),
                named,
                None,
                device,
            )
            for device in named.devices
            if (is_question if device.flags is None else _is_interesting(device))
        ]


def _may_name_device(text: str) -> bool:
    return "vx" in text or "ov-" in text or "flannel" in text or ">" in text


def _is_interesting(device: Device) -> bool:
    """Whether a device of `ip link`'s list may be a VXLAN device: `eth0` and `lo` are not asked about."""
    return catalogue().kind_of(device.name).id != "other-device" or device.name.startswith("vx")


def _parts(text: str, matches: Sequence[Match]) -> Iterator[tuple[Match, str, int]]:
    """Yield each match with the lines that are about it, and the number of lines before these.

    Lines before a match belong to it, as far as no other match is there; those after the last one too.
    """
    begin = 0
    seen: set[tuple[str, int]] = set()
    for number, match in enumerate(matches):
        end = text.find("\n", match.end)
        if end < 0 or number == len(matches) - 1:
            end = len(text)
        else:
            following = text.rfind("\n", 0, matches[number + 1].start)
            end = max(end, match.end) if following > end else end
        if begin > match.start:  # On the line of the match before.
            begin = text.rfind("\n", 0, match.start) + 1
        if (match.entry.id, begin) not in seen:
            seen.add((match.entry.id, begin))
            yield match, text[begin:end], text.count("\n", 0, begin)
        begin = end + 1


def _finding(match: Match, part: str, skipped: int, now: datetime, said: str) -> Finding:
    named = clues(part, now, part.find(said))
    named = replace(
        named, words=tuple(word for word in named.words if word not in match.entry.words)
    )
    subnet = match.subnet or next(iter(named.subnets), None)
    if subnet is not None:
        subnet = "".join(subnet.split())
    return Finding(match.entry, True, skipped + 1, _quote(part, said), named, subnet)


def _with_neighbours(own: Clues, around: Clues) -> Clues:
    """Fill in from the lines around what a line does not say itself; not its time, which may be later."""
    return replace(
        own,
        nodes=own.nodes or around.nodes,
        hosts=own.hosts or around.hosts,
        networks=own.networks or around.networks,
        words=tuple(dict.fromkeys((*own.words, *around.words))) if not own.nodes else own.words,
        ids=own.ids or around.ids,
        tasks=own.tasks or around.tasks,
        service=own.service or around.service,
        devices=own.devices or around.devices,
        vnis=own.vnis or around.vnis,
    )


def _quote(text: str, said: str = "") -> str:
    """Return a text as one line; of a long one the piece with what it says."""
    line, said = " ".join(text.split()), " ".join(said.split())
    if len(line) <= _MAX_QUOTED:
        return line
    end = line.find(said) + len(said)
    if end <= _MAX_QUOTED - 3:
        return f"{line[: _MAX_QUOTED - 3]}..."
    return f"...{line[max(end - _MAX_QUOTED + 6, 0) : end]}..."
