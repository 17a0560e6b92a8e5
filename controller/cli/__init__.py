"""The command `vxctl`, one module per verb group; `main` is the entry point.

`commands` puts the groups together: `serve`, `status`, `get`, `describe`, `explain`, `requeue`, `safety`,
`audit`, `chain` and `db`. They share `options` and the `client`, and print by `output`.

Imports lazily: SQLAlchemy and FastAPI take more than a second, and `vxctl status` needs neither.
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
        # This mode leaves usage errors to us; typer handles Ctrl-C and a closed pipe.
        sys.exit(app(prog_name="vxctl", standalone_mode=False) or 0)
    except OperatorError as error:
        print_error(error)
    except TyperException as error:
        if message := error.format_message():  # Empty: the help of a group was printed.
            message = " ".join(message.split()).rstrip(".")
            context = getattr(error, "ctx", None)
            hint = f"see `{context.command_path if context else 'vxctl'} --help`"
            print_error(OperatorError(message[0].lower() + message[1:], hint))
    sys.exit(2)
