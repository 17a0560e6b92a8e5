"""The Redis transport, which refuses messages that neither side would send, before kombu unpacks them.

kombu believes a message's own header: it decompresses as the header says, and what it cannot read ends
the consumer. A program that can write to Redis could take all memory of every process, or a second of its
time for each message. Here a message is checked as the bytes that Redis gave, and kombu gets a message
rebuilt from its checked parts. A refused message is dropped, for the broker only notifies.

The controllers' messages are also taken a few at a time: kombu's loop, once for each, costs them half as
much again as all that is done with a message until it is verified.

The memory transport needs none of this: only this process can put anything there.
"""

import base64
import json
from collections.abc import Callable
from datetime import datetime
from queue import Empty
from typing import Annotated, Any, Final, Literal
from uuid import uuid4

from kombu import Connection, Producer
from kombu.connection import ConnectionPool, PooledConnection
from kombu.transport import memory as kombu_memory
from kombu.transport import redis as kombu_redis
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from contract.messages import Timestamp
from contract.queues import CONTROLLER_QUEUE, RECONCILE_TASK, tasks_of
from contract.runtime import sentinels
from contract.runtime.memory_transport import MemoryTransport
from contract.runtime.refusals import refusals
from contract.signing.bounds import BOUNDS, MAX_MESSAGE_BYTES
from contract.signing.envelope import MARK
from contract.signing.refusals import Reason, RefusedError
from contract.signing.succession import MAX_CHARACTERS

_MAX_MARKS: Final = 1_000_000
"""Maximum number of values in a body, counted by commas and brackets; that report has 422,000.

A value of two bytes costs up to 100 bytes of memory.
"""

_MAX_ENVELOPE_MARKS: Final = 10_000
"""Maximum number of values around the body; ours have some sixty."""

_MORE: Final = 9
"""Messages for the controllers that are taken with one, if they wait; a process that is killed loses them."""
_MUCH: Final = 2**20
"""Bytes from which on no more are taken: Redis ends a connection whose answers pass `maxmemory-clients`."""


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class _Headers(_Part):
    task: Annotated[str, StringConstraints(max_length=100)]
    id: Annotated[str, StringConstraints(max_length=100)]
    expires: Timestamp | None = None
    compression: None = None


class _Properties(_Part):
    body_encoding: Literal["base64"]


class _Envelope(_Part):
    """What Celery puts around a task's arguments, as far as it matters to us."""

    body: str
    content_type: Literal["application/json"] = Field(alias="content-type")
    content_encoding: Literal["utf-8"] = Field(alias="content-encoding")
    headers: _Headers
    properties: _Properties


class _Unread(_Part):
    """A mapping of which nothing is looked at, and nothing is let through."""


_Body = tuple[Annotated[list[str], Field(max_length=2, fail_fast=True)], _Unread, _Unread]
_BODY: Final = TypeAdapter[_Body](_Body)
"""Arguments (one, of a request also a succession of keys), keyword arguments, callbacks.

The last two of ours are empty. To refuse others would take an error for each key, of which there may be a
million.
"""


def checked(raw: bytes, queue: str) -> dict[str, Any]:
    """Check a raw message of a queue, and return kombu's message of its checked parts.

    Raises:
        RefusedError: it is not one of ours.
    """
    if len(raw) > MAX_MESSAGE_BYTES:
        raise RefusedError(
            Reason.TOO_LARGE, f"it has {len(raw)} bytes, more than {MAX_MESSAGE_BYTES}"
        )
    _bound(raw, _MAX_ENVELOPE_MARKS)
    try:
        envelope = _Envelope.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "message"
        raise RefusedError(Reason.MALFORMED, f"{where}: {first['msg']}") from None
    headers = envelope.headers
    if headers.task not in tasks_of(queue):
        raise RefusedError(Reason.WRONG_TASK, "its task does not belong to this queue")
    try:
        body = base64.b64decode(envelope.body, validate=True)
        _bound(body, _MAX_MARKS)
        arguments, _, _ = _BODY.validate_json(body)
    except ValidationError as error:
        if error.errors(include_input=False, include_url=False)[0]["type"] == "string_type":
            raise RefusedError(Reason.UNSIGNED, "it is not signed") from None
        raise RefusedError(Reason.MALFORMED, "its body does not fit a task") from None
    except ValueError:  # Of base64.
        raise RefusedError(Reason.MALFORMED, "its body does not fit a task") from None
    _check_signed(headers.task, arguments)
    return _rebuilt(envelope, arguments, queue)


def _check_signed(task: str, arguments: list[str]) -> None:
    """Let in only what has an envelope, which is opened later; a ping says nothing, and has none."""
    limits = BOUNDS.get(task)
    if limits is None:
        if arguments:
            raise RefusedError(Reason.MALFORMED, "its task has no argument")
        return
    if len(arguments) > 1 and not (task == RECONCILE_TASK and len(arguments[1]) <= MAX_CHARACTERS):
        raise RefusedError(Reason.MALFORMED, "its body does not fit a task")
    text = arguments[0] if arguments else ""
    if not text.startswith(MARK):
        raise RefusedError(Reason.UNSIGNED, "it is not signed")
    if len(text) > limits.size:
        raise RefusedError(Reason.TOO_LARGE, f"it has more than {limits.size} bytes")


def _bound(text: bytes, limit: int) -> None:
    """Bound the memory that JSON takes once it is parsed: `[],[],` takes thirty times its length."""
    if sum(text.count(mark) for mark in (b",", b"[", b"{")) > limit:
        raise RefusedError(Reason.TOO_LARGE, f"it holds more than {limit} values")


def _rebuilt(envelope: _Envelope, arguments: list[str], queue: str) -> dict[str, Any]:
    headers, body = envelope.headers, json.dumps([arguments, {}, {}])
    return {
        "body": base64.b64encode(body.encode("ascii")).decode("ascii"),
        "content-type": envelope.content_type,
        "content-encoding": envelope.content_encoding,
        "headers": _headers(headers.task, headers.id, headers.expires),
        "properties": {
            "body_encoding": envelope.properties.body_encoding,
            "delivery_tag": str(uuid4()),
            # By the name alone: where it goes if the consumer ends before it has run.
            "delivery_info": {"exchange": "", "routing_key": queue},
        },
    }


def _headers(task: str, id_: str, expires: datetime | None) -> dict[str, str | None]:
    return {
        "lang": "py",
        "task": task,
        "id": id_,
        "expires": None if expires is None else expires.isoformat(),
        # Otherwise Celery makes them from arguments of megabytes.
        "argsrepr": "(...)",
        "kwargsrepr": "{}",
    }


def publish(producer: Producer, task: str, *arguments: str, queue: str, expires: datetime) -> None:
    """Publish a task, as Celery's `send_task` does, in half of its time.

    Nothing is declared, and nothing tried again; raises the errors of the broker's client.
    """
    producer.publish(
        [arguments, {}, {}],
        serializer="json",
        exchange="",
        routing_key=queue,
        headers=_headers(task, str(uuid4()), expires),
    )


class _RedisOfOurs:
    """What is ours in a channel, of Redis or by Sentinel."""

    client: Any
    connection: Any
    connection_errors: tuple[type[Exception], ...]
    _in_poll: Any
    _flush_brpop_reauth: Callable[[], None]

    def _brpop_read(self, **options: Any) -> Literal[True]:
        """Deliver what Redis has answered, as kombu's own; to it a refused message is an empty answer."""
        redis = self.client.connection
        try:
            try:
                answer = self.client.parse_response(redis, "BRPOP", **options)
                if not answer:
                    raise Empty
                queue = answer[0].decode(errors="replace")
                raw, taken, delivered = answer[1], 0, False
                more = _MORE if queue == CONTROLLER_QUEUE else 0
                while raw is not None:
                    taken += len(raw)
                    delivered |= self._deliver(raw, queue)
                    # Each by itself: nothing tells how large the next ones are together.
                    raw = self.client.rpop(queue) if more and taken < _MUCH else None
                    more -= 1
            except self.connection_errors:
                redis.disconnect()
                raise
            if not delivered:
                raise Empty
            return True
        finally:
            refusals.flush()
            self._in_poll = None
            self._flush_brpop_reauth()

    def _deliver(self, raw: bytes, queue: str) -> bool:
        """Deliver a message, unless it is refused; return whether it is not."""
        try:
            message = checked(raw, queue)
        except RefusedError as refusal:
            refusals.add(refusal)
            return False
        self.connection._deliver(message, queue)  # noqa: SLF001 -- as kombu's channel does
        return True

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        """Without CLIENT SETINFO: a node's user may not say it, and Redis 7.2 and Valkey log each refusal."""
        return super()._connparams(asynchronous) | {"driver_info": None}  # type: ignore[misc, no-any-return]


class _Channel(_RedisOfOurs, kombu_redis.Channel):  # type: ignore[misc] # kombu has no types
    pass


class _Transport(kombu_redis.Transport):  # type: ignore[misc] # kombu has no types
    Channel = _Channel


class _SentinelChannel(_RedisOfOurs, kombu_redis.SentinelChannel):  # type: ignore[misc] # kombu has no types
    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:
        pool = super()._sentinel_managed_pool(asynchronous)
        sentinels.explain(pool.sentinel_manager)
        return pool


class _SentinelTransport(kombu_redis.SentinelTransport):  # type: ignore[misc] # kombu has no types
    Channel = _SentinelChannel


_OURS: Final = {
    kombu_redis.Transport: _Transport,
    kombu_redis.SentinelTransport: _SentinelTransport,
    kombu_memory.Transport: MemoryTransport,
}


class _Checked:
    """What is ours in a connection, of a pool or not."""

    def get_transport_cls(self) -> Any:
        found = super().get_transport_cls()  # type: ignore[misc]
        return _OURS.get(found, found)


class _PooledConnection(_Checked, PooledConnection):  # type: ignore[misc] # kombu has no types
    pass


class _Pool(ConnectionPool):  # type: ignore[misc] # kombu has no types
    def new(self) -> _PooledConnection:
        info = self.connection._info(resolve=False)  # noqa: SLF001 -- as kombu's pool does
        return _PooledConnection(self, **dict(info))


class CheckedConnection(_Checked, Connection):  # type: ignore[misc] # kombu has no types
    """A connection of kombu, on Redis with this module's checks, in memory without polling; its pool, too."""

    def Pool(self, limit: int | None = None, **options: Any) -> _Pool:  # noqa: N802 -- kombu's name
        return _Pool(self, limit, **options)
