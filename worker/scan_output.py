"""What `vxlan-worker scan` prints: the table, JSON, its record of removals, and its progress."""

import json
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self
from uuid import UUID

from contract.runtime.text import printable, with_file
from worker.journal import Record
from worker.judge import Judgement
from worker.kernel.model import Identity, View, some
from worker.scan_journal import ScanJournal

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


class Recorder:
    """Prints the removals of a scan, and leaves them for the worker's journal, if there is one.

    Args:
        journal: where the journal should be.
        run_id: names the scan.
        named: a person has named the journal, so it is told if there is none.

    Attributes:
        kept: they are left there.
    """

    def __init__(self, journal: Path, run_id: UUID, *, named: bool) -> None:
        self._file = ScanJournal(journal, run_id)
        self.kept = False
        try:
            self.kept = stat.S_ISREG(journal.lstat().st_mode)
            if not self.kept:
                _say_unkept(f"the journal {journal} is not a regular file")
        except FileNotFoundError:
            if named:
                _say_unkept(f"there is no journal {journal}")
        except OSError as error:
            _say_unkept(f"the journal {journal} cannot be reached: {error.strerror}")

    def __call__(self, records: Iterable[Record]) -> None:
        """Take records in; when this returns, they are on disk, or it was said why not."""
        given = list(records)
        if self.kept and given:
            try:
                self._file.append(given)
            except OSError as error:
                self.kept = False
                _say_unkept(f"{self._file.path} cannot be written: {error.strerror}")
        for record in given:
            _say(f"{record.stage}: {record.identity}: {record.reason}")
        sys.stderr.flush()

    def close(self) -> None:
        """Let the worker have what is there."""
        self._file.close()
        if self.kept:
            _say(f"recorded: the worker takes {self._file.path} over at its next run")


def _say_unkept(why: str) -> None:
    _say(f"warning: {why}; the audit trail will lack these removals, so keep what is printed here")


def _say(line: str) -> None:
    sys.stderr.write(printable(line) + "\n")


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
