"""The command `vxctl`: `commands` puts the verbs of `serve`, `nodes`, `get`, `describe`, `explain`,
`requeue`, `safety`, `audit` and `db` together.

`chain` has the verbs under `audit` that are about the trail as a whole. All share `options`, ask a `client`
(the HTTP API), and `show` the answer: in `words`, as `rows`, as a `story`, once or in a `watch`.

Imports lazily: SQLAlchemy and FastAPI alone take more than a second, and `vxctl status` needs neither.
"""

import sys

from contract.runtime.errors import OperatorError
from contract.runtime.settings import tell


def main() -> None:
    """Entry point of the command."""
    try:
        from controller.cli.commands import app
    except ImportError as error:
        tell(OperatorError(str(error), "pip install 'vxlan-operator[controller]'"))
        sys.exit(2)
    try:
        app()
    except OperatorError as error:
        tell(error)
        sys.exit(2)
    except BrokenPipeError:
        # Whoever read our output has seen enough (`vxctl audit | head`).
        sys.stderr.close()
        sys.exit(1)
