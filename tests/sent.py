"""What a dispatcher has sent, as a worker would find it."""

import base64
import json
from typing import Any

import redis
from celery import Celery

from contract.messages import ReconcileRequest
from contract.runtime.broker import celery_app
from contract.verdicts import Mode
from controller.db.engine import Database
from controller.health.monitor import Monitor
from controller.runs.dispatch import Dispatcher
from tests.fake_clock import Clock
from tests.fake_swarm import swarm_id
from tests.signed import keyring, request_of
from tests.stored import RESYNC, TIMEOUT


def dispatcher(
    database: Database,
    broker_url: str,
    clock: Clock,
    mode: Mode = Mode.ENFORCE,
    broker: Monitor | None = None,
) -> Dispatcher:
    """A dispatcher that sends to this broker."""
    app: Celery = celery_app("controller", broker_url)
    return Dispatcher(
        database,
        app,
        keyring(database),
        mode=mode,
        run_timeout=TIMEOUT,
        resync=RESYNC,
        broker=broker,
        utcnow=clock,
    )


def raw_messages(client: redis.Redis, node: str) -> list[dict[str, Any]]:
    """The messages that wait for a node's worker, the oldest first, as kombu writes them."""
    waiting: Any = client.lrange(f"node.{swarm_id(node)}", 0, -1)
    return [json.loads(each) for each in reversed(waiting)]


def requests(client: redis.Redis, node: str = "one") -> list[ReconcileRequest]:
    """The requests that wait for a node's worker, the oldest first."""
    found = []
    for message in raw_messages(client, node):
        (payload,), _options, _links = json.loads(base64.b64decode(message["body"]))
        found.append(request_of(payload))
    return found
