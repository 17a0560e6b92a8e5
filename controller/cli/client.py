"""The client of the controller's HTTP API."""

import ssl
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
from controller.cli.connection import Token, connection_to

_TIMEOUT_SECONDS: Final = 10.0
_HINT: Final = (
    "start it (`vxctl controller`), or set VXLAN_OPERATOR_URL (or --url) to http://HOST:PORT"
)
PAGE_ROWS: Final = 1000
"""Maximum number of rows in an answer of the API."""

Parameter = str | int | Sequence[str] | None
"""A query parameter; several values repeat it, None omits it."""


class UnavailableError(OperatorError):
    """The controller is not available now; a retry may help."""


_answered_by: ContextVar[str | None] = ContextVar("answered_by", default=None)


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
    """Asks the API at `url`; every failure is an `OperatorError`.

    A path is given by its segments, so that a name stays one segment, whatever a person typed.
    """

    def __init__(self, url: str) -> None:
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
        while True:
            page = self.get(path, **parameters, cursor=cursor, limit=min(limit, PAGE_ROWS))
            yield page
            limit -= len(page["items"])
            cursor = page["next"]
            if cursor is None or limit <= 0:
                return

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
            yield from answer.iter_text()

    def _ask(
        self,
        method: str,
        path: Sequence[str],
        parameters: Mapping[str, Parameter],
        body: Any = None,
    ) -> Any:
        with self._answer(method, path, parameters, body) as answer:
            answer.read()
        try:
            return answer.json()
        except ValueError as error:
            raise not_understood(f"it is not JSON: {answer.text[:60]!r}") from error

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
        headers = self._credentials() | dict(headers or {})
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
            ) as answer:
                if not answer.is_success or IDENTITY_HEADER not in answer.headers:
                    answer.read()
                    raise self._error(answer)
                _answered_by.set(answer.headers[IDENTITY_HEADER])
                yield answer
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
            raise UsageError(f"{self._url!r} is not a URL: {error}", _HINT) from error
        except httpx.HTTPError as error:
            if refused := tls_error(self._url, error):
                raise refused from error
            message = f"no controller answers at {self._url}: {error}"
            raise UnavailableError(message, _HINT) from error

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
            body = answer.json()
        except ValueError:
            body = None
        details = body if isinstance(body, dict) else {}
        problem, hint = details.get("detail") or status, details.get("hint")
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
