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
from contract.runtime.broker_errors import CLUSTER, CLUSTER_REMEDY, advice, is_cluster
from contract.runtime.broker_settings import Broker
from contract.runtime.errors import OperatorError
from contract.runtime.startup import UnavailableError
from contract.runtime.transport import CheckedConnection

NODE_QUEUE_EXPIRES: Final = 3600.0
"""Seconds without use after which the broker drops a node's queue."""

MAX_WAITING: Final = 10_000
"""Messages waiting for the controllers above which workers send no hints."""

HINT_EXPIRES: Final = 600.0
"""Seconds after which a hint is dropped: it was repeated meanwhile. Clocks may differ by less."""

MEMORY_BROKER: Final = "memory://"
"""The broker of the all-in-one process."""

_REDIS_OPTIONS: Final[dict[str, Any]] = {
    # Our priority decides in the database; one Redis key a queue keeps the broker's ACL small.
    "priority_steps": [0],
    # Acknowledging is local: redelivery is not needed, and one acknowledgement that Redis did not get would
    # block the consumer for ever (a known hang).
    "ack_emulation": False,
    # Without these a peer that vanished without a FIN is noticed after minutes.
    "socket_keepalive": True,
    "socket_connect_timeout": 3,
    "socket_timeout": 5,
    "health_check_interval": 5,
}

_IMPATIENT_SECONDS: Final = 0.5
"""Timeout for interactive publishes; Redis normally answers within 1 ms."""


class _Connection(CheckedConnection):
    """Tries to connect again every second to three seconds; kombu's own pauses grow to half a minute."""

    def _ensure_connection(self, *arguments: Any, **options: Any) -> Any:
        pace = {"interval_start": 1, "interval_step": 1, "interval_max": 3}
        return super()._ensure_connection(*arguments, **pace | options)


class _Amqp(AMQP):  # type: ignore[misc] # Celery has no types
    Connection = _Connection
    default_exchange = Exchange("", type="direct")
    """Of a queue that has none, which would be bound to `celery`, in a key that all share."""


def _direct(name: str) -> Queue:
    # The nameless exchange needs no binding, so a queue is its list in Redis and nothing more. Expiring by
    # kombu would need scripts on a key that all share, hence `let_expire`.
    return Queue(name, Exchange("", type="direct"), routing_key=name)


def queue_for_node(node_id: str) -> Queue:
    """The queue that carries `worker.reconcile` to one node."""
    return _direct(node_queue(node_id))


def let_expire(channel: Channel, node_ids: Iterable[str]) -> None:
    """Set `NODE_QUEUE_EXPIRES` on these nodes' queues, in one round trip.

    Declaring the queues would take a round trip per queue, and sending by name needs no declaration.
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


def celery_app(name: str, broker: Broker | str) -> Celery:
    """Build a Celery app for a broker, or for one without TLS and Sentinel by its URL alone."""
    if isinstance(broker, str):
        broker = Broker(broker)
    broker_url = broker.url
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
            {} if broker_url == MEMORY_BROKER else _REDIS_OPTIONS | broker.sentinel
        ),
        # Without options kombu would take the certificate of anybody.
        broker_use_ssl=broker.tls or False,
        # One quick retry: the caller has its own, from the database or the journal.
        task_publish_retry=True,
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0.1, "interval_max": 0.1},
    )
    return app


def impatient_producers(app: Celery) -> ProducerPool:
    """Producers for requests that a person waits for: they fail if the broker takes over half a second."""
    timeouts = dict.fromkeys(("socket_connect_timeout", "socket_timeout"), _IMPATIENT_SECONDS)
    return producers[
        app.connection_for_write(connect_timeout=_IMPATIENT_SECONDS, transport_options=timeouts)
    ]


def waiting(app: Celery, queue: Queue) -> int:
    """Count the messages in a queue; raises the errors of the broker's client."""
    with app.producer_or_acquire() as producer:
        return int(queue(producer.channel).queue_declare().message_count)


def check_broker(app: Celery) -> None:
    """Connect once, so that a wrong URL or a dead broker is an error at start, not in a log later.

    Raises:
        UnavailableError: the broker cannot be reached.
        OperatorError: it is a Redis Cluster.
    """
    connection: Connection
    try:
        with app.connection_for_write(connect_timeout=3) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0.2, timeout=5)
            channel = connection.default_channel
            if isinstance(channel, RedisChannel) and is_cluster(channel.client):
                raise OperatorError(
                    f"{CLUSTER} (found{_shown(app.conf.broker_url)})", CLUSTER_REMEDY
                )
    except (OperationalError, KombuError, OSError, ValueError, KeyError, ImportError) as error:
        advised = advice(error)
        what = "cannot be reached" if advised is None else "refuses the login"
        raise UnavailableError(
            f"the broker{_shown(app.conf.broker_url)} {what}: {error}",
            advised or "start Redis, or set VXLAN_OPERATOR_BROKER_URL (redis://HOST:6379/0)",
        ) from error


def _shown(url: str) -> str:
    """The broker's URL without its password; empty if it is not a URL."""
    try:
        return f" at {maybe_sanitize_url(url)}"
    except ValueError:
        return ""
