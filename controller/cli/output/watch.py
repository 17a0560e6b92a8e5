"""Showing something again and again, in place, until Ctrl-C."""

import io
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Final

from contract.runtime.errors import OperatorError

_SECONDS: Final = 2.0
_BEGIN: Final = "\x1b[?7l\x1b[H\x1b[2J"
"""Cut long lines (DECAWM off), for a line that wraps is two; home; clear."""
_END: Final = "\x1b[?7h\n"
_HOME: Final = "\x1b[H"
_END_OF_LINE: Final = "\x1b[K\n"
_REST_OF_SCREEN: Final = "\x1b[J"


class _Screen(io.StringIO):
    """Takes what is for the terminal."""

    def isatty(self) -> bool:
        return True


def watch(draw: Callable[[int], None]) -> None:
    """Draw every two seconds; what does not fit the terminal's height is only counted.

    While the controller does not answer, that is shown, and it is asked again.

    Args:
        draw: prints to standard output; is told how many lines there are.

    Raises:
        OperatorError: there is no terminal.
    """
    if not sys.stdout.isatty():
        raise OperatorError(
            "--watch needs a terminal", "leave --watch out, or run it without a pipe"
        )
    sys.stdout.write(_BEGIN)
    try:
        while True:
            height = shutil.get_terminal_size().lines
            sys.stdout.write(_HOME + _END_OF_LINE.join(_picture(draw, height)) + _REST_OF_SCREEN)
            sys.stdout.flush()
            time.sleep(_SECONDS)
    except KeyboardInterrupt:
        pass
    finally:
        sys.stdout.write(_END)


def _picture(draw: Callable[[int], None], height: int) -> list[str]:
    """What there is to see, in at most one line less than the terminal has."""
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
