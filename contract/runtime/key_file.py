"""Files of private keys: PEM, made at the first start, for their owner alone."""

from pathlib import Path
from typing import Final

from contract.runtime.errors import OperatorError
from contract.runtime.files import create, open_regular
from contract.signing.keys import SigningKey

_MAX_BYTES: Final = 10_000


def read_key(path: Path) -> SigningKey | None:
    """Read a private key; None: there is no such file.

    Raises:
        OperatorError: the file cannot be read, or is no key; says nothing of its content.
    """
    try:
        with open_regular(path, "rb") as file:
            content = file.read(_MAX_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OperatorError(
            f"the key {path} cannot be read: {_words(error)}", f"ls -l {path}"
        ) from error
    try:
        return SigningKey.from_pem(content)
    except ValueError as error:
        raise OperatorError(
            f"the key {path} cannot be used: {error}",
            f"restore it from a backup, or move it away for a new one to be made: mv {path} {path}.bad",
        ) from error


def make_key(path: Path) -> SigningKey:
    """Make a private key and its file (mode 0600), and the folder (0700) if that is missing.

    Raises:
        OperatorError: it cannot be written, or there is a file already.
    """
    key = SigningKey.generate()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        create(path, key.pem())
    except OSError as error:
        raise OperatorError(
            f"the key {path} cannot be made: {_words(error)}", f"ls -ld {path.parent}"
        ) from error
    return key


def _words(error: OSError) -> str:
    # Of an error of our own, its text; it would name the path twice.
    return str(error.strerror or error).removeprefix(f"{error.filename} ")
