"""The processes beside a measured controller: the workers of all nodes, and a person."""

import base64
import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import redis

from contract.queues import REPORT_TASK, node_queue
from contract.runtime.broker import celery_app, queue_for_controller
from contract.runtime.transport import publish
from contract.signing.envelope import CONTROLLERS
from contract.verdicts import Verdict
from tests import reports
from tests.fake_swarm import swarm_id
from tests.reports import device
from tests.signed import worker
from tests.tokens import HEADERS

NETWORKS_A_NODE: Final = 10
_POLL_SECONDS: Final = 0.005
_NODE: Final = swarm_id("placeholder")
_RUN: Final = UUID(int=0)
_GENERATION: Final = '"generation":2'
"""In the report that each simulated worker sends, in place of what it was asked."""

_TAKE_ALL: Final = """
local taken = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
    taken[#taken + 1] = redis.call('RPOP', key)
end
return taken
"""
"""All workers' requests at once: real workers have machines of their own, and cost this one nothing."""


def answer_requests(pipe: Connection, broker_url: str, socket: str, queues: str) -> None:
    """Be the workers of all nodes with such queues until told to end: answer each request with a report."""
    app = celery_app("workers", broker_url)
    take_all = redis.Redis(unix_socket_path=socket).register_script(_TAKE_ALL)
    devices = [
        device(number, Verdict.IN_USE, vni=4096 + number)
        for number in range(1, NETWORKS_A_NODE + 1)
    ]
    report = reports.report(node="placeholder", run_id=_RUN, devices=devices).model_dump_json()
    assert _GENERATION in report
    queue = queue_for_controller()
    pipe.send("ready")
    while not pipe.poll(_POLL_SECONDS):
        taken: Any = take_all(args=[queues])
        with app.producer_or_acquire() as producer, producer.batch():
            for message in taken:
                (request, *_), _options, _links = json.loads(
                    base64.b64decode(json.loads(message)["body"])
                )
                asked = json.loads(request.partition("\n")[2])
                told = (
                    report.replace(_NODE, asked["node_id"])
                    .replace(str(_RUN), asked["run_id"])
                    .replace(_GENERATION, f'"generation":{asked["generation"]}')
                )
                publish(
                    producer,
                    REPORT_TASK,
                    worker(asked["node_id"]).seal(told, audience=CONTROLLERS, task=REPORT_TASK),
                    queue=queue.name,
                    expires=datetime.now(UTC) + timedelta(minutes=1),
                )


def requeue_by_hand(
    pipe: Connection, url: str, socket: str, nodes: Sequence[str], pause: float
) -> None:
    """Be a person: requeue these idle nodes one after another, and tell when each worker was reached.

    From when the request is on the wire: a program that a person calls takes longer to start than all else.
    """
    listener = redis.Redis(unix_socket_path=socket, socket_timeout=40)
    pipe.send("ready")
    pipe.recv()
    taken = []
    connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
    for node in nodes:
        connection.putrequest("POST", f"/api/v1/nodes/{node}/requeue")
        connection.putheader("Content-Length", "0")
        for name, value in HEADERS.items():
            connection.putheader(name, value)
        begin = time.perf_counter()
        connection.endheaders()
        assert listener.brpop([node_queue(node)], timeout=30) is not None
        taken.append(time.perf_counter() - begin)
        with connection.getresponse() as answer:
            assert answer.status == HTTPStatus.ACCEPTED, answer.read()
            answer.read()
        time.sleep(pause)
    pipe.send(taken)


@contextmanager
def process(target: Any, *arguments: Any) -> Iterator[Connection]:
    """Another process, with a pipe to it; ends with whatever is said."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    child = multiprocessing.get_context("spawn").Process(
        target=target, args=(theirs, *arguments), daemon=True
    )
    child.start()
    theirs.close()  # So that nobody waits for one that died.
    assert ours.recv() == "ready"
    try:
        yield ours
    finally:
        with suppress(BrokenPipeError):
            ours.send("end")
        child.join(30)
