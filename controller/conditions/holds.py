"""What holds removals back: where, by whom, since when, why, and the command that ends it. Pure.

Several holds may apply to one device; it is removed when the last one has ended.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from contract.verdicts import HeldBack, Mode
from controller.conditions.model import format_time, quoted
from controller.db.pauses import Pausable
from controller.db.states import CONTROLLER

CLUSTER: Final = "the cluster"
"""`Hold.where` of what holds back everywhere."""
LABEL: Final = "the Swarm label"
"""`Hold.by` begins with it, if no person set it."""
_PLAIN: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]*")
"""A name that a shell, and an argument parser, takes as it stands."""


class Restrictable(Pausable, Protocol):
    """A cluster, node or network, or a row with these columns of one."""

    @property
    def mode(self) -> Mode | None: ...
    @property
    def mode_at(self) -> datetime | None: ...
    @property
    def mode_by(self) -> str | None: ...
    @property
    def mode_reason(self) -> str | None: ...


class Labelled(Restrictable, Protocol):
    """A node or network, or a row with these columns of one."""

    @property
    def label_mode(self) -> Mode | None: ...
    @property
    def label_ignore(self) -> bool: ...


class Breakable(Protocol):
    """A cluster or node, or a row with these columns of one."""

    @property
    def breaker_tripped_at(self) -> datetime | None: ...
    @property
    def breaker_reason(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Hold:
    """Something that holds removals back.

    Attributes:
        where: what it was set on: `the cluster`, `node node3`, `network shop`.
        by: the person, or what else set it; None: unknown.
        since: when it was set; None: unknown (labels and settings have no time).
        why: in the person's words, or those of the breaker or worker; None: no reason was given.
        command: ends it, as it can be typed; None: no command does.
        until: what ends it, as a phrase that contains the command.
    """

    reason: HeldBack
    where: str
    by: str | None
    since: datetime | None
    why: str | None
    command: str | None
    until: str

    def __str__(self) -> str:
        """`mode observe of network shop, set by ann at 2026-01-01 12:00:00 UTC: leak 4711`."""
        what, by, when = _OF_WORKER if self.by == _WORKER else _WORDS[self.reason]
        who = "" if by is None or self.by is None else f"{by} {self.by}"
        at = "" if self.since is None else f" {when} {format_time(self.since)}"
        why = "" if self.why is None else f": {quoted(self.why)}"
        return what.format(self.where) + who + at + why


_WORDS: Final = {
    HeldBack.PAUSE: ("{} is paused", " by", "since"),
    HeldBack.BREAKER: ("the breaker of {} has tripped", None, "at"),
    HeldBack.MODE: ("mode observe of {}", ", set by", "at"),
    HeldBack.PROOF: ("no proof yet on {}", None, "since"),
}
"""What holds back, who set it, and the time."""
_WORKER: Final = "its worker"
_OF_WORKER: Final = ("the worker of {}", None, "since")


class Names:
    """Names of nodes or networks as they can be typed in a command.

    A name that several have, that begins the id of another, or that a shell would not take as it stands, is
    replaced by the id.
    """

    def __init__(self, ids_and_names: Iterable[tuple[str, str]]) -> None:
        self._names = dict(ids_and_names)
        self._counts = Counter(self._names.values())
        self._ids = sorted(self._names)

    def typed(self, id_: str) -> str:
        """Return the name of the node or network with this id, or the id."""
        name = self._names.get(id_, id_)
        if not _PLAIN.fullmatch(name) or self._counts[name] > 1:
            return id_
        at = bisect_left(self._ids, name)
        begun = [other for other in self._ids[at : at + 2] if other.startswith(name)]
        return id_ if begun not in ([], [id_]) else name


def typed_name(id_: str, name: str) -> str:
    """Return the name where it can be typed, otherwise the id; for when other names are not known."""
    return name if _PLAIN.fullmatch(name) else id_


def of_cluster(cluster: "ClusterRow", configured: Mode) -> list[Hold]:
    """Return what holds removals back everywhere; `configured`: the mode in the controller's settings."""
    holds = [*_pauses(cluster, CLUSTER, "vxctl resume --cluster")]
    holds += _breakers(cluster, CLUSTER)
    if cluster.mode is Mode.OBSERVE:
        holds.append(_mode(cluster, CLUSTER, "--cluster"))
    elif cluster.mode is None and configured is Mode.OBSERVE:
        command = "vxctl mode enforce --cluster"
        by = "VXLAN_OPERATOR_MODE in the controller's settings"
        until = f"`{command}` ends it"
        holds.append(Hold(HeldBack.MODE, CLUSTER, by, None, None, command, until))
    return holds


def of_node(node: "NodeRow", typed: str) -> list[Hold]:
    """Return what holds removals back on a node; `typed`: its name as it can be typed."""
    where = f"node {quoted(node.hostname)}"
    holds = [*_pauses(node, where, f"vxctl resume {typed}")]
    if node.label_ignore:
        command = f"docker node update --label-rm vxlan-operator.ignore {typed}"
        holds.append(_label(HeldBack.PAUSE, where, "vxlan-operator.ignore", command))
    holds += _breakers(node, where, typed)
    if node.label_mode is Mode.OBSERVE:
        command = f"docker node update --label-rm vxlan-operator.mode {typed}"
        holds.append(_label(HeldBack.MODE, where, "vxlan-operator.mode", command))
    if node.mode is Mode.OBSERVE:
        holds.append(_mode(node, where, typed))
    return holds


def of_network(network: "NetworkRow", typed: str) -> list[Hold]:
    """Return what holds back removals of a network's devices; `typed`: its name as it can be typed."""
    where = f"network {quoted(network.name)}"
    holds = [*_pauses(network, where, f"vxctl resume --network {typed}")]
    if network.label_ignore:
        holds.append(_label(HeldBack.PAUSE, where, "vxlan-operator.ignore", None))
    if network.label_mode is Mode.OBSERVE:
        holds.append(_label(HeldBack.MODE, where, "vxlan-operator.mode", None))
    if network.mode is Mode.OBSERVE:
        holds.append(_mode(network, where, f"--network {typed}"))
    return holds


def of_worker(reason: HeldBack, node: str, typed: str, since: datetime | None) -> Hold:
    """Return what a node's worker said of a device that it left.

    Args:
        node: the node's hostname.
        since: since when the device is as it is.
    """
    where = f"node {quoted(node)}"
    command, until = None, "the next run tries again"
    why = _WORKERS[reason]
    if reason is HeldBack.WORKER_MODE:
        until = (
            "VXLAN_OPERATOR_MODE=enforce in the settings of vxlan-worker on the node, and its restart, "
            "end it"
        )
    elif reason is HeldBack.PORT:
        until = (
            "a container of an overlay network on the node ends it, or VXLAN_OPERATOR_DATA_PATH_PORT in the "
            "settings of its vxlan-worker"
        )
    elif reason is HeldBack.LIMIT:
        until = "the next run goes on"
    elif reason is HeldBack.BREAKER:
        until = "it ends when the removals of the node are older than the breaker's window: `vxctl breaker`"
    elif reason in (HeldBack.FAILED, HeldBack.CHANGED):
        stage = "failed" if reason is HeldBack.FAILED else "refused"
        until = f"the next run tries again; `vxctl audit --node {typed} --stage {stage}` shows the error"
    elif reason is HeldBack.JOURNAL:
        until = "it ends when the controller has stored the journal's entries, with the next runs"
    return Hold(reason, where, _WORKER, since, why, command, until)


def without_proof(node: str, typed: str, since: datetime, why: str) -> Hold:
    """Return the hold on a device that looks dead without proof; `why`: which proof is missing."""
    until = f"the proof ends it; `vxctl describe node {typed}` shows which is missing"
    return Hold(HeldBack.PROOF, f"node {quoted(node)}", CONTROLLER, since, why, None, until)


def listed(causes: Sequence[tuple[str, Hold]]) -> str:
    """Return the end of a sentence: each cause, and directly behind it, in brackets, what ends that one.

    Args:
        causes: at least one; each with what it applies to (`2 of them`), or nothing.
    """
    shown = causes[:_MAX_LISTED]
    room = _MAX_SHOWN // len(shown)
    texts = [
        f"{scope}{': ' if scope else ''}{quoted(str(hold), room)} ({hold.until})"
        for scope, hold in shown
    ]
    if len(texts) == 1:
        return f": {texts[0]}"
    numbered = "; ".join(f"{number}) {text}" for number, text in enumerate(texts, start=1))
    more = len(causes) - len(shown)
    rest = "" if more <= 0 else f"; and {more} more: `vxctl suppressed` shows all"
    return f", for {len(causes)} reasons: {numbered}{rest}"


_MAX_LISTED: Final = 4
_MAX_SHOWN: Final = 480
"""Characters of all causes, besides what ends them: a notification has a thousand for the whole message."""


_WORKERS: Final[Mapping[HeldBack, str]] = {
    HeldBack.WORKER_MODE: "VXLAN_OPERATOR_MODE is observe there",
    HeldBack.PORT: "nothing on the node shows that its UDP port is the Swarm's data path port",
    HeldBack.LIMIT: "more orphans than a run may remove, as MAX_REMOVALS_PER_RUN says",
    HeldBack.BREAKER: "the breaker allows the node no more removals for now",
    HeldBack.JOURNAL: "its entries are not acknowledged, and nothing is removed without a record",
    HeldBack.CHANGED: "the device was not any more what had been judged",
    HeldBack.FAILED: "the kernel refused",
}
"""What a worker can say, and the reason in words."""


def _pauses(row: Pausable, where: str, command: str) -> Iterator[Hold]:
    if row.paused_at is not None:
        until = f"`{command}` ends the pause"
        if row.paused_until is not None:
            until += f", which else ends by itself at {format_time(row.paused_until)}"
        by, why = row.paused_by, row.paused_reason
        yield Hold(HeldBack.PAUSE, where, by, row.paused_at, why, command, until)


def _breakers(row: Breakable, where: str, node: str = "") -> Iterator[Hold]:
    if row.breaker_tripped_at is not None:
        audit = f"vxctl audit --node {node}" if node else "vxctl audit"
        command = f"vxctl breaker reset {node}".strip()
        until = f"find out with `{audit}` why so much leaks, then `{command}`"
        why = row.breaker_reason or "too much was removed at once"
        yield Hold(HeldBack.BREAKER, where, None, row.breaker_tripped_at, why, command, until)


def _mode(row: Restrictable, where: str, target: str) -> Hold:
    command = f"vxctl mode enforce {target}"
    until = f"`{command}` ends it"
    return Hold(HeldBack.MODE, where, row.mode_by, row.mode_at, row.mode_reason, command, until)


def _label(reason: HeldBack, where: str, label: str, command: str | None) -> Hold:
    until = (
        f"a network's labels cannot be changed: create the network again without {label}"
        if command is None
        else f"`{command}` ends it"
    )
    return Hold(reason, where, f"{LABEL} {label}", None, None, command, until)


class ClusterRow(Restrictable, Breakable, Protocol):
    """The columns of the cluster that hold removals back."""


class NodeRow(Labelled, Breakable, Protocol):
    """The columns of a node that hold removals back."""

    @property
    def hostname(self) -> str: ...


class NetworkRow(Labelled, Protocol):
    """The columns of a network that hold removals back."""

    @property
    def name(self) -> str: ...


def ordered(holds: Iterable[Hold]) -> list[Hold]:
    """Return holds in the order in which a person meets them: pause, breaker, mode, what workers say."""
    order = list(HeldBack)
    return sorted(holds, key=lambda hold: order.index(hold.reason))
