"""What anybody who can write to Redis may put into a queue, and neither side would."""

import base64
import bz2
import json
import lzma
import pickle
import zlib
from collections.abc import Iterator
from typing import Any, Final

from contract.signing.envelope import MARK

_MEGABYTES: Final = 100


def message(
    body: bytes,
    *,
    task: object,
    headers: dict[str, object] | None = None,
    properties: dict[str, object] | None = None,
    envelope: dict[str, object] | None = None,
) -> bytes:
    """A message as Celery puts it into Redis, but for what is said otherwise."""
    told: dict[str, Any] = {
        "body": base64.b64encode(body).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": task, "id": "1", "lang": "py"} | (headers or {}),
        "properties": {
            "delivery_tag": "1",
            "delivery_info": {"exchange": "", "routing_key": "q"},
            "body_encoding": "base64",
        }
        | (properties or {}),
    }
    return json.dumps(told | (envelope or {})).encode()


def arguments(*values: object) -> bytes:
    """The body of a task that is given these."""
    return json.dumps([values, {}, {}]).encode()


def no_messages() -> Iterator[bytes]:
    """Bytes that are no message at all."""
    yield from (b"garbage", b"\xff\xfe", b"", b"[]", b"{}", b"null", b"5", b"[" * 100_000, b'"x"')


def odd_messages(task: str) -> Iterator[bytes]:
    """Messages that have the form, to a task that there is, and something about them that is wrong."""
    body = arguments(f"{MARK}x")
    for name in (None, 5, {"a": [1]}, "x" * 1_000_000, "no.such.task", "celery.chord_unlock"):
        yield message(body, task=name)
    for id_ in (None, {"a": 1}, [1], 5):
        yield message(body, task=task, headers={"id": id_})
    for expires in ({"a": 1}, "never", 5, "9999-12-31T23:59:59-14:00"):
        yield message(body, task=task, headers={"expires": expires})
    for encoding in ("nope", None, {"a": 1}, "utf-8"):
        yield message(body, task=task, properties={"body_encoding": encoding})
    for kind in ("application/x-python-serialize", "application/x-yaml", "text/plain", None, 5):
        yield message(pickle.dumps(print), task=task, envelope={"content-type": kind})
    for charset in ("binary", "utf-7", "rot13", "zip", None, 5):
        yield message(body, task=task, envelope={"content-encoding": charset})
    others: tuple[object, ...] = (None, "x", [], 5)
    for headers in others:
        yield message(body, task=task, envelope={"headers": headers})
        yield message(body, task=task, envelope={"properties": headers})
    for odd in (5, None, {"a": 1}, "/" * 5, "\N{SNOWMAN}"):
        yield message(body, task=task, envelope={"body": odd})
    for what in (
        b"", b"5", b"null", b'"args"', b'{"args": 5}', b"[]", b"[[]]", b"[[], {}]", b"[5, 5, 5]",
        b"[[], {}, 5]", b"[[], {}, {}, {}]", b'["args", {}, {}]', b"not JSON", b"\xff", pickle.dumps(1),
        b"[" * 100_000, b'[["x"], {"y": 1}, {}]', b'[["x", "y"], {}, {}]',
        b'[["x"], {}, {"callbacks": 5}]', b'[["x"], {}, {"chain": [{"task": "x"}]}]',
        b'[[{"__type__": "uuid", "__value__": 5}, 5], {}, {}]', b"[[" + b"9" * 5_000 + b"], {}, {}]",
    ):  # fmt: skip
        yield message(what, task=task)


def harmless_messages(task: str) -> Iterator[bytes]:
    """Messages of which what is wrong may be overlooked."""
    body = arguments(f"{MARK}x")
    for odd in ("x", None, {"a": 1}, [1]):
        yield message(body, task=task, properties={"delivery_info": odd})
        yield message(body, task=task, properties={"delivery_tag": odd})
        yield message(body, task=task, properties={"priority": odd, "reply_to": odd})
        yield message(body, task=task, headers={"eta": odd, "timelimit": odd, "retries": odd})
        yield message(body, task=task, headers={"shadow": odd, "argsrepr": odd, "stamps": odd})
    one = f'["{MARK}x"]'
    for links in (
        '{"chain": [{"task": "x"}]}',
        '{"__type__": null, "__value__": null}',
        '{"a": 1}',
    ):
        yield message(f"[{one}, {{}}, {links}]".encode(), task=task)
        yield message(f"[{one}, {links}, {{}}]".encode(), task=task)


def compressed(task: str) -> Iterator[bytes]:
    """Small messages that say that they are to be decompressed, to a hundred megabytes."""
    large = arguments("x" * _MEGABYTES * 2**20)
    for names, compress in (
        (("gzip", "zlib", "application/x-gzip"), zlib.compress),
        (("bzip2", "application/x-bz2"), bz2.compress),
        (("lzma", "xz", "application/x-lzma"), lzma.compress),
    ):
        small = compress(large)
        for name in names:
            yield message(small, task=task, headers={"compression": name})
    yield message(arguments("x"), task=task, headers={"compression": "no such"})


def blown_up(task: str) -> Iterator[bytes]:
    """Messages that take thirty times their length once they are parsed."""
    yield b"[" + b"[]," * 5_000_000 + b"[]]"
    yield message(b"[[" + b"[]," * 5_000_000 + b"[]], {}, {}]", task=task)
    yield message(b"[[" + (b"[" * 90 + b"]" * 90 + b",") * 100_000 + b"5], {}, {}]", task=task)
    yield message(b"[[" + b'{"a":{}},' * 2_000_000 + b"5], {}, {}]", task=task)
    keys = b",".join(b'"%d":1' % number for number in range(900_000))
    yield message(b'[["x"], {}, {' + keys + b"}]", task=task)


def too_long(task: str) -> Iterator[bytes]:
    """Messages of more than what one may have."""
    yield b"x" * 50_000_000
    yield message(arguments("x" * 40_000_000), task=task)
