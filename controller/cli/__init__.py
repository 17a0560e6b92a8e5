"""The command `vxctl`, one module a verb group.

`commands` puts the groups together: `serve`, `status`, `get`, `describe`, `explain`, `requeue`, `safety`,
`audit`, `chain` (the audit trail as a whole) and `db`. They share `options`, ask the `client` (the HTTP API),
and print by `output`.

Imports lazily: SQLAlchemy and FastAPI alone take more than a second, and `vxctl status` needs neither.
"""

import sys

from contract.runtime.errors import OperatorError, print_error


def main() -> None:
    """Entry point of the command."""
    try:
        from typer import TyperException

        from controller.cli.commands import app
    except ImportError as error:
        print_error(OperatorError(str(error), "pip install 'vxlan-operator[controller]'"))
        sys.exit(2)
    try:
        # Of typer's ways to end, this mode leaves usage errors to us; it handles Ctrl-C and a closed pipe.
        sys.exit(app(prog_name="vxctl", standalone_mode=False) or 0)
    except OperatorError as error:
        print_error(error)
    except TyperException as error:
        if (
            message := error.format_message()
        ):  # Empty: the help was printed, for want of a subcommand.
            context = getattr(error, "ctx", None)
            command = context.command_path if context else "vxctl"
            print_error(OperatorError(_sentence(message), f"see `{command} --help`"))
    sys.exit(2)


def _sentence(message: str) -> str:
    """A message of typer's as ours are written."""
    message = " ".join(message.split()).replace("Value error, ", "").rstrip(".")
    return message[0].lower() + message[1:]
