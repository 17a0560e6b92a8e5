"""What Redis refuses, as its client's errors say it, and what to do about that; Redis Cluster."""

from collections.abc import Iterator
from typing import Any, Final

from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterCrossSlotError,
    ClusterDownError,
    NoPermissionError,
    RedisError,
)

_MAX_CAUSES: Final = 5
_WRONG: Final = "invalid username-password pair"
"""Redis' own words (WRONGPASS) to a wrong login; it has several (NOAUTH) to a connection without one."""

CLUSTER: Final = "Redis Cluster is not supported, as kombu has no transport for it"
CLUSTER_REMEDY: Final = (
    "set VXLAN_OPERATOR_BROKER_URL to a Redis with `cluster-enabled no`; for fail-over use Sentinel "
    "(sentinel://HOST:26379)"
)
_OF_CLUSTER: Final = (AskError, ClusterCrossSlotError, ClusterDownError)
"""AskError: also MOVED."""


def is_cluster(client: Any) -> bool:
    """Whether a Redis is part of a Redis Cluster; False, too, if this user may not ask."""
    try:
        answer = client.execute_command("HELLO")
    except RedisError:
        return False
    if isinstance(answer, dict):
        answer = [item for pair in answer.items() for item in pair]
    items = [item.decode() if isinstance(item, bytes) else item for item in answer]
    return ("mode", "cluster") in zip(items[::2], items[1::2], strict=False)


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and those that led to it."""
    found: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if found is None:
            return
        yield found
        found = found.__cause__ or found.__context__


def login_refused(error: BaseException) -> bool:
    """Whether Redis does not let the user in (WRONGPASS, NOAUTH)."""
    return any(isinstance(cause, AuthenticationError) for cause in causes(error))


def advice(error: BaseException) -> str | None:
    """Return what to do about a refused login, a missing right, a Redis Cluster; None: another error."""
    for cause in causes(error):
        if isinstance(cause, _OF_CLUSTER):
            return f"{CLUSTER}; {CLUSTER_REMEDY}"
        if isinstance(cause, NoPermissionError):
            return "give this user of Redis its rights: `vxctl broker acl` prints them"
        if isinstance(cause, AuthenticationError):
            if _WRONG in str(cause):
                return (
                    "correct user and password in VXLAN_OPERATOR_BROKER_URL (a node's own user is made by "
                    "the leader, once its key is trusted: `vxctl node keys`)"
                )
            return "write user and password into VXLAN_OPERATOR_BROKER_URL: redis://USER:PASSWORD@HOST:6379/0"
    return None
