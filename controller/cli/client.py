"""The client of the controller's HTTP API."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote

import httpx

from contract.runtime.errors import OperatorError
from controller.api import IDENTITY_HEADER

_TIMEOUT_SECONDS: Final = 10.0
_HINT: Final = (
    "start it (`vxctl controller`), or set VXLAN_OPERATOR_URL (or --url) to http://HOST:PORT"
)
_PAGE: Final = 1000
"""Maximum number of rows in an answer of the API."""

Parameter = str | int | Sequence[str]
"""A query parameter; several values repeat it."""


class UnavailableError(OperatorError):
    """The controller is not available now; a retry may help."""


class Client:
    """Asks the API at `url`; every failure is an `OperatorError`."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def get(self, path: str, **parameters: Parameter | None) -> Any:
        """GET a JSON answer; omit parameters that are None."""
        return self._ask("GET", path, parameters)

    def pages(
        self,
        path: str,
        *,
        limit: int,
        **parameters: str | None,
    ) -> list[dict[str, Any]]:
        """GET a list page by page, up to `limit` rows."""
        rows: list[dict[str, Any]] = []
        cursor = None
        while len(rows) < limit:
            wanted = min(_PAGE, limit - len(rows))
            page = self.get(path, cursor=cursor, limit=wanted, **parameters)
            rows += page["items"]
            cursor = page["next"]
            if cursor is None:
                break
        return rows

    def post(self, path: str, body: Any = None, **parameters: str | int | None) -> Any:
        """POST a JSON body, or none, for a JSON answer; omit parameters that are None."""
        return self._ask("POST", path, parameters, body)

    def stream(self, path: str, **parameters: str | int | None) -> Iterator[bytes]:
        """GET an answer of any length in chunks; it may be cut short without an error."""
        with (
            self._connection_errors(),
            httpx.stream(
                "GET", f"{self._url}{path}", params=_given(parameters), timeout=_TIMEOUT_SECONDS
            ) as answer,
        ):
            if not answer.is_success or IDENTITY_HEADER not in answer.headers:
                answer.read()
                self._check(answer)
            try:
                yield from answer.iter_bytes()
            except httpx.RemoteProtocolError:
                return

    def _ask(
        self, method: str, path: str, parameters: Mapping[str, Parameter | None], body: Any = None
    ) -> Any:
        with self._connection_errors():
            answer = httpx.request(
                method,
                f"{self._url}{path}",
                params=_given(parameters),
                json=body,
                timeout=_TIMEOUT_SECONDS,
            )
        self._check(answer)
        return answer.json()

    @contextmanager
    def _connection_errors(self) -> Iterator[None]:
        try:
            yield
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
            raise OperatorError(f"{self._url!r} is not a URL: {error}", _HINT) from error
        except httpx.HTTPError as error:
            raise UnavailableError(
                f"no controller answers at {self._url}: {error}", _HINT
            ) from error

    def _check(self, answer: httpx.Response) -> None:
        if IDENTITY_HEADER not in answer.headers:
            raise UnavailableError(
                f"the server at {self._url} is not a vxlan-operator controller "
                f"(HTTP {answer.status_code})",
                _HINT,
            )
        if answer.is_success:
            return
        try:
            body = answer.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            body = {}
        problem = body.get("detail") or f"HTTP {answer.status_code}"
        if answer.is_client_error:
            raise OperatorError(problem, body.get("hint") or "correct the command")
        raise UnavailableError(
            problem, body.get("hint") or "look at the controller's log, and try again"
        )


def _given(parameters: Mapping[str, Parameter | None]) -> dict[str, Parameter]:
    return {name: value for name, value in parameters.items() if value is not None}


def node_path(node: str, action: str = "") -> str:
    """Return the path of a node; the name stays one path segment, whatever a person typed."""
    return f"/api/v1/nodes/{quote(node, safe='')}{action}"


def network_path(network: str, action: str = "") -> str:
    """Return the path of a network, likewise."""
    return f"/api/v1/networks/{quote(network, safe='')}{action}"
