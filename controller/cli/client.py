"""The client of the controller's HTTP API; it bounds what a hostile one can make it do."""

import json
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import httpx

from contract import VERSION
from contract.runtime.errors import OperatorError, UsageError
from controller.api import IDENTITY_HEADER
from controller.cli.connection import Token, connection_to, is_loopback

_TIMEOUT_SECONDS: Final = 10.0
_HINT: Final = (
    "start it (`vxctl controller`), or set VXLAN_OPERATOR_URL (or --url) to http://HOST:PORT"
)
PAGE_ROWS: Final = 1000
"""Maximum number of rows in an answer of the API."""
_MAX_BYTES: Final = 32 << 20
"""Of an answer that is read whole: ten times the largest page of a Swarm of 5,000 nodes."""
_ANSWER_SECONDS: Final = 60.0
"""In which an answer that is read whole must arrive."""
_MAX_PAGES: Final = 10_000
_MAX_SHOWN: Final = 1000
"""Characters of a problem."""

Parameter = str | int | Sequence[str] | None
"""A query parameter; several values repeat it, None omits it."""


class UnavailableError(OperatorError):
    """The controller is not available now; a retry may help."""


_answered_by: ContextVar[str | None] = ContextVar("answered_by", default=None)


def has_answered() -> bool:
    """Whether a controller has answered."""
    return _answered_by.get() is not None


def is_of_another_version() -> bool:
    """Whether the controller that answered last is of another version than this `vxctl`."""
    return _answered_by.get() not in (None, VERSION)


def not_understood(why: str) -> OperatorError:
    """Return the error that an answer is not what this version expects."""
    by = f" (it is version {_answered_by.get()}, not {VERSION})" if is_of_another_version() else ""
    return OperatorError(
        f"the controller's answer is not understood{by}: {why}",
        "`vxctl version` compares the versions; -o json shows the answer as it is",
    )


class Client:
    """Asks the API at `url`, which has no password; every failure is an `OperatorError`.

    A path is given by its segments, so that a name stays one segment, whatever a person typed.
    """

    def __init__(self, url: str) -> None:
        if "@" in url.partition("://")[2].partition("/")[0]:
            # It would be sent instead of the token, and stand in every error.
            raise UsageError("the URL has a user or password", "leave out what is before the @")
        self._url = url.rstrip("/")
        self._connection = connection_to(url)
        self._tls = self._connection.tls()
        self._headers: dict[str, str] | None = None
        self._token: Token | None = None

    def get(self, *path: str, **parameters: Parameter) -> Any:
        """GET a JSON answer."""
        return self._ask("GET", path, parameters)

    def pages(self, path: str, limit: int, **parameters: Parameter) -> Iterator[dict[str, Any]]:
        """GET a list page by page, up to `limit` rows in all."""
        cursor = None
        for _ in range(_MAX_PAGES):
            page = self.get(path, **parameters, cursor=cursor, limit=min(limit, PAGE_ROWS))
            yield page
            limit -= len(page["items"])
            cursor = page["next"]
            if cursor is None or limit <= 0:
                return
        raise not_understood(f"its list does not end after {_MAX_PAGES} pages")

    def post(self, *path: str, body: Mapping[str, Any], **parameters: Parameter) -> Any:
        """POST a JSON body for a JSON answer."""
        return self._ask("POST", path, parameters, body)

    def stream(self, *path: str, **parameters: Parameter) -> Iterator[bytes]:
        """GET an answer of any length in chunks; it may be cut short without an error."""
        with (
            self._answer("GET", path, parameters) as answer,
            suppress(httpx.RemoteProtocolError),
        ):
            yield from answer.iter_bytes()

    def text(
        self,
        *path: str,
        headers: Mapping[str, str],
        silence: float,
        **parameters: Parameter,
    ) -> Iterator[str]:
        """GET an answer without an end, as text, as it comes.

        Args:
            headers: of the request, besides the usual ones.
            silence: seconds without anything after which the connection counts as dead.
        """
        with self._answer("GET", path, parameters, headers=headers, silence=silence) as answer:
            answer.encoding = "utf-8"  # Whatever it says: Python has encodings that unpack.
            yield from answer.iter_text()

    def _ask(
        self,
        method: str,
        path: Sequence[str],
        parameters: Mapping[str, Parameter],
        body: Any = None,
    ) -> Any:
        with self._answer(method, path, parameters, body) as answer:
            content = self._read(answer)
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            shown = content[:60].decode(errors="replace")
            raise not_understood(f"it is not JSON: {shown!r}") from error

    def _read(self, answer: httpx.Response) -> bytes:
        """Read a whole answer.

        Raises:
            OperatorError: it is too long, or does not arrive.
        """
        pieces, size, end = [], 0, time.monotonic() + _ANSWER_SECONDS
        for piece in answer.iter_raw():
            pieces.append(piece)
            size += len(piece)
            if size > _MAX_BYTES:
                raise not_understood(f"it is longer than {_MAX_BYTES >> 20} MB")
            if time.monotonic() > end:
                raise UnavailableError(
                    f"the answer of {self._url} did not arrive within {_ANSWER_SECONDS:.0f} s",
                    "look at the controller's log and at the network, and try again",
                )
        return b"".join(pieces)

    @contextmanager
    def _answer(
        self,
        method: str,
        path: Sequence[str],
        parameters: Mapping[str, Parameter],
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        silence: float | None = None,
    ) -> Iterator[httpx.Response]:
        """Yield the controller's answer to a request; its content is still to be read."""
        url = f"{self._url}/api/v1/{'/'.join(quote(segment, safe='') for segment in path)}"
        given = {name: value for name, value in parameters.items() if value is not None}
        headers = {"Accept-Encoding": "identity"} | self._credentials() | dict(headers or {})
        try:
            timeout = httpx.Timeout(_TIMEOUT_SECONDS, read=silence or _TIMEOUT_SECONDS)
            with httpx.stream(
                method,
                url,
                params=given,
                json=body,
                headers=headers,
                timeout=timeout,
                verify=self._tls,
                # Or HTTP_PROXY gets the token of the controller on this machine.
                trust_env=not is_loopback(self._url),
            ) as answer:
                if not answer.is_success or IDENTITY_HEADER not in answer.headers:
                    raise self._error(answer)
                _answered_by.set(answer.headers[IDENTITY_HEADER])
                if "content-encoding" in answer.headers:  # A few bytes may become gigabytes.
                    raise not_understood("it is compressed, which vxctl did not ask for")
                yield answer
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
            raise UsageError(f"{self._url!r} is not a URL: {error}", _HINT) from error
        except httpx.HTTPError as error:
            if refused := tls_error(self._url, error):
                raise refused from error
            message = f"no controller answers at {self._url}: {error}"
            hint = _HINT
            if isinstance(error, httpx.RemoteProtocolError) and url.lower().startswith("http:"):
                hint = "if it speaks TLS, use https:// in the URL"
            raise UnavailableError(message, hint) from error

    def _credentials(self) -> dict[str, str]:
        if self._headers is None:
            token = self._token = self._connection.token()
            self._headers = {} if token is None else {"Authorization": f"Bearer {token.text}"}
        return self._headers

    def _error(self, answer: httpx.Response) -> OperatorError:
        status = f"HTTP {answer.status_code}"
        if IDENTITY_HEADER not in answer.headers:
            return UnavailableError(
                f"the server at {self._url} is not a vxlan-operator controller ({status})", _HINT
            )
        try:
            body = json.loads(self._read(answer))
        except (ValueError, RecursionError):
            body = None
        details = body if isinstance(body, dict) else {}
        problem = str(details.get("detail") or status)[:_MAX_SHOWN]
        hint = str(details.get("hint") or "")[:_MAX_SHOWN]
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            if self._token is not None:
                return OperatorError(
                    f"{problem} (it is from {self._token.source})", self._token.hint
                )
            return OperatorError(
                f"the controller at {self._url} wants a token, and vxctl found none",
                f"`vxctl login {self._url}` asks for one; on the controller's machine run vxctl as root",
            )
        if answer.is_client_error:
            kind = (
                UsageError
                if answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
                else OperatorError
            )
            return kind(problem, hint or "correct the command")
        return UnavailableError(problem, hint or "look at the controller's log, and try again")


def tls_error(url: str, error: BaseException) -> OperatorError | None:
    """Return what to say of a connection that TLS refused; None: the error is another."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return OperatorError(
            f"the certificate of {url} is not trusted: {cause.verify_message}",
            "give the file of its CA by --ca or VXLAN_OPERATOR_CA, or use a name that the certificate has",
        )
    if cause is not None:
        what = cause.reason or cause
        return OperatorError(
            f"no TLS with the server at {url}: {what}",
            "if it speaks plain HTTP, use http:// in the URL",
        )
    return None
