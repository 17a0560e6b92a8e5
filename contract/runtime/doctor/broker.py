"""The check of the broker: whether Redis answers, lets us in, takes messages, and agrees on the time."""

import time
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from kombu.utils.url import maybe_sanitize_url

from contract.queues import CONTROLLER_QUEUE, PROBE_KEY
from contract.runtime import sentinels
from contract.runtime.broker_errors import CLUSTER, CLUSTER_REMEDY, advice, is_cluster
from contract.runtime.broker_settings import Broker
from contract.runtime.doctor.checks import Result, fail, ok, warn

_TIMEOUT_SECONDS: Final = 4.0
_CHECK: Final = "broker"
_MAX_SKEW_SECONDS: Final = 5.0
_BAD_SKEW_SECONDS: Final = 60.0
"""Workers refuse requests that are older or newer than this by their clock."""
_MAX_WAITING: Final = 1_000


def check(broker: Broker, *, probe: bool = True) -> Iterator[Result]:
    """Check a Redis; `probe`: also whether it takes messages, which a node's own user may not try."""
    import redis

    shown = maybe_sanitize_url(broker.url)
    try:
        client = _client(broker)
    except ValueError as error:
        yield fail(_CHECK, f"{shown} is not a broker URL: {error}", "set VXLAN_OPERATOR_BROKER_URL")
        return
    try:
        with client:
            if is_cluster(client):
                yield fail(_CHECK, f"{shown}: {CLUSTER}", CLUSTER_REMEDY)
                return
            before = time.time()
            server: Any = client.time()
            after = time.time()
            waiting: Any = client.llen(CONTROLLER_QUEUE)
            if probe:
                # A replica and a full Redis answer questions, and take no message.
                client.lpush(PROBE_KEY, "")
                client.delete(PROBE_KEY)
    except redis.AuthenticationError as error:
        hint = advice(error) or ""
        yield fail(_CHECK, f"{shown} refuses the login: {error}", hint)
        return
    except redis.TimeoutError:
        hint = "look at Redis' log; a firewall that drops packets looks the same"
        yield fail(_CHECK, f"{shown} gave no answer within {_TIMEOUT_SECONDS:g} s", hint)
        return
    except (redis.ConnectionError, OSError) as error:
        hint = "start Redis, or set VXLAN_OPERATOR_BROKER_URL (redis://HOST:6379/0)"
        yield fail(_CHECK, f"{shown} cannot be reached: {error}", hint)
        return
    except redis.RedisError as error:
        hint = advice(error) or "put that right in Redis"
        yield fail(_CHECK, f"{shown} takes no messages: {error}", hint)
        return
    yield ok(_CHECK, f"{shown} answers in {(after - before) * 1000:.0f} ms{_version(client)}")
    if int(waiting) > _MAX_WAITING:
        message = f"{waiting} messages wait for the controller"
        yield warn("queue", message, "start a controller: `vxctl status` shows which leads")
    yield clock("clock", server[0] + server[1] / 1e6 - (before + after) / 2, "the broker")


def clock(check: str, ahead: float, of: str) -> Result:
    """Judge a difference of clocks; `ahead`: seconds that the other clock is ahead of ours."""
    message = f"{abs(ahead):.1f} s {'behind' if ahead > 0 else 'ahead of'} {of}"
    hint = "synchronise the clocks (chrony, systemd-timesyncd)"
    if abs(ahead) > _BAD_SKEW_SECONDS:
        return fail(check, message, hint)
    if abs(ahead) > _MAX_SKEW_SECONDS:
        return warn(check, message, hint)
    return ok(check, f"agrees with {of}")


def _client(broker: Broker) -> Any:
    import redis
    from redis import sentinel

    options: dict[str, Any] = {
        "socket_timeout": _TIMEOUT_SECONDS,
        "socket_connect_timeout": _TIMEOUT_SECONDS,
        "driver_info": None,  # As in `contract.runtime.transport`.
    }
    url, tls = broker.url, broker.tls or {}
    if broker.sentinel:
        parts = [urlsplit(text) for text in url.split(";")]
        first = parts[0]
        if first.username or first.password:
            options |= {"username": first.username, "password": unquote(first.password or "")}
        if broker.tls is not None:
            options["ssl"] = True
        hosts = [(str(part.hostname), part.port or 26379) for part in parts]
        client: Any = sentinel
        found = client.Sentinel(hosts, sentinel_kwargs=broker.sentinel["sentinel_kwargs"])
        sentinels.explain(found)
        return found.master_for(broker.sentinel["master_name"], **options, **tls)
    scheme, _, rest = url.partition("://")
    if scheme == "redis+socket":
        return redis.Redis.from_url(f"unix://{rest}", **options)
    return redis.Redis.from_url(url, **options, **tls)


def _version(client: Any) -> str:
    """Return Redis' version, if this user may ask for it."""
    import redis

    try:
        return f", Redis {client.info('server')['redis_version']}"
    except (redis.RedisError, OSError, KeyError):
        return ""
