"""A collector of traces for tests: OTLP over HTTP, real sockets, good or bad as a test wants.

As a program (`python -m tests.trace_collector FOLDER`) it writes each request that it gets to a file.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class ShownSpan:
    """A span as it came over the wire."""

    trace_id: str
    id: str
    parent: str
    name: str
    start: datetime
    end: datetime
    attributes: dict[str, Any]
    events: dict[str, datetime]
    error: str | None


@dataclass
class TraceCollector:
    """What was received, and how to answer.

    Attributes:
        status: of the next answers.
        hangs: set: no answer comes until it is cleared.
        refuses: spans that an answer says were refused.
    """

    url: str = ""
    status: int = 200
    refuses: int = 0
    answer: bytes | None = None
    headers: list[dict[str, str]] = field(default_factory=list)
    spans: list[ShownSpan] = field(default_factory=list)
    services: set[str] = field(default_factory=set)
    hangs: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)
    folder: Path | None = None

    def of(self, trace_id: object) -> list[ShownSpan]:
        """The spans of a trace, in the order of their beginnings."""
        wanted = str(trace_id).replace("-", "")
        return sorted(
            (span for span in self.spans if span.trace_id == wanted), key=lambda span: span.start
        )

    def receive(self, body: bytes) -> None:
        """Take in the spans of a request."""
        if self.folder is not None:
            unfinished = self.folder / f"{len(self.headers)}.part"
            unfinished.write_bytes(body)
            unfinished.rename(unfinished.with_suffix(".request"))
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.services.add(named["service.name"])
            for scope in resource.scope_spans:
                self.spans += [_shown(span) for span in scope.spans]


def _at(nanoseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)


def _shown(span: Any) -> ShownSpan:
    return ShownSpan(
        trace_id=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        name=span.name,
        start=_at(span.start_time_unix_nano),
        end=_at(span.end_time_unix_nano),
        attributes={
            each.key.removeprefix("vxlan_operator."): _value(each.value) for each in span.attributes
        },
        events={each.name: _at(each.time_unix_nano) for each in span.events},
        error=span.status.message if span.status.code == 2 else None,
    )


def as_text(spans: list[ShownSpan]) -> str:
    """A trace as a person draws it: one line a span, indented below its parent."""
    first = min(span.start for span in spans)

    def lines(parent: str, depth: int) -> Iterator[str]:
        for span in sorted(spans, key=lambda one: (one.start, one.end)):
            if span.parent == parent:
                begin = (span.start - first).total_seconds()
                end = (span.end - first).total_seconds()
                yield f"{begin:8.3f} s {end:8.3f} s  {'  ' * depth}{span.name}"
                yield from lines(span.id, depth + 1)

    return "\n".join(lines("", 0))


@contextmanager
def trace_collector(port: int = 0, host: str = "127.0.0.1") -> Iterator[TraceCollector]:
    """A collector on a port, by default a free one."""
    collector = TraceCollector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if collector.hangs.is_set():
                collector.let_go.wait(60.0)
                return
            collector.headers.append({key.lower(): text for key, text in self.headers.items()})
            if collector.status == 200:
                collector.receive(body)
            answer = ExportTraceServiceResponse()
            if collector.refuses:
                answer.partial_success.rejected_spans = collector.refuses
                answer.partial_success.error_message = "too old"
            said = answer.SerializeToString() if collector.answer is None else collector.answer
            self.send_response(collector.status)
            if collector.status == 307:
                self.send_header("location", "/elsewhere")
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    collector.url = f"http://{host}:{server.server_address[1]}/v1/traces"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.let_go.set()
        server.shutdown()
        server.server_close()


PROGRAM_URL = "http://127.0.0.1:4318/v1/traces"


def written(folder: Path) -> TraceCollector:
    """What the program has received."""
    collector = TraceCollector(PROGRAM_URL)
    for file in folder.glob("*.request"):
        collector.receive(file.read_bytes())
    return collector


if __name__ == "__main__":
    with trace_collector(4318) as running:
        running.folder = Path(sys.argv[1])
        signal.pause()
