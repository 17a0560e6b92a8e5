"""Redrawing a view on a terminal every two seconds, until Ctrl-C."""

import io
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Final

from contract.runtime.errors import OperatorError, UsageError

_SECONDS: Final = 2.0
_BEGIN: Final = "\x1b[?7l\x1b[H\x1b[2J"
"""Cut long lines (DECAWM off), since a wrapped line takes two; home; clear."""
_END: Final = "\x1b[?7h\n"
_HOME: Final = "\x1b[H"
_END_OF_LINE: Final = "\x1b[K\n"
_REST_OF_SCREEN: Final = "\x1b[J"


class _Screen(io.StringIO):
    """Takes what is for the terminal."""

    def isatty(self) -> bool:
        return True


def watch(draw: Callable[[int], object]) -> None:
    """Draw every two seconds; only count the lines that exceed the terminal's height.

    While the controller does not answer, show that, and ask again.

    Args:
        draw: prints to standard output; takes the number of the terminal's lines.

    Raises:
        UsageError: standard output is not a terminal.
    """
    if not sys.stdout.isatty():
        raise UsageError("--watch needs a terminal", "omit --watch, or run it without a pipe")
    sys.stdout.write(_BEGIN)
    try:
        while True:
            height = shutil.get_terminal_size().lines
            sys.stdout.write(_HOME + _END_OF_LINE.join(_picture(draw, height)) + _REST_OF_SCREEN)
            sys.stdout.flush()
            time.sleep(_SECONDS)
    finally:
        sys.stdout.write(_END)


def _picture(draw: Callable[[int], object], height: int) -> list[str]:
    """Return the lines to show, at most one less than the terminal has."""
    screen = _Screen()
    with redirect_stdout(screen):
        try:
            draw(height)
        except OperatorError as error:
            sys.stdout.write(error.lines())
    lines = screen.getvalue().splitlines()
    room = max(height - 1, 2)
    if len(lines) > room:
        lines = [*lines[: room - 1], f"... and {len(lines) - room + 1} more lines"]
    return lines
