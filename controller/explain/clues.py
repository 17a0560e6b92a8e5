"""What a line names besides its fault: nodes, networks, tasks, devices, VNIs, subnets and its time. Pure.

Names are only known to the controller, so a line gives candidates: `strong` ones stand where a name stands
(`node=x`, the column NODE, the host of a syslog line), `weak` ones are any other words. A weak word that is
ordinary (`words.txt`: "closed by server") is no candidate.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Final

ORDINARY: Final = frozenset(
    files("controller.explain").joinpath("words.txt").read_text("utf-8").split()
)
"""Words of messages, which name no node and no network unless they stand where a name stands."""

_MAX_WORDS: Final = 300
_MAX_LENGTH: Final = 4_000
"""Characters of a record that are searched for names."""

_NAME: Final = r"[0-9A-Za-z][0-9A-Za-z_.-]{0,253}"
_WORD: Final = re.compile(rf"(?<![0-9A-Za-z_.-]){_NAME}")
_Q: Final = r"""["']{0,2}"""
_STATES: Final = (
    "new|allocated|pending|assigned|accepted|preparing|ready|starting|running|complete|shutdown|failed"
    "|rejected|remove|orphaned"
)
_ROW: Final = re.compile(
    rf"""
    (?:^|\s)(?:(?P<id>[0-9a-z]{{12}}|[0-9a-z]{{25}})\s{{1,8}})?(?:\\_\s)?
    (?P<task>[0-9A-Za-z][0-9A-Za-z_.-]{{0,100}}\.(?:[0-9]{{1,6}}|[0-9a-z]{{25}}))\s{{1,200}}
    (?:\S{{1,300}}\s{{1,200}})?(?P<node>{_NAME})\s{{1,200}}(?:{_STATES})\s{{1,200}}(?:{_STATES})\b
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""A row of `docker service ps`; IMAGE may be missing (`docker stack ps --format`)."""
_UNNUMBERED_ROW: Final = re.compile(
    rf"(?<![0-9A-Za-z_.-])(?P<id>[0-9a-z]{{12}}|[0-9a-z]{{25}})\s{{1,80}}(?:\\_\s)?(?P<task>{_NAME})\s{{1,80}}"
    rf"\S{{1,300}}\s{{1,80}}(?P<node>{_NAME})\s{{1,80}}(?:{_STATES})\s{{1,80}}(?:{_STATES})\b",
    re.IGNORECASE,
)
"""A row of a global service, as Docker wrote it until 1.13."""
_SHORT_ROW: Final = re.compile(
    rf"(?<![0-9A-Za-z_.-])(?P<task>{_NAME}\.[0-9]{{1,6}})\s{{1,80}}(?P<node>{_NAME})\s{{1,80}}(?:{_STATES})\b",
    re.IGNORECASE,
)
_HOSTS: Final = (
    re.compile(rf"(?i)\bnode(?:[._](?:id|name|hostname))?{_Q}\s?[:=]\s?{_Q}({_NAME})"),
    re.compile(
        rf"(?i)\b(?:host|hostname|_hostname|nodename|nodeid|machine){_Q}\s?[:=]\s?{_Q}({_NAME})"
    ),
    # The host of a syslog line, or of one with a time of ISO 8601.
    re.compile(
        r"(?:^|\n)(?:<[0-9]{1,3}>)?(?:1\s)?[^\W\d]{3,5}\.?\s{1,2}[0-9]{1,2}\s[0-9:.]{5,15}\s"
        rf"({_NAME})\s[\w./@-]{{1,80}}(?:\[[0-9]{{1,8}}\])?:"
    ),
    re.compile(
        r"(?:^|\n)(?:<[0-9]{1,3}>)?(?:1\s)?[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.,]{5,18}(?:Z|[+-][0-9:]{4,6})?\s"
        rf"({_NAME})(?::\s|\s[\w./@-]{{1,80}}[\[: ])"
    ),
    re.compile(
        rf"(?<![0-9A-Za-z_.-])[0-9A-Za-z_.-]{{1,64}}@({_NAME})(?::[~/]|\s[^\]\n]{{0,80}}\][#$])"
    ),
)
"""Where nothing but a node's name stands."""
_PROGRAMS: Final = (
    "docker|dockerd|containerd|error|err|warning|warn|fatal|info|note|hint|message|msg|reason|status|state"
    "|overlay|kernel|modprobe|iptables|curl|failed"
)
_NODES: Final = (
    *_HOSTS,
    re.compile(rf"""(?i)(?<![\w-])(?:node|host)\s{_Q}({_NAME})"""),
    re.compile(
        rf"""(?i)(?<![\w-])(?:on|auf|sur|su|op|em|en)\s{_Q}(?!(?:node|host|the)\b)({_NAME})"""
    ),
    re.compile(rf"(?:^|\n)(?!(?i:{_PROGRAMS}):)({_NAME}):\s"),
)
_NETWORKS: Final = (
    re.compile(rf"(?i)\b(?:network|net|nid)(?:[._](?:id|name))?{_Q}\s?[:=]\s?{_Q}({_NAME})"),
    re.compile(rf"""(?i)(?<![\w-])network\s{_Q}({_NAME})"""),
    re.compile(r"""(?i)\b(ingress)[\s_-]?(?:network|sbox)"""),
    re.compile(rf"""(?i)no such network:\s?{_Q}({_NAME})"""),
)
_TASKS: Final = re.compile(rf"(?i)\btask(?:[._]id)?{_Q}\s?[:= ]\s?{_Q}([0-9a-z]{{8,25}})\b")
_ID: Final = re.compile(r"(?<![0-9A-Za-z_.-])[0-9a-z]{7,25}(?![0-9A-Za-z_-])")

DEVICE: Final = re.compile(
    r"(?<![\w.-])((?:vx|ov)-[0-9a-f]{6}-[0-9a-z]{5}|vxlan[0-9]{1,4}|testvxlan1?"
    r"|vxlan(?:-v6)?\.calico|flannel\.[0-9]{1,8}|cilium_vxlan)(?![\w-])"
)
_LINK: Final = re.compile(
    r"(?:^|\n)\s{0,9}([0-9]{1,7}):\s([^\s:@]{1,40})(?:@[^\s:]{1,40})?:\s<([A-Z0-9_,-]{0,300})>"
)
"""A line of `ip link`."""
_HEX_NAME: Final = re.compile(r"vx-([0-9a-f]{6})-([0-9a-z]{5})")
_VNI: Final = re.compile(r"(?i)\b(?:vni|vxlan[ _.-]?id|vxlan id)[^\w]{0,3}([0-9]{1,8})\b")
_CIDR: Final = re.compile(
    r"(?<![0-9A-Za-z.:])(?:(?:[0-9]{1,3}\.){3}[0-9]{1,3}/[0-9]{1,2}|[0-9a-fA-F:]{2,39}::/[0-9]{1,3})(?![0-9])"
)

_ISO: Final = re.compile(
    r"(?<![0-9])([0-9]{4})[-/]([0-9]{2})[-/]([0-9]{2})[T ]([0-9]{2}):([0-9]{2}):([0-9]{2})"
    r"(?:[.,]([0-9]{1,9}))?\s?(Z|UTC|[+-][0-9]{2}:?[0-9]{2})?"
)
_SYSLOG: Final = re.compile(
    r"(?:^|\n|>)([A-Z][a-z]{2})\s{1,2}([0-9]{1,2})\s([0-9]{2}):([0-9]{2}):([0-9]{2})"
)
_AGO: Final = re.compile(
    r"(?i)\b(less than a second|an?|about an?|[0-9]{1,4})\s(second|minute|hour|day|week|month|year)?s?\s?ago"
)
_MONTHS: Final = "JanFebMarAprMayJunJulAugSepOctNovDec"
_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800,
    "month": 2_592_000, "year": 31_536_000}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Device:
    """A device that a line names; `flags` as `ip link` prints them (None: it is not such a line)."""

    name: str
    flags: frozenset[str] | None = None

    @property
    def vni(self) -> int | None:
        found = _HEX_NAME.fullmatch(self.name)
        return None if found is None else int(found[1], 16)

    @property
    def network_prefix(self) -> str | None:
        """The first five characters of the network's id."""
        found = _HEX_NAME.fullmatch(self.name)
        return None if found is None else found[2]


@dataclass(frozen=True, slots=True)
class Time:
    """When a line was written: not later than this; `exact` if it says so with its time zone."""

    at: datetime
    exact: bool


@dataclass(frozen=True, slots=True)
class Clues:
    """What a record names; names are candidates, in lower case, in the order of the line."""

    nodes: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    """Those of `nodes` that stand where nothing but a node's name stands."""
    networks: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    """Weak candidates for either."""
    ids: tuple[str, ...] = ()
    """Ids, or their first seven and more characters."""
    tasks: tuple[str, ...] = ()
    service: str | None = None
    devices: tuple[Device, ...] = ()
    vnis: tuple[int, ...] = ()
    subnets: tuple[str, ...] = ()
    time: Time | None = None


def clues(text: str, now: datetime, at: int | None = None) -> Clues:
    """Find what a cleaned record names; `now` for times without a year or a date.

    Of a long record the begin and the end are searched, and what is around the position `at`.
    """
    time = time_of(text, now)
    if len(text) > _MAX_LENGTH:
        part = _MAX_LENGTH // 4
        middle = 2 * part if at is None else min(max(at, 2 * part), len(text) - 2 * part)
        text = "\n".join((text[:part], text[middle - part : middle + part], text[-part:]))
    rows = [*_ROW.finditer(text), *_SHORT_ROW.finditer(text)]
    rows = rows or [*_UNNUMBERED_ROW.finditer(text)]
    links = [Device(found[2], frozenset(found[3].split(","))) for found in _LINK.finditer(text)]
    devices = links + [
        Device(name) for name in DEVICE.findall(text) if all(link.name != name for link in links)
    ]
    vnis = [int(digits) for digits in _VNI.findall(text)]
    vnis += [device.vni for device in devices if device.vni is not None]
    column = [row["node"] for row in rows]
    words = _words(text)
    return Clues(
        # In a table, NODE says it: no other word there does.
        nodes=_unique(column or _found(_NODES, text)),
        hosts=_unique(column or _found(_HOSTS, text)),
        networks=_unique(_found(_NETWORKS, text)),
        words=() if column else words,
        ids=_unique(word for word in _ID.findall(text) if any(map(str.isdigit, word)))[:50],
        tasks=_unique([*tasks_of(text), *(row["id"] for row in rows if row.groupdict().get("id"))]),
        service=next((_service(row["task"]) for row in rows), None),
        devices=tuple(dict.fromkeys(devices))[:20],
        vnis=tuple(dict.fromkeys(vni for vni in vnis if 0 < vni < 2**24))[:20],
        subnets=tuple(dict.fromkeys(_CIDR.findall(text)))[:20],
        time=time,
    )


def _service(task: str) -> str:
    """Return the service of a task: `web.1`, `agent.NODE-ID` or, until 1.13, the service's own name."""
    return task.rpartition(".")[0] or task


def tasks_of(text: str) -> tuple[str, ...]:
    """Return the ids of tasks that are named as such."""
    return _unique(_TASKS.findall(text))


def _found(patterns: Iterable[re.Pattern[str]], text: str) -> Iterator[str]:
    for pattern in patterns:
        for _, found in zip(range(_MAX_WORDS), pattern.finditer(text), strict=False):
            yield found[pattern.groups]


def _unique(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.rstrip(".-").lower() for word in words))[:_MAX_WORDS]


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in _unique(_WORD.findall(text)) if word not in ORDINARY)


def time_of(text: str, now: datetime) -> Time | None:
    """Return the latest time at which a text may have been written; None: it says nothing of it.

    Of several times the latest counts: a task's answer has the time of its creation, too.
    """
    exact: list[datetime] = []
    rough = [(_ago(found, now), timedelta(0)) for found in _AGO.finditer(text)]
    for found in _ISO.finditer(text):
        time = _iso(found, now)
        if time is not None and time.exact:
            exact.append(time.at)
        elif time is not None:
            rough.append((time.at, _MAX_OFFSET + _MIN_OFFSET))
    latest = max(exact, default=None)
    for found in _SYSLOG.finditer(text):
        time = _syslog(found, now)
        # A line of syslog has dockerd's own time besides, with its year and zone: both are one moment.
        if time is not None and (latest is None or not _is_same_time(found, latest)):
            rough.append((time.at, timedelta(0)))
    rough = [(at, spread) for at, spread in rough if latest is None or at - spread > latest]
    if rough:
        return Time(max(at for at, _ in rough), False)
    return None if latest is None else Time(latest, True)


def _is_same_time(found: re.Match[str], at: datetime) -> bool:
    """Whether a time of syslog, in some year and time zone, is this one."""
    for year in (at.year - 1, at.year, at.year + 1):
        naive = _in_year(found, year)
        if naive is not None and abs(naive.replace(tzinfo=UTC) - at) <= _MAX_OFFSET:
            return True
    return False


def _ago(found: re.Match[str], now: datetime) -> datetime:
    count = int(found[1]) if found[1].isdigit() else 0 if found[1].lower().startswith("less") else 1
    seconds = _SECONDS[(found[2] or "second").lower()] * count
    return now - timedelta(seconds=seconds)


def _iso(found: re.Match[str], now: datetime) -> Time | None:
    zone = found[8]
    fraction = int((found[7] or "0").ljust(6, "0")[:6])
    try:
        naive = datetime(*map(int, found.groups()[:6]), fraction)  # type: ignore[arg-type,call-arg] # noqa: DTZ001
        if zone is None:
            return _local(naive, now)
        if zone in ("Z", "UTC"):
            return Time(naive.replace(tzinfo=UTC), True)
        digits = zone.replace(":", "")
        offset = timedelta(hours=int(digits[1:3]), minutes=int(digits[3:5]))
        return Time(
            (naive - offset if zone[0] == "+" else naive + offset).replace(tzinfo=UTC), True
        )
    except (ValueError, OverflowError):
        return None


def _syslog(found: re.Match[str], now: datetime) -> Time | None:
    for year in (now.year + 1, now.year, now.year - 1, now.year - 2, now.year - 3, now.year - 4):
        naive = _in_year(found, year)
        if naive is not None and naive.replace(tzinfo=UTC) <= now + _MAX_OFFSET:
            return _local(naive, now)
    return None


def _in_year(found: re.Match[str], year: int) -> datetime | None:
    """Return a time of syslog in a year; None: there is no such month or day."""
    month, remainder = divmod(_MONTHS.find(found[1]), 3)
    if month < 0 or remainder:
        return None
    try:
        return datetime(year, month + 1, *map(int, found.groups()[1:]))  # type: ignore[arg-type] # noqa: DTZ001
    except ValueError:
        return None


_MAX_OFFSET: Final = timedelta(hours=14)
_MIN_OFFSET: Final = timedelta(hours=12)


def _local(naive: datetime, now: datetime) -> Time:
    """Return the latest time that a clock of any time zone can mean."""
    return Time(min(naive.replace(tzinfo=UTC) + _MIN_OFFSET, now), False)
