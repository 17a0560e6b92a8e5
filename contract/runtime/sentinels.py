"""Asking the Sentinels for the master, with an error that says which of them answered what."""

from functools import partial
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.sentinel import MasterNotFoundError, Sentinel


def explain(manager: Sentinel) -> None:
    """Let a manager raise errors with the cause: redis-py's own show its objects in its place."""
    manager.discover_master = partial(_find, manager)  # type: ignore[method-assign]


def _find(manager: Sentinel, name: str) -> tuple[str, int]:
    """Return host and port of the master; the Sentinel that knew it is asked first from then on.

    Raises:
        MasterNotFoundError: none knows a master of that name that is up.
    """
    errors: list[str] = []
    for number, asked in enumerate(manager.sentinels):
        try:
            masters: Any = asked.sentinel_masters()
        except (RedisConnectionError, RedisTimeoutError) as error:
            options = asked.connection_pool.connection_kwargs
            errors.append(f"{options['host']}:{options['port']}: {error}")
            continue
        state = masters.get(name)
        if state and manager.check_master_state(state, name):  # type: ignore[no-untyped-call]
            manager.sentinels[0], manager.sentinels[number] = asked, manager.sentinels[0]
            return state["ip"], state["port"]
    message = f"no Sentinel knows a master {name!r} that is up"
    if errors:
        message += f"; no answer from {len(errors)} of {len(manager.sentinels)}: {errors[0]}"
    raise MasterNotFoundError(message)
