"""Files of passwords for the broker: made once, for their owner alone."""

import secrets
from pathlib import Path
from typing import Final

from contract.runtime.errors import OperatorError
from contract.runtime.files import create, open_regular

_BYTES: Final = 32
MAX_BYTES: Final = 1000


def read_password(path: Path) -> str | None:
    """Read a password; None: there is no such file.

    Raises:
        OperatorError: it cannot be read, or holds none; says nothing of its content.
    """
    try:
        with open_regular(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OperatorError(
            f"the password file {path} cannot be read: {error.strerror}", f"ls -l {path}"
        ) from error
    try:
        password = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        password = ""
    if not password or not password.isprintable() or len(content) > MAX_BYTES:
        raise OperatorError(
            f"the password file {path} holds no password: one line of text is expected",
            f"write it again, or move it away for a new one to be made: mv {path} {path}.bad",
        )
    return password


def make_password(path: Path) -> str:
    """Make a password of 256 random bits (letters, digits, - and _) and its file (mode 0600).

    Raises:
        OperatorError: it cannot be written, or there is a file already.
    """
    password = secrets.token_urlsafe(_BYTES)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        create(path, f"{password}\n".encode())
    except OSError as error:
        raise OperatorError(
            f"the password file {path} cannot be made: {error.strerror}", f"ls -ld {path.parent}"
        ) from error
    return password
