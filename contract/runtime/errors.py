"""`OperatorError`: what ends a command with two lines, `error:` and `hint:`, and no traceback."""

import sys

from contract.runtime.exit_status import ExitStatus
from contract.runtime.text import printable


class OperatorError(Exception):
    """An error that a person has to fix: `problem` is what is wrong, `hint` what to do, one line each.

    Attributes:
        status: with which the command ends.
    """

    status = ExitStatus.ERROR

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(f"{problem}; {hint}")
        self.problem = problem
        self.hint = hint

    def lines(self) -> str:
        """Return both lines, for a terminal."""
        return f"error: {printable(self.problem)}\nhint: {printable(self.hint)}\n"


class UsageError(OperatorError):
    """The command was given wrong: an argument, an option or an environment variable."""

    status = ExitStatus.USAGE


def print_error(error: OperatorError) -> None:
    """Print both lines to standard error."""
    sys.stderr.write(error.lines())
