"""A program of the operator whose consumer hangs: `python -m tests.hanging FILE vxlan-worker|vxctl ...`.

While FILE is there, the consumer's thread takes the first byte off it (an empty file goes) as soon as
Celery has connected, and then blocks for ever where it reads Redis's answers, as it does in the faults
that were reported of it. Everything else of the program goes on.
"""

import sys
import threading
from pathlib import Path
from typing import Any

from contract.runtime.transport import _Channel


def main() -> None:
    """Become the program."""
    flag = Path(sys.argv[1])
    read = _Channel._brpop_read

    def hang(self: Any, **options: Any) -> Any:
        if flag.exists():
            left = flag.read_bytes()[1:]
            if left:
                flag.write_bytes(left)
            else:
                flag.unlink()
            threading.Event().wait()
        return read(self, **options)

    _Channel._brpop_read = hang  # type: ignore[method-assign]
    sys.argv = sys.argv[2:]
    if sys.argv[0] == "vxctl":
        from controller.cli import main as program
    else:
        from worker.cli import main as program
    program()


if __name__ == "__main__":
    main()
