"""`BrokerProbe`: whether the broker takes messages, by a connection of its own."""

from typing import Any, Final

from celery import Celery
from kombu.transport.redis import Channel as RedisChannel

from contract.queues import PROBE_KEY

_TIMEOUT_SECONDS: Final = 2.0


class BrokerProbe:
    """Puts an item into a list of Redis and deletes it, as messages and purges do. Not thread-safe.

    A PING would do no good: a replica, a full Redis and one that may not save answer it, and take no message.
    """

    def __init__(self, app: Celery) -> None:
        timeouts = dict.fromkeys(("socket_connect_timeout", "socket_timeout"), _TIMEOUT_SECONDS)
        self._connection = app.connection_for_write(
            connect_timeout=_TIMEOUT_SECONDS, transport_options=timeouts
        )
        self._channel: Any = None

    def __call__(self) -> None:
        """Try once; raises the errors of the broker's client after two seconds per answer."""
        if self._channel is None:
            self._channel = self._connection.channel()
        if not isinstance(self._channel, RedisChannel):
            return  # The memory broker is this process.
        with (
            self._channel.conn_or_acquire() as client,
            client.pipeline(transaction=False) as pipeline,
        ):
            pipeline.lpush(PROBE_KEY, "")
            pipeline.delete(PROBE_KEY)
            pipeline.execute()

    def close(self) -> None:
        """Drop the connection; the next try makes a new one."""
        self._channel = None
        self._connection.close()
