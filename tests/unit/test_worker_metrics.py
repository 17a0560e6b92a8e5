"""The worker's metrics: their text, the server, clients that mean ill, and a second worker."""

import itertools
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from contract import VERSION
from contract.runtime.errors import OperatorError, UsageError
from contract.signing.refusals import Reason
from contract.verdicts import Outcome
from tests.promtool import check_metrics
from tests.servers import await_true
from worker import metrics, metrics_server
from worker.kernel.statistics import BUCKETS, ErrorKind, Statistics
from worker.metrics import Facts
from worker.metrics_server import MAX_CLIENTS, MetricsServer
from worker.second_worker import SecondWorker
from worker.settings import WorkerSettings

FACTS = Facts(
    mode="enforce",
    journal_backlog=7,
    outbox=2,
    outbox_dropped=1,
    request_age=61.5,
    request_overdue=0.0,
    runs={Outcome.DONE: 3},
    loops={"link watch": True, "beacon": False},
    second_worker=True,
)
DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


def samples(text: bytes) -> dict[tuple[str, str], float]:
    """The values by name and by the label's value, of which there is at most one."""
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_what_a_worker_shows() -> None:
    text = metrics.text(FACTS)
    shown = samples(text)
    ours = "vxlan_operator_worker_"
    assert shown[f"{ours}info", f"{VERSION},enforce"] == 1
    assert shown[f"{ours}journal_backlog", ""] == 7
    assert shown[f"{ours}outbox_messages", ""] == 2
    assert shown[f"{ours}outbox_dropped_total", ""] == 1
    assert shown[f"{ours}request_age_seconds", ""] == 61.5
    assert shown[f"{ours}runs_total", "done"] == 3
    assert shown[f"{ours}runs_total", "failed"] == 0
    assert shown[f"{ours}loop_stalled", "link_watch"] == 1
    assert shown[f"{ours}loop_stalled", "beacon"] == 0
    assert shown[f"{ours}second_worker", ""] == 1
    assert {(f"{ours}messages_refused_total", reason.value) for reason in Reason} <= shown.keys()
    assert {(f"{ours}netlink_errors_total", kind.value) for kind in ErrorKind} <= shown.keys()
    assert shown[f"{ours}look_seconds_count", ""] == shown[f"{ours}look_seconds_bucket", "+Inf"]
    assert shown["process_resident_memory_bytes", ""] > 1e6
    check_metrics(text)


def test_looks_are_counted_by_their_time() -> None:
    statistics = Statistics()
    with statistics.look():
        pass
    with suppress(ValueError), statistics.look():
        raise ValueError
    counts, seconds = statistics.looks()
    assert len(counts) == len(BUCKETS) + 1
    assert counts[-1] == 2
    assert list(counts) == sorted(counts)
    assert 0 <= seconds < 60


class Http:
    """What the server says to a request."""

    def __init__(self, address: int | Path, request: bytes) -> None:
        with connect(address) as connection:
            connection.sendall(request)
            answer = b""
            while part := connection.recv(65536):
                answer += part
        head, _, self.body = answer.partition(b"\r\n\r\n")
        self.status = int(head.split(b" ")[1])
        self.head = head.decode()


def connect(address: int | Path) -> socket.socket:
    if isinstance(address, int):
        return socket.create_connection(("127.0.0.1", address), 30)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(30)
    connection.connect(str(address))
    return connection


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    server = MetricsServer("0", lambda: b"text 1\n")
    server.start()
    yield server
    server.stop()


GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


def test_metrics_are_served_on_loopback_and_nothing_else_is(server: MetricsServer) -> None:
    assert server._listener.getsockname()[0] == "127.0.0.1"
    answer = Http(server.port, GET)
    assert (answer.status, answer.body) == (200, b"text 1\n")
    assert "Content-Type: text/plain; version=0.0.4" in answer.head
    assert Http(server.port, b"GET /metrics?x=1 HTTP/1.1\r\n\r\n").status == 200
    head = Http(server.port, b"HEAD /metrics HTTP/1.1\r\n\r\n")
    assert (head.status, head.body) == (200, b"")
    assert Http(server.port, b"GET /../etc/passwd HTTP/1.1\r\n\r\n").status == 404
    assert Http(server.port, b"POST /metrics HTTP/1.1\r\n\r\n").status == 405
    assert Http(server.port, b"\x00\xff\n\n").status == 404


def test_metrics_are_served_on_a_socket_in_the_place_of_a_stale_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    for _ in range(2):
        killed = MetricsServer(str(path), lambda: b"old\n")
        killed._listener.close()
    server = MetricsServer(str(path), lambda: b"new\n")
    server.start()
    assert Http(path, GET).body == b"new\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    server.stop()
    assert not path.exists()
    path.write_text("mine")
    with pytest.raises(OperatorError, match="metrics cannot be served on"):
        MetricsServer(str(path), lambda: b"")
    assert path.read_text() == "mine"


def test_a_port_in_use_is_told(server: MetricsServer) -> None:
    with pytest.raises(OperatorError) as raised:
        MetricsServer(str(server.port), lambda: b"")
    assert "Address already in use" in str(raised.value)
    assert "VXLAN_OPERATOR_METRICS_LISTEN" in raised.value.hint


@pytest.mark.parametrize("value", ["x", "localhost:1", "1.2.3:9", "0.0.0.0:99999", "[::1", ":"])
def test_a_value_that_is_no_address_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises((UsageError, ValidationError, ValueError), match=r"PORT|IPv4"):
        metrics_server.checked_listen(value)
    monkeypatch.setenv("VXLAN_OPERATOR_METRICS_LISTEN", value)
    with pytest.raises(UsageError, match="metrics_listen"):
        WorkerSettings.load({"broker_url": "redis://127.0.0.1"})


def test_clients_that_mean_ill_delay_nobody(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server, "CLIENT_SECONDS", 600.0)
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(server.port)) for _ in range(3 * MAX_CLIENTS)]
        for number, connection in enumerate(slow):
            # One that was dropped by then is refused.
            with suppress(OSError):
                connection.sendall(b"" if number % 2 else b"GET /met")
        assert Http(server.port, GET).status == 200
        assert len(server._clients) <= MAX_CLIENTS
        endless = stack.enter_context(connect(server.port))
        with suppress(OSError):
            for _ in range(100):
                endless.sendall(b"x" * 8192)
        assert Http(server.port, GET).status == 200


def test_a_client_that_says_nothing_is_dropped_in_time(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server, "CLIENT_SECONDS", 0.1)
    with connect(server.port) as silent:
        assert silent.recv(1) == b""


def test_a_flood_costs_little(server: MetricsServer) -> None:
    begin, cpu = time.monotonic(), time.process_time()
    for _ in range(20):
        assert Http(server.port, GET).status == 200
    # Nothing of the time but what the bound on connections takes.
    assert time.monotonic() - begin >= 19 * metrics_server.BETWEEN_CLIENTS_SECONDS
    assert time.process_time() - cpu < 5


def test_an_error_in_the_metrics_ends_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = itertools.count()

    def text() -> bytes:
        if next(calls) == 0:
            raise ValueError
        return b"fine\n"

    monkeypatch.setattr(metrics_server, "_RETRY_SECONDS", 0.01)
    server = MetricsServer("0", text)
    server.start()
    with connect(server.port) as connection:
        connection.sendall(GET)
        assert Http(server.port, GET).body == b"fine\n"
    server.stop()


def test_a_second_worker_is_noticed_by_both_until_it_ends() -> None:
    now = [1000.0]
    node = f"test-{time.monotonic_ns()}"
    one, two = (SecondWorker(node, lambda: now[0]) for _ in range(2))
    other = SecondWorker(f"{node}-other", lambda: now[0])
    for worker in (one, other, one):
        worker.step()
    assert not one.seen
    assert not other.seen
    two.step()
    one.step()
    assert (one.seen, two.seen) == (True, True)
    one.stop()
    now[0] += 60
    two.step()
    assert not two.seen
    two.stop()
    other.stop()


def test_a_second_workers_thread_ends() -> None:
    worker = SecondWorker(f"test-{time.monotonic_ns()}")
    worker.start()
    await_true(lambda: worker._held is not None, "the name is held")
    worker.stop()
    assert not worker._thread.is_alive()


def test_every_metric_is_documented_and_no_other() -> None:
    shown = {name for name, _ in samples(metrics.text(FACTS)) if name.startswith("vxlan_operator_")}
    told = {
        line.split("`")[1]
        for line in DOCUMENT.read_text().splitlines()
        if line.startswith("| `vxlan_operator_worker_")
    }
    assert shown == told
