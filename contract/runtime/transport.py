"""The Redis transport, which refuses messages that neither side would send, before kombu unpacks them.

kombu believes a message's own header: it decompresses as the header says, and what it cannot read ends
the consumer. A program that can write to Redis could take all memory of every process, or a second of its
time for each message. Here a message is checked as the bytes that Redis gave, and kombu gets a message
rebuilt from its checked parts. A refused message is dropped, for the broker only notifies.

The memory transport needs none of this: only this process can put anything there.
"""

import base64
import json
from typing import Annotated, Any, Final, Literal
from uuid import uuid4

from kombu import Connection
from kombu.transport import redis as kombu_redis
from pydantic import (
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from redis import Redis

from contract.messages import Timestamp
from contract.queues import tasks_of
from contract.runtime.refusals import refusals
from contract.signing.bounds import BOUNDS, MAX_MESSAGE_BYTES
from contract.signing.envelope import MARK
from contract.signing.refusals import Reason, RefusedError

_MAX_MARKS: Final = 1_000_000
"""Maximum number of values in a body, counted by commas and brackets; that report has 422,000.

A value of two bytes costs up to 100 bytes of memory.
"""

_MAX_ENVELOPE_MARKS: Final = 10_000
"""Maximum number of values around the body; ours have some sixty."""


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

    body: Base64Bytes
    content_type: Literal["application/json"] = Field(alias="content-type")
    content_encoding: Literal["utf-8"] = Field(alias="content-encoding")
    headers: _Headers
    properties: _Properties


_Body = tuple[
    Annotated[list[Any], Field(max_length=1)],
    Annotated[dict[str, Any], Field(max_length=0)],
    dict[str, None],
]
_BODY: Final = TypeAdapter[_Body](_Body)
"""Arguments (at most one), keyword arguments (none) and callbacks (none)."""


def checked(raw: bytes, queue: str) -> bytes:
    """Check a raw message of a queue, and rebuild it from its checked parts.

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
    _bound(envelope.body, _MAX_MARKS)
    try:
        arguments, _, _ = _BODY.validate_json(envelope.body)
    except ValidationError:
        raise RefusedError(Reason.MALFORMED, "its body does not fit a task") from None
    _check_signed(headers.task, arguments)
    return _written(envelope, queue)


def _check_signed(task: str, arguments: list[Any]) -> None:
    """Let in only what has an envelope, which is opened later; a ping says nothing, and has none."""
    limits = BOUNDS.get(task)
    if limits is None:
        if arguments:
            raise RefusedError(Reason.MALFORMED, "its task has no argument")
        return
    text = arguments[0] if arguments else None
    if not isinstance(text, str) or not text.startswith(MARK):
        raise RefusedError(Reason.UNSIGNED, "it is not signed")
    if len(text) > limits.size:
        raise RefusedError(Reason.TOO_LARGE, f"it has more than {limits.size} bytes")


def _bound(text: bytes, limit: int) -> None:
    """Bound the memory that JSON takes once it is parsed: `[],[],` takes thirty times its length."""
    if sum(text.count(mark) for mark in (b",", b"[", b"{")) > limit:
        raise RefusedError(Reason.TOO_LARGE, f"it holds more than {limit} values")


def _written(envelope: _Envelope, queue: str) -> bytes:
    headers = envelope.headers
    return json.dumps(
        {
            "body": base64.b64encode(envelope.body).decode("ascii"),
            "content-type": envelope.content_type,
            "content-encoding": envelope.content_encoding,
            "headers": {
                "lang": "py",
                "task": headers.task,
                "id": headers.id,
                "expires": None if headers.expires is None else headers.expires.isoformat(),
                # Otherwise Celery makes them from arguments of megabytes.
                "argsrepr": "(...)",
                "kwargsrepr": "{}",
            },
            "properties": {
                "body_encoding": envelope.properties.body_encoding,
                "delivery_tag": str(uuid4()),
                # By the name alone: where it goes if the consumer ends before it has run.
                "delivery_info": {"exchange": "", "routing_key": queue},
            },
        }
    ).encode("ascii")


class _Client(Redis):
    """kombu's client, with answers to BRPOP checked: consumers read by nothing else.

    A refused message is to kombu an empty answer, as BRPOP gives when a second passes without a message.
    """

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        answer = super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        if command_name != "BRPOP":
            return answer
        try:
            if answer:
                queue, raw = answer
                answer = queue, checked(raw, queue.decode(errors="replace"))
        except RefusedError as refusal:
            refusals.add(refusal)
            answer = None
        refusals.flush()
        return answer


class _Channel(kombu_redis.Channel):  # type: ignore[misc] # kombu has no types
    def _get_client(self) -> type[Redis]:
        return _Client


class _Transport(kombu_redis.Transport):  # type: ignore[misc] # kombu has no types
    Channel = _Channel


class _SentinelChannel(kombu_redis.SentinelChannel):  # type: ignore[misc] # kombu has no types
    def _get_client(self) -> type[Redis]:
        return _Client


class _SentinelTransport(kombu_redis.SentinelTransport):  # type: ignore[misc] # kombu has no types
    Channel = _SentinelChannel


_CHECKED: Final = {
    kombu_redis.Transport: _Transport,
    kombu_redis.SentinelTransport: _SentinelTransport,
}


class CheckedConnection(Connection):  # type: ignore[misc] # kombu has no types
    """A connection of kombu, on Redis with the checks of this module."""

    def get_transport_cls(self) -> Any:
        found = super().get_transport_cls()
        return _CHECKED.get(found, found)
