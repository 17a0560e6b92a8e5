"""Sends spans to a collector: OTLP over HTTP, by OpenTelemetry's own definitions (protobuf).

Source: opentelemetry.io/docs/specs/otlp, which also says after what spans may be sent again: no answer, and
the statuses 429, 502, 503 and 504. OpenTelemetry's exporter is not used: it takes a redirect for a success,
and does not tell its caller why spans were not taken.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import httpx

from contract import VERSION
from contract.runtime.client_tls import client_context
from contract.runtime.errors import UsageError
from controller.traces.spans import PREFIX, Span, Value

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import KeyValue

SECONDS: Final = 3.0
"""For connecting, and for each wait after that."""

_SERVICE: Final = "vxlan-operator"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_PATH: Final = "/v1/traces"
_NAME: Final = re.compile(r"[0-9a-z!#$%&'*+.^_`|~-]{1,100}")
_OURS: Final = ("host", "content-type", "content-length", "content-encoding", "transfer-encoding")
_MAX_TEXT: Final = 2_000
_MAX_ANSWER: Final = 64 * 1024
"""Bytes of an answer that are read; a good one has some dozen."""
_TEMPORARY: Final = frozenset({429, 502, 503, 504})


class CollectorError(Exception):
    """The collector did not take spans; `temporary`: they may be sent again."""

    def __init__(self, text: str, *, temporary: bool) -> None:
        super().__init__(text)
        self.temporary = temporary


@dataclass(frozen=True, slots=True)
class Address:
    """Where traces are sent.

    Attributes:
        url: `http://HOST:4318/v1/traces`.
        headers: for each request, such as one with a token.
        ca: PEM file of the CAs that may have signed an https:// collector's certificate; empty: the system's.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca: str = ""


def checked_url(url: str) -> str:
    """Return the URL of a collector; without a path it gets OTLP's own, `/v1/traces`. Empty: there is none.

    Raises:
        ValueError: it is none. The error quotes nothing of it, which may be a password.
    """
    if not url:
        return url
    try:
        parts = urlsplit(url)
        fits = bool(parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0)
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        fits = False
    if not fits or "#" in url or any(not sign.isprintable() or sign == " " for sign in url):
        raise ValueError("must be http://HOST:4318/v1/traces or https://HOST:4318/v1/traces")
    if "@" in parts.netloc:
        raise ValueError("must have no password: use VXLAN_OPERATOR_TRACES_HEADERS_FILE")
    return url if parts.path.strip("/") else parts._replace(path=_PATH).geturl()


def headers_of(text: str) -> Mapping[str, str]:
    """Return the headers in a text like `authorization=Bearer abc,x-tenant=ops`; a value may be quoted (%2C).

    Raises:
        ValueError: there are none in it. The error quotes nothing of it, which is secret.
    """
    found = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        name, value = name.strip().lower(), unquote(value.strip())
        if (
            not equals
            or not _NAME.fullmatch(name)
            or not value.isascii()
            or not value.isprintable()
        ):
            raise ValueError("must be NAME=VALUE, several separated by commas; a comma is %2C")
        if name in _OURS:
            raise ValueError(f"must not have {name}")
        found[name] = value
    return found


class Collector:
    """A collector of traces; one thread at a time may send.

    Raises:
        UsageError: the extra `otel` is not installed, or the CA cannot be used.
    """

    def __init__(self, address: Address) -> None:
        try:
            from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
        except ImportError as error:
            raise UsageError(
                f"VXLAN_OPERATOR_TRACES_ENDPOINT is set, and traces cannot be made: {error}",
                "pip install 'vxlan-operator[controller,otel]'",
            ) from None
        self._response = trace_service_pb2.ExportTraceServiceResponse
        self.host = urlsplit(address.url).netloc
        """HOST:PORT, for messages."""
        self._url = address.url
        try:
            trusted = client_context(address.ca)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"the CA of the collector of traces cannot be used: {error}",
                "set VXLAN_OPERATOR_TRACES_CA to a PEM file that this user may read",
            ) from None
        self._client = httpx.Client(
            headers={
                **address.headers,
                "content-type": "application/x-protobuf",
                "user-agent": f"{_SERVICE}/{VERSION}",
            },
            verify=trusted,
            timeout=SECONDS,
            trust_env=False,
        )

    def send(self, spans: Sequence[Span]) -> int:
        """Send spans; return how many of them the collector refused.

        Raises:
            CollectorError: it took none of them.
        """
        body = encoded(spans).SerializeToString()
        until = time.monotonic() + SECONDS
        try:
            with self._client.stream("POST", self._url, content=body) as response:
                status, answer = response.status_code, _beginning(response, until)
        except httpx.HTTPError as error:
            raise CollectorError(_described(error), temporary=True) from None
        # No redirect is followed: it would lead spans, and headers with a token, somewhere else.
        if status != httpx.codes.OK:
            raise CollectorError(f"it answered {status}", temporary=status in _TEMPORARY)
        return self._rejected(answer)

    def _rejected(self, answer: bytes) -> int:
        from google.protobuf.message import DecodeError

        try:
            success = self._response.FromString(answer).partial_success
        except DecodeError:
            return 0  # It took them, in words of its own.
        return int(success.rejected_spans)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def encoded(spans: Sequence[Span]) -> "ExportTraceServiceRequest":
    """Return the message that has these spans."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource
    from opentelemetry.proto.trace.v1 import trace_pb2

    made = [
        trace_pb2.Span(
            trace_id=span.trace_id.bytes,
            span_id=span.id,
            parent_span_id=span.parent or b"",
            name=span.name,
            kind=trace_pb2.Span.SPAN_KIND_INTERNAL,
            start_time_unix_nano=_nanoseconds(span.start),
            end_time_unix_nano=_nanoseconds(span.end),
            attributes=[_attribute(PREFIX + key, value) for key, value in span.attributes.items()],
            events=[
                trace_pb2.Span.Event(name=name, time_unix_nano=_nanoseconds(at))
                for name, at in span.events.items()
            ],
            status=None
            if span.error is None
            else trace_pb2.Status(
                code=trace_pb2.Status.STATUS_CODE_ERROR, message=_text(span.error)
            ),
        )
        for span in spans
    ]
    of_service = {"service.name": _SERVICE, "service.version": VERSION}
    resource = Resource(attributes=[_attribute(key, value) for key, value in of_service.items()])
    scope = trace_pb2.ScopeSpans(
        scope=InstrumentationScope(name=_SERVICE, version=VERSION), spans=made
    )
    return ExportTraceServiceRequest(
        resource_spans=[trace_pb2.ResourceSpans(resource=resource, scope_spans=[scope])]
    )


def _attribute(key: str, value: Value) -> "KeyValue":
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue

    def of(part: Value) -> AnyValue:
        if isinstance(part, bool):
            return AnyValue(bool_value=part)
        if isinstance(part, int):
            return AnyValue(int_value=part)
        if isinstance(part, float):
            return AnyValue(double_value=part)
        if isinstance(part, str):
            return AnyValue(string_value=_text(part))
        return AnyValue(array_value=ArrayValue(values=[of(one) for one in part]))

    return KeyValue(key=key, value=of(value))


def _text(text: str) -> str:
    """Return a text that protobuf takes: nodes and people choose some, and half a surrogate is no UTF-8."""
    return text[:_MAX_TEXT].encode(errors="replace").decode()


def _nanoseconds(at: datetime) -> int:
    """Return nanoseconds since 1970, exactly; a time before that, which no clock shows, is 0."""
    return max(0, (at - _EPOCH) // _MICROSECOND * 1_000)


def _beginning(response: httpx.Response, until: float) -> bytes:
    """Read an answer, but not one without an end: what it says last is of no use."""
    read = b""
    for part in response.iter_bytes():
        read += part
        if len(read) > _MAX_ANSWER or time.monotonic() > until:
            break
    return read


def _described(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return f"it did not answer within {SECONDS:g} s"
    return str(error) or type(error).__name__
