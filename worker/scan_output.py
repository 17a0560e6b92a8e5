"""What `vxlan-worker scan` prints: the table, JSON, its record of removals, and its progress."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Self

from contract.runtime.text import printable, with_file
from worker.journal import Record
from worker.judge import Judgement
from worker.kernel.model import Identity, View, some

_COLUMNS: Final = (
    "DEVICE",
    "NETNS",
    "VNI",
    "PORT",
    "STATE",
    "NETWORK",
    "VERDICT",
    "REASON",
)

_WORTH_A_LINE_SECONDS: Final = 1.0
"""A shorter wait needs no line in a log."""


def print_records(records: Iterable[Record]) -> None:
    """Print removals to standard error."""
    for record in records:
        line = f"{record.stage}: {record.identity}: {record.reason}"
        sys.stderr.write(printable(line) + "\n")
    sys.stderr.flush()


class Progress:
    """A line about what a scan waits for: kept up to date on a terminal, printed once elsewhere."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown and self._on_terminal:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def show(self, devices: Sequence[Identity], left: float) -> None:
        if not self._on_terminal and (self._shown or left < _WORTH_A_LINE_SECONDS):
            return
        names = printable(some([f"{device.name} in {device.netns}" for device in devices]))
        line = f"waiting up to {left:.0f} s more, to rule out a join: {names}"
        sys.stderr.write(f"\r\033[K{line}" if self._on_terminal else f"{line}\n")
        sys.stderr.flush()
        self._shown = True


def describe(judgement: Judgement, removed: bool, files: Mapping[int, str]) -> dict[str, object]:
    """Describe a device, as JSON; the names are a promise to scripts. `files`: of namespaces, by nsid."""
    identity = judgement.device.identity
    network = judgement.network
    return {
        "device": identity.name,
        "ifindex": identity.ifindex,
        "netns": str(identity.netns),
        "netns_file": None if identity.netns.nsid is None else files.get(identity.netns.nsid),
        "vni": identity.vni,
        "port": identity.port,
        "state": "UP" if judgement.device.up else "DOWN",
        "network": None if network is None else network.name,
        "network_id": None if network is None else network.id,
        "verdict": judgement.verdict.value,
        "removed": removed,
        "reason": judgement.reason,
        "evidence": judgement.device.evidence,
    }


def print_json(view: View, rows: Sequence[Mapping[str, object]]) -> None:
    """Print devices and limitations to standard output."""
    json.dump({"devices": rows, "limitations": view.limitations}, sys.stdout, indent=2)
    sys.stdout.write("\n")


def print_table(view: View, rows: Sequence[Mapping[str, object]]) -> None:
    """Print limitations and devices to standard output."""
    for limitation in view.limitations:
        sys.stdout.write(f"Attention: {limitation}\n")
    if not rows:
        sys.stdout.write("This node has no VXLAN devices.\n")
        return
    cells: list[Sequence[object]] = [_COLUMNS]
    for row in rows:
        netns = with_file(row["netns"], row["netns_file"])
        verdict = "removed" if row["removed"] else row["verdict"]
        facts = (row["vni"], row["port"], row["state"], row["network"] or "-")
        cells.append([row["device"], netns, *facts, verdict, row["reason"]])
    lines = [[printable(str(cell)) for cell in line] for line in cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write("  ".join(padded).rstrip() + "\n")
