"""How Celery is set up on both sides of the broker.

The broker only notifies: nothing rests on redelivery, every run has a row with a deadline, and the
worker's journal repeats what matters. So tasks are acknowledged early, and everything of Celery's
that would add traffic or state (results, events, gossip, remote control) is off.
"""

from collections.abc import Iterable
from typing import Any, Final

from celery import Celery
from celery.app.amqp import AMQP
from kombu import Connection, Exchange, Queue
from kombu.exceptions import KombuError, OperationalError
from kombu.pools import ProducerPool, producers
from kombu.transport.redis import Channel as RedisChannel
from kombu.transport.virtual import Channel
from kombu.utils.url import maybe_sanitize_url

from contract.queues import CONTROLLER_QUEUE, node_queue
from contract.runtime.errors import OperatorError
from contract.runtime.transport import CheckedConnection

NODE_QUEUE_EXPIRES: Final = 3600.0
"""Seconds without use after which the broker drops a node's queue: one that never returns leaves nothing."""

MAX_WAITING: Final = 10_000
"""While so many messages wait for the controllers, workers add no hints: nobody takes them."""

HINT_EXPIRES: Final = 600.0
"""Seconds after which a hint is not worth taking in: it was repeated meanwhile; clocks may differ by less."""

MEMORY_BROKER: Final = "memory://"
"""The broker of the all-in-one process."""

_REDIS_OPTIONS: Final[dict[str, Any]] = {
    # Our priority decides in the database; one Redis key a queue keeps the broker's ACL small.
    "priority_steps": [0],
    # Acknowledging is local. In Redis it would only keep copies of what nobody needs redelivered, and
    # one acknowledgement that fails would take the consumer's one place for ever (a known hang).
    "ack_emulation": False,
    # Without these a peer that vanished without a FIN is noticed after minutes.
    "socket_keepalive": True,
    "socket_connect_timeout": 3,
    "socket_timeout": 5,
    "health_check_interval": 5,
}

_IMPATIENT_SECONDS: Final = 0.5
"""Redis answers within a millisecond; so long it may take on a bad day, and a person may wait."""


class _Amqp(AMQP):  # type: ignore[misc] # Celery has no types
    """How the app connects."""

    Connection = CheckedConnection


def _direct(name: str, expires: float | None = None) -> Queue:
    # An exchange of its own: Queue(name) alone binds the set that all of Celery shares.
    return Queue(name, Exchange(name, type="direct"), routing_key=name, expires=expires)


def queue_for_node(node_id: str) -> Queue:
    """The queue that carries `worker.reconcile` to one node."""
    return _direct(node_queue(node_id), NODE_QUEUE_EXPIRES)


def let_expire(channel: Channel, node_ids: Iterable[str]) -> None:
    """Have the broker drop these nodes' queues when nobody has used them for `NODE_QUEUE_EXPIRES`.

    In one round trip for all, where declaring the queues takes one or more for each. (Sending needs no
    declaration: by its name any queue is reached, also after Redis has forgotten all bindings.)
    """
    if not isinstance(channel, RedisChannel):
        return
    with channel.conn_or_acquire() as client, client.pipeline(transaction=False) as pipeline:
        for node_id in node_ids:
            pipeline.expire(node_queue(node_id), int(NODE_QUEUE_EXPIRES))
        pipeline.execute()


def queue_for_controller() -> Queue:
    """The queue that carries reports and drift to the controllers."""
    return _direct(CONTROLLER_QUEUE)


def celery_app(name: str, broker_url: str) -> Celery:
    """Build a Celery app that speaks our dialect to the broker at `broker_url`."""
    app = Celery(name, broker=broker_url, amqp=_Amqp, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        result_backend=None,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        task_send_sent_event=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_acks_late=False,
        task_create_missing_queues=True,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=3,
        broker_transport_options=(
            {"polling_interval": 0.02} if broker_url == MEMORY_BROKER else _REDIS_OPTIONS
        ),
        # One quick retry: the caller has its own, from the database or the journal.
        task_publish_retry=True,
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0.1, "interval_max": 0.1},
    )
    return app


def impatient_producers(app: Celery) -> ProducerPool:
    """Producers whose commands fail when the broker does not answer within half a second.

    For what a person waits for, and somebody more patient sends again if it fails: the time-outs of all
    others are long, for a broker may be slow and they have nothing better to do.
    """
    return producers[
        app.connection_for_write(
            connect_timeout=_IMPATIENT_SECONDS,
            transport_options={
                "socket_connect_timeout": _IMPATIENT_SECONDS,
                "socket_timeout": _IMPATIENT_SECONDS,
            },
        )
    ]


def waiting(app: Celery, queue: Queue) -> int:
    """How many messages wait in a queue; raises what the broker's client raises if it is away."""
    with app.producer_or_acquire() as producer:
        return int(queue(producer.channel).queue_declare().message_count)


def check_broker(app: Celery) -> None:
    """Connect once, so that a wrong URL or a dead broker is told at start and not in a log later.

    Raises:
        OperatorError: the broker cannot be reached.
    """
    connection: Connection
    try:
        with app.connection_for_write(connect_timeout=3) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0.2, timeout=5)
    except (OperationalError, KombuError, OSError, ValueError, KeyError, ImportError) as error:
        raise OperatorError(
            f"the broker{_shown(app.conf.broker_url)} cannot be reached: {error}",
            "start Redis, or set VXLAN_OPERATOR_BROKER_URL (redis://HOST:6379/0)",
        ) from error


def _shown(url: str) -> str:
    """A broker's URL for a person to read, without its password; nothing if it is no URL."""
    try:
        return f" at {maybe_sanitize_url(url)}"
    except ValueError:
        return ""
