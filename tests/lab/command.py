"""Running one short command: bounded in time, with an error that says what went wrong."""

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence

from .errors import LabError

Argument = str | os.PathLike[str]
# Only so that nothing hangs for ever: the machine may be busy with other labs and tests.
TIMEOUT = 60.0


def run(
    args: Sequence[Argument],
    *,
    check: bool = True,
    timeout: float = TIMEOUT,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `args` and return its result; LabError if it is missing, slow or (with `check`) fails."""
    command = [os.fspath(argument) for argument in args]
    try:
        result = subprocess.run(
            command,
            # Never the caller's own stdin: no command may wait for a person.
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=env,
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(f"there is no command {command[0]!r}: install it or mend PATH") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"`{shlex.join(command)}` took longer than {timeout:g} s") from error
    if check and result.returncode != 0:
        said = result.stderr.strip() or result.stdout.strip() or "(it printed nothing)"
        raise LabError(
            f"`{shlex.join(command)}` failed with exit status {result.returncode}: {said}"
        )
    return result
