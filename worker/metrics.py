"""The worker's metrics in Prometheus's text format: by hand, for the image has no library for it.

No label has a value that comes from elsewhere: all are of our own enumerations. docs/metrics.md lists all.
"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from contract import VERSION
from contract.runtime.refusals import refusals
from contract.signing.refusals import Reason
from contract.verdicts import Outcome
from worker import capabilities
from worker.kernel.statistics import BUCKETS, statistics

PREFIX: Final = "vxlan_operator_worker_"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_PROC: Final = Path("/proc/self")
_STARTED_AT: Final = time.time()
_CAPABILITIES: Final = {
    "net_admin": capabilities.NET_ADMIN,
    "net_broadcast": capabilities.NET_BROADCAST,
}


class Facts(NamedTuple):
    """What a worker knows of itself.

    Attributes:
        mode: by its own settings.
        journal_backlog: entries that the controller has not acknowledged.
        outbox: messages that wait for the broker.
        outbox_dropped: messages that a full outbox lost.
        request_age: seconds since the last request that was run, or since the start.
        request_overdue: seconds by which the next one is late; 0: it is not.
        runs: by outcome.
        loops: whether each has stalled.
        second_worker: another worker serves this node.
    """

    mode: str
    journal_backlog: int
    outbox: int
    outbox_dropped: int
    request_age: float
    request_overdue: float
    runs: Mapping[Outcome, int]
    loops: Mapping[str, bool]
    second_worker: bool


class _Family(NamedTuple):
    """A metric: samples are suffix of the name, labels and value."""

    name: str
    kind: str
    text: str
    samples: Sequence[tuple[str, Mapping[str, str], float]]


def text(facts: Facts) -> bytes:
    """Return all metrics."""
    return "".join(_lines(_families(facts))).encode()


def _lines(families: Iterable[_Family]) -> Iterator[str]:
    for name, kind, words, samples in families:
        yield f"# HELP {name} {words}\n# TYPE {name} {kind}\n"
        for suffix, labels, value in samples:
            listed = ",".join(f'{label}="{_escaped(content)}"' for label, content in labels.items())
            yield f"{name}{suffix}{f'{{{listed}}}' if listed else ''} {value!r}\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _one(name: str, words: str, value: float, kind: str = "gauge") -> _Family:
    return _Family(PREFIX + name, kind, words, [("", {}, float(value))])


def _by(
    name: str, words: str, label: str, values: Mapping[str, float], kind: str = "gauge"
) -> _Family:
    samples = [("", {label: value}, float(number)) for value, number in values.items()]
    return _Family(PREFIX + name, kind, words, samples)


def _families(facts: Facts) -> Iterator[_Family]:
    info = [("", {"version": VERSION, "mode": facts.mode}, 1.0)]
    yield _Family(f"{PREFIX}info", "gauge", "The version, and the mode of its own settings.", info)
    yield _one(
        "journal_backlog",
        "Journal entries that no controller has acknowledged; at 10000 nothing more is removed.",
        facts.journal_backlog,
    )
    yield _one("outbox_messages", "Messages that wait for the broker.", facts.outbox)
    text = "Messages that a full outbox lost; what matters is repeated."
    yield _one("outbox_dropped_total", text, facts.outbox_dropped, "counter")
    text = "Time since the last request that was run, or since the start."
    yield _one("request_age_seconds", text, facts.request_age)
    text = "Time by which the next request is late; 0: it is not."
    yield _one("request_overdue_seconds", text, facts.request_overdue)
    runs = {outcome.value: facts.runs.get(outcome, 0) for outcome in Outcome}
    yield _by("runs_total", "Runs by outcome.", "outcome", runs, "counter")
    yield _looks()
    errors = {kind.value: number for kind, number in statistics.errors().items()}
    yield _by("netlink_errors_total", "Errors of route netlink by kind.", "kind", errors, "counter")
    bits = capabilities.effective()
    held = {name: bits >> bit & 1 for name, bit in _CAPABILITIES.items()}
    yield _by("capability", "Whether it has a capability (1 or 0).", "capability", held)
    loops = {name.replace(" ", "_"): float(stalled) for name, stalled in facts.loops.items()}
    yield _by("loop_stalled", "Whether a loop does not go on (1 or 0).", "loop", loops)
    text = "Whether another worker serves this node (1 or 0)."
    yield _one("second_worker", text, facts.second_worker)
    counts = refusals.counts
    refused = {reason.value: counts.get(reason, 0) for reason in Reason}
    text = "Messages that this process refused, and that did nothing."
    yield _by("messages_refused_total", text, "reason", refused, "counter")
    yield from _of_process()


def _looks() -> _Family:
    counts, seconds = statistics.looks()
    bounds = [*map(str, BUCKETS), "+Inf"]
    samples: list[tuple[str, Mapping[str, str], float]] = [
        ("_bucket", {"le": bound}, float(count))
        for bound, count in zip(bounds, counts, strict=True)
    ]
    samples += [("_sum", {}, seconds), ("_count", {}, float(counts[-1]))]
    return _Family(f"{PREFIX}look_seconds", "histogram", "Time of looks at all devices.", samples)


def _of_process() -> Iterator[_Family]:
    """The usual metrics of a process (the names of Prometheus's client libraries)."""
    times = os.times()
    pages = int((_PROC / "statm").read_text().split()[1])
    values = (
        ("cpu_seconds_total", "counter", "Time of the processor.", times.user + times.system),
        ("resident_memory_bytes", "gauge", "Memory.", float(pages * os.sysconf("SC_PAGE_SIZE"))),
        ("open_fds", "gauge", "Open files.", float(len(os.listdir(_PROC / "fd")))),  # noqa: PTH208
        ("start_time_seconds", "gauge", "Start of the process, since 1970.", _STARTED_AT),
    )
    for name, kind, words, value in values:
        yield _Family(f"process_{name}", kind, words, [("", {}, value)])
