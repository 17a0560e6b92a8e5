"""The forms of output, and values as a person reads them: times, durations, names."""

import json
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from rich.cells import cell_len, set_cell_size

from contract.runtime.text import printable


class Output(StrEnum):
    """Forms of output."""

    TABLE = "table"
    JSON = "json"


class Listing(StrEnum):
    """Forms of a list."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"


def as_json(answer: Any) -> None:
    """Print an answer as it came."""
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")


def netns(device: dict[str, Any]) -> str:
    """Where a device is, as a person finds it: the sandbox's file beside its number."""
    file = device["netns_file"]
    return str(device["netns"]) if file is None else f"{device['netns']} ({file})"


def short(text: str, most: int = 30) -> str:
    """A name that shall not push everything else off the screen, in at most so many cells."""
    text = printable(text)
    if cell_len(text) <= most:
        return text
    return set_cell_size(text, most - 1).rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def ago(moment: str | None) -> str:
    """How long ago (or ahead) an ISO time is, as people say it."""
    if moment is None:
        return "-"
    seconds = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    size = abs(seconds)
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if size >= 2 * length:
            words = f"{size / length:.0f}{unit}"
            break
    else:
        words = f"{size:.0f}s"
    return f"{words} ago" if seconds >= 0 else f"in {words}"


def seconds_between(begin: str, end: str) -> float:
    """From one ISO time to another."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def clock(moment: str) -> str:
    """An ISO time in this machine's zone."""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def length(seconds: float) -> str:
    """How long something took, as people say it."""
    size = abs(seconds)
    if size < 1:
        words = f"{size * 1000:.0f} ms"
    elif size < 120:
        words = f"{size:.1f} s"
    elif size < 7200:
        words = f"{size / 60:.0f} min"
    else:
        words = f"{size / 3600:.0f} h"
    return words if seconds >= 0 else f"-{words}"
