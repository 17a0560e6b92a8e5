"""Log lines: text or JSON, as asked or as standard error is, and never with foreign escape codes."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from contract.runtime.logs import configure_logging

HOSTILE = "vx-\x1b[31mred\x9b2J\u202e"


class Stream(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def logged(
    monkeypatch: pytest.MonkeyPatch, form: Literal["auto", "text", "json"], *, terminal: bool
) -> str:
    """One line of a library, with uvicorn's coloured copy and a hostile name."""
    stream = Stream(terminal=terminal)
    monkeypatch.setattr("sys.stderr", stream)
    configure_logging(form=form)
    logging.getLogger("some.library").warning(
        "found %s", HOSTILE, extra={"color_message": "found \x1b[36m%s\x1b[0m", "device": HOSTILE}
    )
    return stream.getvalue()


@pytest.mark.parametrize(
    ("form", "terminal", "is_json"),
    [
        ("auto", True, False),
        ("auto", False, True),
        ("text", True, False),
        ("text", False, False),
        ("json", True, True),
        ("json", False, True),
    ],
)
def test_the_form_is_the_one_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    form: Literal["auto", "text", "json"],
    terminal: bool,
    is_json: bool,
) -> None:
    line = logged(monkeypatch, form, terminal=terminal)
    assert line.startswith("{") is is_json
    assert HOSTILE not in line
    if is_json:
        found = json.loads(line)
        assert found["event"] == f"found {HOSTILE}", "nothing is lost"
        assert "color_message" not in found
        assert "\\u001b[36m" not in line
    if is_json or not terminal:
        assert "\x1b" not in line


def test_no_line_has_a_raw_control_character(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(char.isprintable() for char in logged(monkeypatch, "json", terminal=True).strip())
