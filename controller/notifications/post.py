"""One POST by HTTP: to an address that was checked, without redirects, bounded in time and size.

The standard library's client, since it follows no redirects, reads no proxies from the environment, and lets
us choose the address that it connects to.
"""

import http.client
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from contract import VERSION
from controller.notifications.addresses import Address, Endpoint, Lookup, Network, checked, resolve
from controller.notifications.errors import Answer, DeliveryError

SECONDS: Final = 10.0
"""For everything from the connection to the answer's end."""
_CONNECT_SECONDS: Final = 4.0
MAX_ANSWER_BYTES: Final = 2048
_MAX_RETRY_AFTER: Final = 3600.0
_TOO_MANY: Final = (429, 503)


class Deadline:
    """Ends what hangs on a socket, even if a byte comes now and then; a context manager."""

    def __init__(self, seconds: float) -> None:
        self.is_over = False
        self._copy: socket.socket | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        with self._lock:
            if self._copy is not None:
                self._copy.close()
                self._copy = None

    def watch(self, connection: socket.socket) -> None:
        """End this connection at the deadline."""
        with self._lock:
            if self._copy is not None:
                self._copy.close()
            # A copy: TLS takes the original away from its object.
            self._copy = connection.dup()

    def _end(self) -> None:
        with self._lock:
            self.is_over = True
            if self._copy is not None:
                with suppress(OSError):
                    self._copy.shutdown(socket.SHUT_RDWR)


class _Connection(http.client.HTTPConnection):
    def __init__(
        self,
        endpoint: Endpoint,
        addresses: Sequence[Address],
        tls: ssl.SSLContext,
        deadline: Deadline,
        seconds: float,
    ) -> None:
        super().__init__(endpoint.host, endpoint.port, timeout=seconds)
        self.default_port = 443 if endpoint.tls else 80
        self._endpoint = endpoint
        self._addresses = addresses
        self._tls = tls
        self._deadline = deadline

    def connect(self) -> None:
        """See the base class: to the address that was checked, whatever the name resolves to by now."""
        connected = self._open()
        self._deadline.watch(connected)
        connected.settimeout(self.timeout)
        if self._endpoint.tls:
            connected = self._tls.wrap_socket(connected, server_hostname=self._endpoint.host)
        self.sock = connected

    def _open(self) -> socket.socket:
        error: OSError | None = None
        for address in self._addresses:
            if self._deadline.is_over:
                break
            try:
                return socket.create_connection(
                    (str(address), self._endpoint.port),
                    min(_CONNECT_SECONDS, self.timeout or SECONDS),
                )
            except OSError as found:
                error = found
        raise error or TimeoutError


def post(
    endpoint: Endpoint,
    body: bytes,
    headers: Mapping[str, str],
    *,
    tls: ssl.SSLContext,
    allowed: Sequence[Network],
    lookup: Lookup = resolve,
    seconds: float = SECONDS,
) -> Answer:
    """Post a body; return the answer, of which the first `MAX_ANSWER_BYTES` are read.

    Raises:
        DeliveryError: it was not taken; a status other than 2xx is that, too.
    """
    answer, retry_after = exchange(
        endpoint, body, headers, tls=tls, allowed=allowed, lookup=lookup, seconds=seconds
    )
    if 200 <= (answer.status or 0) < 300:
        return answer
    message = f"it answered {answer.status}"
    if 300 <= (answer.status or 0) < 400:
        message += ": redirects are not followed, give the final URL"
    elif answer.text:
        message += f": {answer.text[:200]}"
    raise DeliveryError(message, retry_after, answer)


def exchange(
    endpoint: Endpoint,
    body: bytes,
    headers: Mapping[str, str],
    *,
    tls: ssl.SSLContext,
    allowed: Sequence[Network],
    lookup: Lookup = resolve,
    seconds: float = SECONDS,
) -> tuple[Answer, float | None]:
    """Post a body; return the answer, whatever its status, and the seconds of its `Retry-After`.

    Raises:
        DeliveryError: there is no answer.
    """
    addresses = checked(endpoint, allowed, lookup)
    sent = {"User-Agent": f"vxlan-operator/{VERSION}", "Accept-Encoding": "identity", **headers}
    with Deadline(seconds) as deadline:
        connection = _Connection(endpoint, addresses, tls, deadline, seconds)
        try:
            connection.request("POST", endpoint.path, body, sent)
            response = connection.getresponse()
            content = response.read(MAX_ANSWER_BYTES)
            if deadline.is_over:  # The end of a header that was cut off looks like the end of all.
                raise TimeoutError
        except (OSError, http.client.HTTPException, ValueError) as error:
            if deadline.is_over or isinstance(error, TimeoutError):
                raise DeliveryError(f"no answer within {seconds:g} s") from error
            raise DeliveryError(_message(endpoint, error)) from error
        finally:
            connection.close()
    retry_after = response.getheader("Retry-After", "") if response.status in _TOO_MANY else ""
    wait = min(float(retry_after), _MAX_RETRY_AFTER) if retry_after.isdecimal() else None
    text = endpoint.hide(content.decode("utf-8", "replace").strip())
    return Answer(response.status, text), wait


def _message(endpoint: Endpoint, error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {endpoint.host} is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS with {endpoint.host}: {error.reason or error}"
    if isinstance(error, ConnectionRefusedError):
        return f"{endpoint.host} refuses connections to port {endpoint.port}"
    if isinstance(error, OSError):
        return f"{endpoint.host} cannot be reached: {error.strerror or error}"
    return f"{endpoint.host} gives no valid answer ({type(error).__name__})"
