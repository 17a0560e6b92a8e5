"""A connection to Redis for single commands, and `BrokerProbe`: whether the broker takes messages."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from celery import Celery
from kombu import Connection
from kombu.transport.redis import Channel as RedisChannel
from redis import Redis
from redis.client import Pipeline

from contract.queues import PROBE_KEY

_TIMEOUT_SECONDS: Final = 2.0


class CommandConnection:
    """A connection of its own, which waits two seconds for an answer at most. Not thread-safe."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._connection: Connection | None = None
        self._client: Redis | None = None

    @contextmanager
    def pipeline(self) -> Iterator["Pipeline | None"]:
        """Yield a pipeline; None: the broker is in this process. An error drops the connection."""
        try:
            if self._connection is None:
                timeouts = dict.fromkeys(
                    ("socket_connect_timeout", "socket_timeout"), _TIMEOUT_SECONDS
                )
                self._connection = self._app.connection_for_write(
                    connect_timeout=_TIMEOUT_SECONDS, transport_options=timeouts
                )
                channel = self._connection.channel()
                if isinstance(channel, RedisChannel):
                    # Kept: kombu makes one each time, which takes longer than to ask it something.
                    with channel.conn_or_acquire() as client:
                        self._client = client
            if self._client is None:
                yield None
                return
            with self._client.pipeline(transaction=False) as pipeline:
                yield pipeline
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """Drop the connection; the next pipeline makes a new one."""
        connection, self._connection, self._client = self._connection, None, None
        if connection is not None:
            connection.release()


class BrokerProbe:
    """Puts an item into a list of Redis and deletes it, as messages and purges do. Not thread-safe.

    A PING would do no good: a replica, a full Redis and one that may not save answer it, and take no message.
    """

    def __init__(self, app: Celery) -> None:
        self._connection = CommandConnection(app)

    def __call__(self) -> None:
        """Try once; raises the errors of the broker's client, after two seconds without an answer."""
        with self._connection.pipeline() as pipeline:
            if pipeline is not None:
                pipeline.lpush(PROBE_KEY, "")
                pipeline.delete(PROBE_KEY)
                pipeline.execute()
