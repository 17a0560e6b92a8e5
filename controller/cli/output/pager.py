"""Output that is longer than the terminal goes to `$PAGER`, as it comes."""

import io
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Final, TextIO

_LESS: Final = "FRX"
"""Options of less: quit if it fits one screen, show colours, do not clear the screen."""


class _Pages(io.TextIOBase):
    """Keeps a screenful; starts the pager when there is more, and then hands everything on."""

    def __init__(self, terminal: TextIO, command: list[str]) -> None:
        self._terminal = terminal
        self._command = command
        self._kept: list[str] = []
        self._room = shutil.get_terminal_size().lines - 1
        self._pager: subprocess.Popen[str] | None = None

    def isatty(self) -> bool:
        """Whether this leads to a terminal: it does."""
        return True

    def fileno(self) -> int:
        """Return the terminal's."""
        return self._terminal.fileno()

    def write(self, text: str) -> int:
        if self._pager is not None and self._pager.stdin is not None:
            self._pager.stdin.write(text)
            return len(text)
        self._kept.append(text)
        self._room -= text.count("\n")
        if self._room < 0:
            self._start()
        return len(text)

    def _start(self) -> None:
        environment = os.environ | {"LESS": os.environ.get("LESS", _LESS)}
        try:
            self._pager = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, env=environment, text=True
            )
        except OSError as error:
            sys.stderr.write(f"the pager {self._command[0]!r} does not start: {error.strerror}\n")
            self._room = sys.maxsize
            return
        kept, self._kept = "".join(self._kept), []
        self.write(kept)

    def finish(self) -> None:
        """Print what was kept, or wait until the person has seen enough of the pager."""
        if self._pager is None:
            self._terminal.write("".join(self._kept))
            self._terminal.flush()
            return
        try:
            if self._pager.stdin is not None:
                self._pager.stdin.close()
        except BrokenPipeError:
            pass
        while True:
            try:
                self._pager.wait()
            except KeyboardInterrupt:  # Less takes Ctrl-C for itself: it is not the end.
                continue
            return


@contextmanager
def pages() -> Iterator[None]:
    """Send standard output to a pager if it is a terminal and the output is longer than that."""
    command = shlex.split(os.environ.get("PAGER", "less"))
    if (
        not (sys.stdout.isatty() and sys.stdin.isatty())
        or not command
        or not shutil.which(command[0])
    ):
        yield
        return
    stream = _Pages(sys.stdout, command)
    try:
        with redirect_stdout(stream):
            yield
    finally:
        stream.finish()
