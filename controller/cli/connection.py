"""How `vxctl` reaches a controller: URL and token, from options, the environment, or this machine's file.

`connected` adds the options to every verb that has a parameter `url`; `Client` takes the rest from here.
"""

import functools
import inspect
import os
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from contract.runtime.errors import UsageError
from controller.access.token_file import first_token_file, read_token
from controller.access.tokens import Secret
from controller.cli import options

_PREFIX: Final = "VXLAN_OPERATOR_"
_TOKEN: Final = f"{_PREFIX}TOKEN"


@dataclass(frozen=True, slots=True)
class Connection:
    """What was given to reach a controller; the token is looked for when it is first needed.

    Attributes:
        url: of the API.
        token_file: of `--token-file`.
    """

    url: str
    token_file: str | None = None

    def token(self) -> str | None:
        """Return the token: of the option, the environment, or the controller on this machine; None: none.

        Raises:
            OperatorError: a file that was named is missing, unreadable or holds no token.
        """
        named = self.token_file
        if named is None and (given := os.environ.get(_TOKEN)):
            secret = Secret.parse(given.strip())
            if secret is None:
                raise UsageError(
                    f"{_TOKEN} is not a token (vxo_, 8 characters, _, 43 characters)",
                    f"correct or unset {_TOKEN}",
                )
            return secret.text
        named = named or os.environ.get(f"{_TOKEN}_FILE")
        if named:
            return _of_file(Path(named))
        return self._of_this_machine()

    def _of_this_machine(self) -> str | None:
        """Return the first token of a controller here. It is sent to this machine only."""
        if not _is_loopback(self.url):
            return None
        file = first_token_file(
            os.environ.get(f"{_PREFIX}API_TOKEN_FILE", ""),
            os.environ.get(f"{_PREFIX}DATABASE_URL", ""),
        )
        if not os.access(file, os.R_OK):
            return None
        secret = read_token(file)
        return None if secret is None else secret.text


_current: ContextVar[Connection | None] = ContextVar("connection", default=None)


def connection_to(url: str) -> Connection:
    """Return the connection of the running verb, if it is to this URL."""
    current = _current.get()
    return current if current is not None and current.url == url else Connection(url)


def connected(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb with a parameter `url` the other options of a connection."""
    signature = inspect.signature(verb)
    if "url" not in signature.parameters:
        return verb

    @functools.wraps(verb)
    def with_connection(token_file: str | None = None, **given: Any) -> None:
        reset = _current.set(Connection(given["url"], token_file))
        try:
            verb(**given)
        finally:
            _current.reset(reset)

    added = inspect.Parameter(
        "token_file",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=options.TokenFile,
    )
    parameters = [*signature.parameters.values(), added]
    with_connection.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return with_connection


def _of_file(file: Path) -> str:
    secret = read_token(file)
    if secret is None:
        raise UsageError(f"there is no token file {file}", "name a file with a token")
    return secret.text


def _is_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
