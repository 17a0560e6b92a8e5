"""The command `vxctl`, one module a verb group.

`commands` puts the groups together: `serve`, `status`, `get`, `describe`, `explain`, `requeue`, `safety`,
`audit`, `chain` (the audit trail as a whole) and `db`. They share `options`, ask the `client` (the HTTP API),
and print by `output`.

Imports lazily: SQLAlchemy and FastAPI alone take more than a second, and `vxctl status` needs neither.
"""

import sys

from contract.runtime.errors import OperatorError
from contract.runtime.settings import print_error


def main() -> None:
    """Entry point of the command."""
    try:
        from controller.cli.commands import app
    except ImportError as error:
        print_error(OperatorError(str(error), "pip install 'vxlan-operator[controller]'"))
        sys.exit(2)
    try:
        app()
    except OperatorError as error:
        print_error(error)
        sys.exit(2)
    except BrokenPipeError:
        # Whoever read our output has seen enough (`vxctl audit | head`).
        sys.stderr.close()
        sys.exit(1)
