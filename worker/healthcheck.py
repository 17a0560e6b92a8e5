"""The health check of the worker's image: whether its loops go on, by the file that `worker.pulse` writes.

Run as `python -I -m worker.healthcheck`, every ten seconds: so it imports next to nothing.
"""

import os
import sys
import time

MAX_AGE_SECONDS = 20.0
"""The file is written every five seconds; a busy machine may be late."""


def check() -> str | None:
    """Return what is wrong; None: nothing."""
    name = os.environ.get("VXLAN_OPERATOR_ALIVE_FILE")
    if not name:
        return "VXLAN_OPERATOR_ALIVE_FILE is not set: no file shows whether the worker is alive"
    try:
        with open(name, encoding="ascii") as file:  # noqa: PTH123 -- pathlib takes longer than all of this
            at, *stalled = file.read().split("\n")
        age = time.monotonic() - float(at)
    except (OSError, ValueError) as error:
        return f"{name} cannot be read: {error}"
    if not 0 <= age <= MAX_AGE_SECONDS:
        return f"the worker has shown no life for {age:.0f} s"
    return f"stalled: {', '.join(stalled)}" if stalled else None


def main() -> None:
    """Print what is wrong; exit with 0 if nothing is, else with 1, which Docker counts as unhealthy."""
    wrong = check()
    sys.stdout.write(f"{wrong or 'ok'}\n")
    sys.exit(0 if wrong is None else 1)


if __name__ == "__main__":
    main()
