"""How `vxctl` reaches a controller: URL, token and CA, from options, environment, context, or this machine.

`connected` adds the options to every verb with a parameter `url: Url`; `Client` takes the rest from here.
"""

import functools
import inspect
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from contract.runtime.errors import UsageError
from contract.runtime.variables import PREFIX, refuse_unknown
from controller.access.token_file import first_token_file, read_token
from controller.access.tokens import Secret
from controller.cli import contexts, options

_URL: Final = f"{PREFIX}URL"
_CONTEXT: Final = f"{PREFIX}CONTEXT"
_TOKEN: Final = f"{PREFIX}TOKEN"
_CA: Final = f"{PREFIX}CA"


class Token(NamedTuple):
    """A token, and for messages where it is from and what to do if it is refused."""

    text: str
    source: str
    hint: str


@dataclass(frozen=True, slots=True)
class Connection:
    """What was given to reach a controller; the token is looked for when it is first needed.

    Attributes:
        url: of the API.
        token_file: of `--token-file`.
        ca: file with the certificates that may sign the controller's; None: those of this machine.
        context: where the URL is from; None: an option, the environment or the default.
        by_option: the context was named by an option, so its token goes before the environment's.
    """

    url: str
    token_file: str | None = None
    ca: str | None = None
    context: contexts.ControllerContext | None = field(default=None, repr=False)
    by_option: bool = False

    def token(self) -> Token | None:
        """Return the token: of the option, the environment, the context, or the controller on this machine.

        Raises:
            OperatorError: a file that was named is missing, unreadable or holds no token.
        """
        if self.token_file is not None:
            return _of_file(self.token_file, "name another file with --token-file")
        given = (self._of_environment, self._of_context)
        for look in reversed(given) if self.by_option else given:
            if found := look():
                return found
        return self._of_this_machine()

    def tls(self) -> ssl.SSLContext:
        """Return how to verify the controller's certificate.

        Raises:
            UsageError: the CA's file cannot be used.
        """
        if not self.url.lower().startswith("https:"):
            # Not used; reading the machine's certificates would take 20 ms. It trusts nobody.
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            return ssl.create_default_context(cafile=self.ca)
        except (OSError, ValueError) as error:  # Among them: no certificate in it.
            reason = getattr(error, "strerror", None) or error
            raise UsageError(
                f"the CA file {self.ca} cannot be used: {reason}",
                "name a PEM file of certificates by --ca or VXLAN_OPERATOR_CA",
            ) from error

    def _of_environment(self) -> Token | None:
        if given := os.environ.get(_TOKEN):
            secret = Secret.parse(given.strip())
            if secret is None:
                raise UsageError(
                    f"{_TOKEN} is not a token (vxo_, 8 characters, _, 43 characters)",
                    f"correct or unset {_TOKEN}",
                )
            return Token(secret.text, _TOKEN, f"correct or unset {_TOKEN}")
        if file := os.environ.get(f"{_TOKEN}_FILE"):
            hint = f"correct or unset {_TOKEN}_FILE"
            if file == os.environ.get(f"{PREFIX}API_TOKEN_FILE"):  # In the stack's controllers.
                hint += "; if no admin has a token: `vxctl token create NAME --role admin --database-url URL`"
            return _of_file(file, hint)
        return None

    def _of_context(self) -> Token | None:
        if self.context is None:
            return None
        if self.context.token:
            return Token(self.context.token, f"{contexts.path()}", "`vxctl login` asks for another")
        if self.context.token_file:
            return _of_file(self.context.token_file, "`vxctl login` asks for another")
        return None

    def _of_this_machine(self) -> Token | None:
        """Return the first token of a controller here. It is sent to this machine only."""
        if not is_loopback(self.url):
            return None
        file = first_token_file(
            os.environ.get(f"{PREFIX}API_TOKEN_FILE", ""),
            os.environ.get(f"{PREFIX}DATABASE_URL", ""),
        )
        if not os.access(file, os.R_OK):
            return None
        secret = read_token(file)
        return (
            None
            if secret is None
            else Token(secret.text, str(file), "`vxctl login` asks for another")
        )


_current: ContextVar[Connection | None] = ContextVar("connection", default=None)


def connection_to(url: str) -> Connection:
    """Return the connection of the running verb, if it is to this URL."""
    current = _current.get()
    return current if current is not None and current.url == url else Connection(url)


def resolve(
    url: str | None = None,
    context: str | None = None,
    token_file: str | None = None,
    ca: str | None = None,
) -> Connection:
    """Return the connection that was asked for: option, then environment, then context, then default.

    A context is used only where no URL was given at its level or above: its token goes to its own URL alone.

    Raises:
        OperatorError: the context is unknown, two things name a controller, or a variable is misspelt.
    """
    refuse_unknown()
    if url is not None and context is not None:
        raise UsageError("--url and --context both name a controller", "leave one of them out")
    by_option = context is not None
    if url is None and context is None:
        url, context = os.environ.get(_URL) or None, os.environ.get(_CONTEXT) or None
        if url is not None and context is not None:
            raise UsageError(f"{_URL} and {_CONTEXT} both name a controller", f"unset {_CONTEXT}")
    ca = ca or (None if by_option else os.environ.get(_CA) or None)
    if url is not None:
        return Connection(url, token_file, ca)
    known = contexts.read()
    name = context or known.current
    if name is None:
        return Connection(options.DEFAULT_URL, token_file, ca)
    found = known.get(name)
    ca = ca or found.ca or os.environ.get(_CA) or None
    return Connection(found.url, token_file, ca, found, by_option)


def connected(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb with a parameter `url: Url` the options of a connection; it gets the URL they lead to."""
    signature = inspect.signature(verb)
    asked = signature.parameters.get("url")
    if asked is None or asked.annotation != options.Url:
        return verb

    @functools.wraps(verb)
    def with_connection(
        url: str | None = None,
        context_name: str | None = None,
        token_file: str | None = None,
        ca: str | None = None,
        **given: Any,
    ) -> None:
        connection = resolve(url, context_name, token_file, ca)
        with using(connection):
            verb(**given, url=connection.url)

    added = (
        ("url", options.MaybeUrl),
        ("context_name", options.ContextName),
        ("token_file", options.TokenFile),
        ("ca", options.Ca),
    )
    parameters = [given for given in signature.parameters.values() if given.name != "url"]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in added
    ]
    with_connection.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return with_connection


@contextmanager
def using(connection: Connection) -> Iterator[None]:
    """Let `Client` reach the connection's URL by it, within the block."""
    reset = _current.set(connection)
    try:
        yield
    finally:
        _current.reset(reset)


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _of_file(name: str, hint: str) -> Token:
    file = Path(name)
    contexts.warn_if_readable(file)
    secret = read_token(file)
    if secret is None:
        raise UsageError(f"there is no token file {file}", hint)
    return Token(secret.text, str(file), hint)
