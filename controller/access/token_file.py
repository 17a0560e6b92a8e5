"""Files with one token: where the first one is, reading and writing them. Needs no database."""

import errno
import os
import select
import time
from io import FileIO
from pathlib import Path
from typing import Final

from contract.runtime.errors import OperatorError
from contract.runtime.files import open_regular
from controller.access.tokens import Secret

_FOLDER: Final = Path("/var/lib/vxlan-operator")
_NAME: Final = "api-token"
DEFAULT_TOKEN_FILE: Final = _FOLDER / _NAME
_MAX_BYTES: Final = 4096
_WAIT_SECONDS: Final = 10.0
"""For what another program writes."""
_SQLITE: Final = "sqlite:///"


def first_token_file(given: str, database_url: str) -> Path:
    """Return the file of the first token: the given one, or `api-token` beside an SQLite database.

    With another database it is `DEFAULT_TOKEN_FILE`.
    """
    if given:
        return Path(given)
    if database_url.startswith(_SQLITE):
        file = database_url.removeprefix(_SQLITE).partition("?")[0]
        return Path(file).resolve().with_name(_NAME)
    return DEFAULT_TOKEN_FILE


def read_token(file: Path) -> Secret | None:
    """Read a file with a token; None: there is no such file.

    Raises:
        OperatorError: it cannot be read, or holds no token.
    """
    try:
        content = _content(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OperatorError(
            f"the token file {file} cannot be read: {error.strerror or error}",
            "run this as a user who may read it, or name another file",
        ) from error
    secret = Secret.parse(content.decode("ascii", "replace").strip())
    if secret is None:
        raise OperatorError(
            f"the file {file} holds no token (one line: vxo_, 8 characters, _, 43 characters)",
            "name another file, or create a token: `vxctl token create NAME --role ROLE`",
        )
    return secret


def _content(file: Path) -> bytes:
    """Read a file, or a pipe that a program writes to, as in `--token-file <(pass show vxctl)`.

    Raises:
        OSError: it cannot be read, or nothing comes.
    """
    # O_NONBLOCK: else opening a pipe waits for its other end.
    with FileIO(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)) as opened:
        content, end = b"", time.monotonic() + _WAIT_SECONDS
        while len(content) < _MAX_BYTES:
            if not select.select([opened], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError(errno.ETIMEDOUT, f"nothing came within {_WAIT_SECONDS:.0f} s")
            piece = opened.read(_MAX_BYTES - len(content))
            if not piece:
                break
            content += piece
        return content


def write_token(file: Path, secret: Secret) -> None:
    """Create a file that only its owner may read; a crash leaves none or the whole one.

    Raises:
        OSError: it exists, or cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = file.with_name(f"{file.name}.{os.getpid()}.new")
    try:
        with open_regular(new, "xb") as opened:
            opened.write(secret.text.encode() + b"\n")
            os.fsync(opened.fileno())
        os.link(new, file)  # Unlike a rename it replaces nothing.
    finally:
        new.unlink(missing_ok=True)
