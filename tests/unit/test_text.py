"""No text from elsewhere drives a terminal, or turns the direction of what stands beside it."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest

from contract.runtime.errors import OperatorError, print_error
from contract.runtime.text import printable
from contract.verdicts import Stage, Urgency
from tests.builders import identity
from worker.journal import Record
from worker.scan_output import Recorder

HOSTILE: Final = "a\x1b[31mb\x1b]0;title\x07c\x9b2Jd\r\ne\u202ef\u2066g\x7f\0h"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("node-1.example", "node-1.example"),
        ("knöten 节点 \N{SNOWMAN}", "knöten 节点 \N{SNOWMAN}"),
        ("\x1b[2Jx", r"\x1b[2Jx"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\u202eevil", r"\u202eevil"),
        ("\U000e0041", r"\U000e0041"),
        ("\udcff", r"\udcff"),
        ("C:\\x1b", "C:\\x1b"),
        (HOSTILE, r"a\x1b[31mb\x1b]0;title\x07c\x9b2Jd\r\ne\u202ef\u2066g\x7f\x00h"),
    ],
)
def test_what_is_not_printable_is_shown_as_its_code(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("code", [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x061C])
def test_nothing_turns_the_direction_of_text(code: int) -> None:
    assert printable(chr(code)) == f"\\u{code:04x}"


def test_the_lines_of_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(OperatorError(f"2 nodes are called {HOSTILE}", f"name {HOSTILE}"))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


def test_what_a_scan_removes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = Record(UUID(int=1), Stage.PLANNED, identity(), Urgency.STALE, None, HOSTILE, "")
    Recorder(tmp_path / "journal.jsonl", UUID(int=1), named=False)([record])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable()


_LOGGING: Final = """
import logging, sys, structlog
from contract.runtime.logs import configure_logging
hostile = sys.argv[1].encode("ascii").decode("unicode_escape")
sys.stderr.isatty = lambda: sys.argv[2] == "console"
configure_logging()
log = structlog.get_logger("ours")
log.info("said", name=hostile, bare="x\\x1b[2J\\x07\\u202e", nested={hostile: [hostile, (hostile,)]})
log.info(hostile)
log.bind(**{hostile: 1}).warning("a key")
logging.getLogger(hostile).warning("theirs %s", hostile, extra={"more": hostile})
try:
    raise ValueError(hostile)
except ValueError as error:
    log.exception("failed", error=error)
    logging.getLogger("theirs").exception("failed too")
"""
_COLOUR: Final = re.compile(r"\x1b\[\d{0,2}m")


def logged(form: str) -> Iterator[str]:
    """The lines that a program logs of hostile names, without the colours of the console's own."""
    # Without its first sequence, which could be taken for one of the console's.
    hostile = HOSTILE.replace("\x1b[31m", "\x1b[2J").encode("unicode_escape").decode()
    done = subprocess.run(
        [sys.executable, "-c", _LOGGING, hostile, form],
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert b"\r" not in done.stderr
    return iter(_COLOUR.sub("", done.stderr.decode()).removesuffix("\n").split("\n"))


def test_the_log_at_a_terminal() -> None:
    lines = list(logged("console"))
    assert all(line.isprintable() for line in lines), lines
    assert sum("Traceback" in line for line in lines) == 2
    assert sum(line.startswith("ValueError: ") for line in lines) == 2, (
        "tracebacks keep their lines"
    )


def test_the_log_for_machines_says_names_as_they_are() -> None:
    first, second, *_ = (json.loads(line) for line in logged("json"))
    hostile = HOSTILE.replace("\x1b[31m", "\x1b[2J")
    assert first["name"] == second["event"] == hostile
    assert first["nested"] == {hostile: [hostile, [hostile]]}
