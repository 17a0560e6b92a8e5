"""Reading a secret setting from a file, such as one of Docker's; errors quote nothing of it."""

import os
import stat
from pathlib import Path
from typing import Final

from contract.runtime.errors import UsageError

MAX_BYTES: Final = 10_000


def read_secret(path: str, variable: str) -> str:
    """Read a file of one line; a link may lead to it, as in Kubernetes.

    Args:
        variable: that named the file, for the hint.

    Raises:
        UsageError: it is missing, no regular file, not readable, empty, too large, or has more than one line.
    """
    hint = f"set {variable} to a file with one line that this user may read"
    try:
        # O_NONBLOCK: else opening a pipe waits for its other end.
        descriptor = os.open(Path(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UsageError(f"the file {path} is not a regular file", hint)
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"the file {path} cannot be read: {words}", hint) from None
    if len(content) > MAX_BYTES:
        raise UsageError(f"the file {path} is larger than {MAX_BYTES:,} bytes", hint)
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        raise UsageError(f"the file {path} is not UTF-8", hint) from None
    if not text:
        raise UsageError(f"the file {path} is empty", hint)
    if len(text.splitlines()) > 1:
        raise UsageError(f"the file {path} has more than one line", hint)
    return text
